"""Hand-made numbers at the rows of a suite's tables, from a folder that the producer wrote.

`numbers.json` names the tables and columns and says how they were made; `points/` holds the
numbers at each row's position, `areas/` their means over points of each row's polygon. A table of
numbers has the rows of the suite's table in the same order: `lon` and `lat`, then one column per
number.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from unigeo.schemas.errors import PointsError, ProbeError
from unigeo.schemas.io.json_text import load_json
from unigeo.schemas.tables.table_files import read_table

if TYPE_CHECKING:
    from unigeo.client.probing.suites import SuiteTable

FACTS = "numbers.json"
"""File that describes a folder of numbers."""
VERSION = 1
FORMS = {"points": "numbers", "areas": "numbers over areas"}
"""Folder of each form of the numbers, and its name in scores."""
_SAME_DEGREES = 1e-6
"""Distance, 0.1 m, up to which a row of numbers and of the suite's table have one position."""


def ridge_name(form: str) -> str:
    """Return the name of the set of features, and of the ridge on it."""
    return f"{FORMS[form]} ridge"


def trees_name(form: str) -> str:
    """Return the name of gradient-boosted trees on the numbers, longitude and latitude."""
    return f"{FORMS[form]} trees"


TREES: Mapping[str, str] = {trees_name(form): ridge_name(form) for form in FORMS}
"""Name of the trees of each form, and of the set of features that they are grown on."""


@dataclass(frozen=True, eq=False)
class SuiteNumbers:
    """An opened folder of numbers."""

    folder: Path
    facts: Mapping[str, Any]
    """Content of `numbers.json`."""

    def __repr__(self) -> str:
        return f"SuiteNumbers({self.title} of {', '.join(self.facts['tables'])})"

    @property
    def title(self) -> str:
        """Number and recipe of the numbers, and the observations that they are of."""
        facts = self.facts
        return f"{len(facts['columns'])} of {facts['recipe']['name']}, {facts['observations']}"

    def sets_of(self, table: "SuiteTable") -> dict[str, Float[np.ndarray, "row number"]]:
        """Read the numbers at the rows of a suite's table, by the name of the ridge on them.

        Raises:
            ProbeError: if the folder lacks the table, or holds other rows.
        """
        known = self.facts["tables"]
        if table.name not in known:
            raise ProbeError(
                f"{self.folder} has no numbers of the table {table.name!r}, only of "
                f"{', '.join(known)}: run `unigeo-produce numbers` with this suite"
            )
        forms = known[table.name]
        return {ridge_name(form): self._read(table, forms[form]) for form in FORMS if form in forms}

    def _read(self, table: "SuiteTable", name: str) -> Float[np.ndarray, "row number"]:
        path = self.folder / name
        try:
            frame = read_table(str(path))
            lonlat = frame[["lon", "lat"]].to_numpy(np.float64)
            numbers = frame[list(self.facts["columns"])].to_numpy(np.float64)
        except (PointsError, KeyError, ValueError) as error:
            raise ProbeError(
                f"cannot read the numbers {path}: {error}. Run `unigeo-produce numbers` again"
            ) from error
        same = lonlat.shape == table.lonlat.shape and np.allclose(
            lonlat, table.lonlat, rtol=0, atol=_SAME_DEGREES, equal_nan=True
        )
        if not same:
            raise ProbeError(
                f"the {len(lonlat):,} rows of {path} are not at the positions of the "
                f"{len(table.lonlat):,} rows of the table {table.name!r}: the table is another "
                "now. Run `unigeo-produce numbers` again"
            )
        return numbers


def open_numbers(folder: Path | str) -> SuiteNumbers:
    """Open a folder of numbers that `unigeo-produce numbers` wrote.

    Raises:
        ProbeError: if there is none, it is malformed, or of a later version.
    """
    folder = Path(folder)
    try:
        facts = load_json((folder / FACTS).read_text(encoding="utf-8"))
        version = facts["version"]
        if version != VERSION:
            raise ProbeError(
                f"{folder} holds numbers of version {version!r}, and this unigeo reads {VERSION}: "
                "install a newer one"
            )
        well_formed = (
            all(isinstance(name, str) for name in [facts["recipe"]["name"], facts["observations"]])
            and all(isinstance(name, str) for name in facts["columns"])
            and all(
                isinstance(file, str) and (folder / file).resolve().is_relative_to(folder.resolve())
                for forms in facts["tables"].values()
                for file in forms.values()
            )
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        if isinstance(error, ProbeError):
            raise
        raise ProbeError(
            f"{folder} is no folder of numbers ({error!r}): `unigeo-produce numbers` writes one"
        ) from error
    if not well_formed:
        raise ProbeError(f"{folder / FACTS} is malformed: run `unigeo-produce numbers` again")
    return SuiteNumbers(folder, facts)
