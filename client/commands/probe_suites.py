"""The part of `unigeo probe` that scores a suite, and what its report says of the run."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from unigeo.client.field.field import Field
    from unigeo.client.probing.suite_numbers import SuiteNumbers
    from unigeo.client.probing.suite_probe import AverageVectors
    from unigeo.client.probing.suites import Suite


def suite_report(
    field: "Field", suite: str, data: str, options: dict[str, Any], progress: bool
) -> "tuple[pd.DataFrame, str]":
    """Probe the tables of a suite; return the scores and a Markdown report.

    Args:
        field: field whose vectors are scored.
        suite: path of the suite file.
        data: folder of its tables.
        options: options of the command: `modalities`, `method`, `folds`, `seed`, `numbers`,
            `foldings`.
        progress: show bars on stderr.
    """
    from pathlib import Path

    from unigeo.client.probing.suite_numbers import open_numbers
    from unigeo.client.probing.suite_probe import probe_suite
    from unigeo.client.probing.suite_report import suite_markdown
    from unigeo.client.probing.suites import load_suite

    modalities, method = field.chosen(options["modalities"] or None), options["method"]
    chosen = load_suite(suite)
    numbers = None if options["numbers"] is None else open_numbers(options["numbers"])
    report = probe_suite(
        chosen,
        Path(data),
        lambda lonlat: field.features(lonlat, modalities, method=method),
        averages=_averages(field, modalities, progress),
        numbers=numbers,
        foldings=options["foldings"],
        folds=options["folds"],
        seed=options["seed"],
        progress=progress,
    )
    return report, suite_markdown(report, _facts(field, chosen, numbers, options))


def _averages(field: "Field", modalities: tuple[str, ...], progress: bool) -> "AverageVectors":
    """Make the function that averages each modality over polygons, and joins them."""
    import numpy as np

    from unigeo.client.areas.zonal import zonal_means
    from unigeo.client.probing.sampled_features import JOINED

    def averages(polygons: Any) -> "dict[str, np.ndarray]":
        means = zonal_means(field, polygons, modalities, progress=progress)
        if len(means) > 1:
            means[JOINED] = np.concatenate(list(means.values()), axis=1)
        return means

    return averages


def _facts(
    field: "Field", suite: "Suite", numbers: "SuiteNumbers | None", options: dict[str, Any]
) -> dict[str, str]:
    """Return the inputs and options of a run by name."""
    import shlex
    from importlib.metadata import version

    model = field.attributes.model
    foldings, seed = options["foldings"], options["seed"]
    seeds = f"seed {seed}" if foldings == 1 else f"{foldings} foldings from seed {seed}"
    facts = {
        "command": f"`{shlex.join(['unigeo', *sys.argv[1:]])}`",
        "suite": f"{suite.name}; vectors {suite.sampling}",
        "field": f"{field.attributes.region}, {field.grid.resolution_m:g} m cells of "
        f"{field.grid.crs}, {field.layout.describe_width('bands')}",
        "sampling": options["method"],
        "model": f"{model.name} {model.sha256[:12]}",
        "folds": f"{options['folds']}, {seeds}",
    }
    if numbers is not None:
        facts["numbers"] = f"{numbers.title}; trees see them, longitude and latitude"
    facts |= {f"note on {table}": note for table, note in suite.notes.items()}
    return facts | {"unigeo": version("unigeo")}
