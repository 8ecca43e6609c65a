"""In CI (`CI=true`) a skip for want of a tool is a failure, save for what is listed here."""

import os
import re
from collections.abc import Iterator
from typing import Any

import pytest

EXCUSED = {
    "needs a CUDA device": "a GPU is no package",
    "GDAL .* cannot open sharded Zarr": "the wheels of rasterio hold GDAL 3.12",
    "the folder of (real data|cases) is not there": "it is not part of the repository",
    "SCIPY_ARRAY_API is not set": "scikit-learn's check of what the estimators do not claim",
    "needs Linux's /proc": "there is no such thing elsewhere",
    "no file system can be mounted here": "a privilege of the machine, not a tool",
}
"""Pattern of the reason of a skip, and why CI cannot have what it asks for."""


def in_ci() -> bool:
    return os.environ.get("CI", "").lower() in ("1", "true")


def refuse(report: Any, what: str) -> None:
    """Turn the report of a skip into that of a failure, unless its reason is excused."""
    _, _, reason = report.longrepr
    if not any(re.search(pattern, reason) for pattern in EXCUSED):
        report.outcome = "failed"
        report.longrepr = (
            f"{what} was skipped in CI ({reason.removeprefix('Skipped: ')}). Install what it needs "
            "in `make env` or `make test-all`, or list it in tests/support/skips.py "
            "with the reason."
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    report = yield
    if in_ci() and report.skipped and not hasattr(report, "wasxfail"):
        refuse(report, item.nodeid)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    report = yield
    if in_ci() and report.skipped:
        refuse(report, collector.nodeid)
    return report
