"""How many rows of a table have no vector, and why: counted part by part, said once at the end."""

import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import click
import numpy as np
from jaxtyping import Bool

from unigeo.client.points.join import Missing
from unigeo.client.reading.point_status import NO_POSITION, STATUS_TEXTS
from unigeo.schemas.errors import PointsError, PointsWarning
from unigeo.schemas.store.status import Status

VALID = Status.VALID.label
_NAMED = 5
"""Rows that an error names, at most."""


class MissingRows:
    """What was found at the rows of a table, by modality."""

    def __init__(self, missing: Missing) -> None:
        self.missing = missing
        self.rows = 0
        self.counts: dict[str, Counter[str]] = {}
        self.cause = ""

    @contextmanager
    def warnings_kept(self) -> Iterator[None]:
        """Keep warnings of points for the end, where the whole table is known."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PointsWarning)
            yield
        for one in caught:
            if isinstance(one.message, PointsWarning):
                self.cause = self.cause or for_shell(one.message.cause or "")
            else:
                warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)

    def kept(self, first: int, status: Mapping[str, np.ndarray]) -> Bool[np.ndarray, " row"]:
        """Count the rows of a part, and say which are written.

        Args:
            first: number of its first row in the table.
            status: of each modality, in words.

        Raises:
            PointsError: if a row has no vector and none may be missing.
        """
        valid = {modality: words == VALID for modality, words in status.items()}
        for modality, words in status.items():
            self.counts.setdefault(modality, Counter()).update(words[~valid[modality]].tolist())
            if self.missing == "raise" and not valid[modality].all():
                raise PointsError(_refusal(modality, first, words.tolist()))
        everywhere = np.logical_and.reduce(list(valid.values()))
        self.rows += len(everywhere)
        return everywhere if self.missing == "drop" else np.ones(len(everywhere), bool)

    def say(self, quiet: bool) -> None:
        """Print one line on stderr if a row has no vector.

        Where most rows lie off the field it is a warning with the likely cause, even if quiet.
        """
        lacking = {modality: count for modality, count in self.counts.items() if count}
        off = max((_off(count) for count in lacking.values()), default=0)
        if 2 * off > self.rows:
            click.echo(f"Warning: {self._summary(lacking)}. {self.cause}".rstrip(), err=True)
        elif lacking and not quiet:
            click.echo(self._summary(lacking), err=True)

    def _summary(self, lacking: "dict[str, Counter[str]]") -> str:
        alike = len({_listed(count) for count in self.counts.values()}) == 1
        found = {"": next(iter(lacking.values()))} if alike else lacking
        said = "; ".join(
            f"{count.total():,} of {self.rows:,} rows {'has' if count.total() == 1 else 'have'} no "
            f"{f'{modality} vector'.strip()}: {_listed(count)}"
            for modality, count in found.items()
        )
        return said + (" (left out)" if self.missing == "drop" else "")


def _off(count: "Counter[str]") -> int:
    """Rows that lie off the field, or nowhere."""
    reasons = (Status.OUTSIDE_REGION.label, Status.WATER.label, STATUS_TEXTS[NO_POSITION])
    return sum(count[words] for words in reasons)


def for_shell(message: str) -> str:
    """Name the options of a command in a message that names arguments of Python."""
    message = message.replace("columns=(longitude, latitude)", "--lon and --lat")
    return re.sub(r"\bcrs=('?)([\w:]*)\1", r"--crs \2", message).replace("--crs ,", "--crs,")


def _listed(count: "Counter[str]") -> str:
    """Reasons in the order of `STATUS_TEXTS`.

    >>> _listed(Counter({"no position": 1, "outside region": 2}))
    '2 outside region, 1 no position'
    """
    return ", ".join(f"{count[words]:,} {words}" for words in STATUS_TEXTS.values() if count[words])


def _refusal(modality: str, first: int, words: Sequence[str]) -> str:
    bad = [row for row, word in enumerate(words) if word != VALID]
    named = ", ".join(f"row {first + row:,} ({words[row]})" for row in bad[:_NAMED])
    more = f" and {len(bad) - _NAMED:,} more" if len(bad) > _NAMED else ""
    return (
        f"no {modality} vector at {named}{more}. Use --missing nan to keep such rows empty, or "
        "--missing drop to leave them out"
    )
