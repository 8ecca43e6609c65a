"""Folders of hand-made numbers at every row of the tables of suites, for `unigeo probe`."""

import json
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from unigeo.client.areas.cell_weights import split_power
from unigeo.client.probing.suite_numbers import FACTS, FORMS, VERSION
from unigeo.client.probing.suites import SuiteTable, load_suite
from unigeo.producer.evaluation.handmade.number_recipe import NumberRecipe
from unigeo.producer.evaluation.handmade.window_numbers import WindowNumbers
from unigeo.producer.observations.protocol import Observations
from unigeo.schemas.errors import ObservationsError, StoreError
from unigeo.schemas.io.addresses import check_destination
from unigeo.schemas.io.atomic_files import folder_beside
from unigeo.schemas.tables.table_files import check_pyarrow, write_table

TableFormat = Literal["parquet", "csv"]


def write_numbers(
    observations: Observations,
    suites: Sequence[Path | str],
    data: Path,
    out: Path,
    recipe: NumberRecipe,
    *,
    table_format: TableFormat = "parquet",
    overwrite: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> Path:
    """Compute the numbers of a recipe at every row of every table, and write them.

    Args:
        observations: whose rasters the numbers are of.
        suites: suite files, whose tables get numbers; a table that several name is written once,
            with means over polygons if one of them has polygons for it.
        data: folder of the suites' tables.
        out: folder to write, which is complete or absent.
        recipe: which numbers.
        table_format: format of the tables.
        overwrite: replace a folder of numbers that is there.
        log: called with a line per table.

    Returns:
        The folder.

    Raises:
        ObservationsError: if the observations lack a raster of the recipe, or one cannot be read.
        ProbeError: if a table cannot be read.
        StoreError: if something else is there already, or the folder cannot be written.
        MissingExtraError: for parquet without pyarrow.
    """
    check_numbers_path(out, overwrite)
    if table_format == "parquet":
        check_pyarrow()
    opened = [load_suite(path) for path in suites]
    numbers = _of_recipe(observations, recipe)
    columns = [name for each in numbers for name in each.names]
    repeated = sorted({name for name in columns if columns.count(name) > 1})
    if repeated:
        raise ObservationsError(f"recipe {recipe.name}: two numbers are named {repeated[0]!r}")
    compute = _Numbers(numbers, columns, recipe.name)
    tables: dict[str, dict[str, str]] = {}
    positions: dict[str, np.ndarray] = {}
    weighted: dict[str, str | None] = {}
    try:
        with folder_beside(out, overwrite=overwrite) as part:
            for form in FORMS:
                (part / form).mkdir()
            for table in (one for suite in opened for one in suite.tables(data)):
                _check_same(table, positions)
                _check_weights(table, weighted)
                of_table = tables.setdefault(table.name, {})
                for form, points in _points_of(table).items():
                    if form in of_table:
                        continue
                    of_table[form] = f"{form}/{table.name}.{table_format}"
                    values = compute(points, _weights_of(table) if form == "areas" else None)
                    _write_form(table, values, columns, part / of_table[form])
                    log(f"{of_table[form]}: {len(columns)} numbers of {len(table.lonlat):,} rows")
            facts = {
                "version": VERSION,
                "unigeo": version("unigeo"),
                "observations": observations.name,
                "recipe": recipe.to_json(),
                "columns": columns,
                "tables": tables,
                "suites": [suite.name for suite in opened],
                "provenance": observations.provenance(),
            }
            text = json.dumps(facts, indent=1, ensure_ascii=False)
            (part / FACTS).write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"cannot write the numbers {out}: {error}") from error
    return out


def check_numbers_path(out: Path, overwrite: bool) -> None:
    """Refuse a folder that must not be written or replaced, before any work is done for it.

    Raises:
        StoreError: if something is there that is no folder of numbers, or without `overwrite`.
    """
    if not out.name:
        raise StoreError(f"cannot write numbers to {str(out)!r}: name a folder")
    check_destination(out, f"the numbers {out}")
    if not out.exists():
        return
    if not (out / FACTS).is_file():
        raise StoreError(f"{out} is there already and holds no numbers: name another folder")
    foreign = sorted({file.name for file in out.iterdir()} - {FACTS, *FORMS})
    if foreign:
        raise StoreError(
            f"{out} holds more than numbers, such as {foreign[0]}, which would be lost: name "
            "another folder"
        )
    if not overwrite:
        raise StoreError(f"{out} is there already: allow it to be replaced by --overwrite")


