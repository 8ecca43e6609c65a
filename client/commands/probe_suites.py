"""The part of `unigeo probe` that scores a suite, and what its report says of the run."""

import sys
from typing import TYPE_CHECKING, Any

from unigeo.client.commands.options import covariate_arguments
from unigeo.client.commands.probe_checks import check_features

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from unigeo.client.field.field import Field
    from unigeo.client.probing.suite_numbers import SuiteNumbers
    from unigeo.client.probing.suites import Suite


def suite_report(
    field: "Field", suite: str, data: str, options: dict[str, Any], progress: bool
) -> "tuple[pd.DataFrame, str]":
    """Probe the tables of a suite; return the scores and a Markdown report.

    Args:
        field: field whose vectors are scored.
        suite: path of the suite file.
        data: folder of its tables.
        options: options of the command: `modalities`, `all_covariates`, `covariates`, `method`,
            `folds`, `seed`, `numbers`, `foldings`, `features`, `spatial`, `kernel`.
        progress: show bars on stderr.
    """
    from pathlib import Path

    from unigeo.client.probing.sampled_features import feature_set_names
    from unigeo.client.probing.suite_numbers import open_numbers
    from unigeo.client.probing.suite_probe import probe_suite
    from unigeo.client.probing.suite_report import suite_markdown
    from unigeo.client.probing.suites import load_suite

    chosen = load_suite(suite)
    numbers = None if options["numbers"] is None else open_numbers(options["numbers"])
    features = _Features(field, options, progress)
    check_features(
        feature_set_names(features.modalities),
        options["features"],
        "; --kernel, --spatial and --covariates score it with these, too",
    )
    report = probe_suite(
        chosen,
        Path(data),
        features.at_points,
        averages=features.over_polygons,
        numbers=numbers,
        foldings=options["foldings"],
        folds=options["folds"],
        seed=options["seed"],
        only=options["features"],
        progress=progress,
        spatial=options["spatial"],
        kernel=options["kernel"],
    )
    return report, suite_markdown(report, _facts(field, chosen, numbers, options))


class _Features:
    """The sets of features of a field: its modalities, joined ones, and covariates if wanted."""

    def __init__(self, field: "Field", options: dict[str, Any], progress: bool) -> None:
        from unigeo.client.reading.covariates import chosen_covariates

        self._field, self._progress = field, progress
        self.modalities = field.chosen(options["modalities"] or None)
        self._method = options["method"]
        wanted = covariate_arguments(
            {name: options[name] for name in ("all_covariates", "covariates")}
        )
        self._covariates = chosen_covariates(field, wanted["covariates"], numbers_only=True)

    def at_points(self, lonlat: "np.ndarray") -> "dict[str, np.ndarray]":
        """Sample every set at points."""
        from unigeo.client.reading.covariates import positions, sample_covariates
        from unigeo.schemas.store.layout import COVARIATES
        from unigeo.schemas.tables.points import read_points

        sets = self._field.features(lonlat, self.modalities, method=self._method)
        if self._covariates:
            columns = positions(self._field, self._covariates)
            source = self._field.modality(COVARIATES)
            sets[COVARIATES] = sample_covariates(source, read_points(lonlat), columns).vectors
        return sets

    def over_polygons(self, polygons: Any, weights: str | None) -> "dict[str, np.ndarray]":
        """Average every set over the cells of polygons, by weights or by area alone."""
        import numpy as np

        from unigeo.client.areas.zonal import zonal_means
        from unigeo.client.reading.joined import JOINED, joined_modalities
        from unigeo.schemas.store.layout import COVARIATES

        field, progress = self._field, self._progress
        sets = zonal_means(field, polygons, self.modalities, weights=weights, progress=progress)
        if len(sets) > 1:
            together = [sets[name] for name in joined_modalities(self.modalities)]
            sets[JOINED] = np.concatenate(together, axis=1)
        if self._covariates:
            names = list(self._covariates)
            numbers = field.zonal(
                polygons, [], covariates=names, weights=weights, progress=progress
            )
            sets[COVARIATES] = numbers[names].to_numpy()
        return sets


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
