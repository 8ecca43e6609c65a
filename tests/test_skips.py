"""A skip for want of a tool is a failure in CI, and only there."""

from collections.abc import Callable

import pytest

pytest_plugins = ["pytester"]

type Outcomes = Callable[[str, str], tuple[dict[str, int], str]]
"""Counts and output of a run of tests, by the variable CI and their source."""
TESTS = """
import pytest

def test_that_runs(): ...

def test_without_a_tool(): pytest.importorskip("a_tool_that_nobody_has")

@pytest.mark.skipif(True, reason="needs a tool that nobody has")
def test_that_is_marked(): ...

@pytest.mark.skipif(True, reason="needs a CUDA device")
def test_of_a_gpu(): ...

@pytest.mark.xfail
def test_that_is_known_to_fail(): assert False
"""


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Outcomes:
    def outcomes(ci: str, source: str) -> tuple[dict[str, int], str]:
        monkeypatch.setenv("CI", ci)
        pytester.makeconftest("from support.skips import *")
        pytester.makepyfile(source)
        result = pytester.runpytest_inprocess()
        return result.parseoutcomes(), result.stdout.str()

    return outcomes


def test_in_ci_a_skip_is_a_failure_save_for_what_is_excused(run: Outcomes) -> None:
    found, said = run("true", TESTS)
    assert found == {"passed": 1, "failed": 1, "errors": 1, "skipped": 1, "xfailed": 1}
    assert "test_without_a_tool was skipped in CI (could not import 'a_tool_that" in said
    assert "test_that_is_marked was skipped in CI (needs a tool" in said


def test_in_ci_a_whole_file_is_not_skipped_either(run: Outcomes) -> None:
    found, said = run("true", 'import pytest\npytest.importorskip("a_tool_that_nobody_has")\n')
    assert found == {"errors": 1} and "was skipped in CI" in said


def test_elsewhere_a_skip_is_a_skip(run: Outcomes) -> None:
    found, _ = run("", TESTS)
    assert found == {"passed": 1, "skipped": 3, "xfailed": 1}