class _Numbers:
    """The numbers of a recipe at points; equal points are computed once."""

    def __init__(self, numbers: Sequence[WindowNumbers], names: list[str], recipe: str) -> None:
        self._numbers, self._names, self._recipe = numbers, names, recipe
        self._known: dict[bytes, Float[np.ndarray, "row point number"]] = {}

    def __call__(
        self, lonlat: Float[np.ndarray, "row point 2"], weights: str | None
    ) -> Float[np.ndarray, "row number"]:
        """Return the mean of the numbers of each row's points; NaN where no point has one.

        Args:
            lonlat: positions of the points.
            weights: the number that weighs the points, with a power such as `^2` or none; None to
                weigh them alike.

        Raises:
            ObservationsError: if there is no such number, or it is below 0.
        """
        values = self._at(lonlat)
        weight = np.ones(values.shape[:2]) if weights is None else self._weights(values, weights)
        weight = np.where(np.isfinite(values), np.nan_to_num(weight)[..., None], 0.0)
        count = weight.sum(axis=1)
        total = (np.nan_to_num(values) * weight).sum(axis=1)
        return np.where(count > 0, total / np.where(count > 0, count, 1), np.nan)

    def _at(
        self, lonlat: Float[np.ndarray, "row point 2"]
    ) -> Float[np.ndarray, "row point number"]:
        key = lonlat.tobytes()
        if key not in self._known:
            flat = lonlat.reshape(-1, 2)
            positioned = np.isfinite(flat).all(axis=1)
            distinct, inverse = np.unique(flat[positioned], axis=0, return_inverse=True)
            found = np.concatenate([each.at(distinct) for each in self._numbers], axis=1)
            values = np.full((len(flat), found.shape[1]), np.nan)
            values[positioned] = found[inverse.reshape(-1)]
            self._known[key] = values.reshape(*lonlat.shape[:2], -1)
        return self._known[key]

    def _weights(
        self, values: Float[np.ndarray, "row point number"], weights: str
    ) -> Float[np.ndarray, "row point"]:
        name, power = split_power(weights)
        if name not in self._names:
            raise ObservationsError(
                f"a suite weighs points by {name!r}, which is no number of recipe {self._recipe}; "
                f"its numbers are {', '.join(self._names)}"
            )
        chosen = values[..., self._names.index(name)]
        if (chosen < 0).any():
            raise ObservationsError(f"a weight is a number from 0 up, and {name} is below 0")
        return np.asarray(chosen**power)


def _of_recipe(observations: Observations, recipe: NumberRecipe) -> list[WindowNumbers]:
    """Pair the windows of a recipe with the rasters that they are of.

    Raises:
        ObservationsError: if the observations have no rasters of a modality, or a statistic does
            not fit its encoder.
    """
    numbers = []
    for windows in recipe.windows:
        name = windows.modality
        rasters = observations.rasters_of(name) if name in observations.modalities else None
        if rasters is None:
            cut = [one for one in observations.modalities if observations.rasters_of(one)]
            raise ObservationsError(
                f"recipe {recipe.name} needs rasters of {name}, which {observations.name} does not "
                f"have; it has those of {', '.join(cut) or 'no modality'}"
            )
        form = observations.form(name)
        if windows.sides_km and windows.shares != (form.encoder == "classes"):
            needs = (
                "'shares', for its numbers are classes"
                if not windows.shares
                else ("other statistics than 'shares', for its numbers are no classes")
            )
            raise ObservationsError(f"recipe {recipe.name}: {name} needs {needs}")
        numbers.append(WindowNumbers(windows, form, rasters))
    return numbers


def _check_same(table: SuiteTable, positions: dict[str, np.ndarray]) -> None:
    """Refuse two tables of one name and other rows, as numbers are found by a table's name.

    Raises:
        ObservationsError: naming the table.
    """
    before = positions.setdefault(table.name, table.lonlat)
    if before.shape != table.lonlat.shape or not np.array_equal(before, table.lonlat, True):
        raise ObservationsError(
            f"two tables named {table.name!r} have different rows: write their numbers into two "
            "folders"
        )


def _check_weights(table: SuiteTable, weighted: dict[str, str | None]) -> None:
    """Refuse two suites that average one table's numbers differently.

    Raises:
        ObservationsError: naming the table.
    """
    weights = _weights_of(table)
    if table.has_areas and weighted.setdefault(table.name, weights) != weights:
        raise ObservationsError(
            f"two suites weigh the points of {table.name!r} differently: write their numbers into "
            "two folders"
        )


def _weights_of(table: SuiteTable) -> str | None:
    """Return the number that weighs the points of each row's polygon; None for none."""
    return None if table.over is None else table.over.areas.number_weights


def _points_of(table: SuiteTable) -> dict[str, Float[np.ndarray, "row point 2"]]:
    """Return the points whose numbers are averaged, by form."""
    forms: dict[str, Any] = {"points": table.lonlat[:, None]}
    if table.has_areas:
        forms["areas"] = table.sampled_lonlat
    return forms


def _write_form(
    table: SuiteTable, values: Float[np.ndarray, "row number"], columns: list[str], path: Path
) -> None:
    """Write the numbers of one table in one form."""
    import pandas as pd

    frame = pd.DataFrame(values.astype(np.float32), columns=columns)
    keys = pd.DataFrame(table.lonlat, columns=["lon", "lat"])
    if table.key is not None:
        keys.insert(0, str(table.key.name), table.key.to_numpy())
    write_table(pd.concat([keys, frame], axis=1), str(path))
