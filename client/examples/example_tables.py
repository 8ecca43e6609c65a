"""The tables by name: `counties` has ten real targets of 3,108 counties."""

import gzip
import json
from difflib import get_close_matches
from importlib.resources import files
from io import BytesIO
from typing import TYPE_CHECKING, Any

from unigeo.schemas.errors import PointsError

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("counties",)


def example(name: str = "counties") -> "pd.DataFrame":
    """Return a table of real numbers, to join and to probe.

    `counties` has `fips`, `county`, `state`, `lat`, `lon` and ten targets of the 3,108 counties of
    the 48 states and DC; `.attrs` has the names of the `targets`, and the `citation`.

    Raises:
        PointsError: if there is no such table.

    >>> example("counties").shape
    (3108, 15)
    """
    import pandas as pd

    sheet = datasheet(name)
    table = pd.read_csv(BytesIO(example_csv(name)), dtype={"fips": str})
    table.attrs = {"targets": list(sheet["targets"]), "citation": sheet["citation"]}
    return table


def example_csv(name: str) -> bytes:
    """Return a table as CSV."""
    _check_name(name)
    return gzip.decompress(files(__package__).joinpath(f"{name}.csv.gz").read_bytes())


def datasheet(name: str) -> dict[str, Any]:
    """Return what is known of a table: meaning, unit, source and licence of each column, hashes."""
    _check_name(name)
    text = files(__package__).joinpath(f"{name}.json").read_text(encoding="utf-8")
    sheet: dict[str, Any] = json.loads(text)
    return sheet


def _check_name(name: str) -> None:
    if name not in NAMES:
        near = get_close_matches(name, NAMES, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise PointsError(f"there is no example {name!r}{hint}; there are: {', '.join(NAMES)}")
