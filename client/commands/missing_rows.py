"""Counts of rows without a vector, added up over the parts of a table and printed at the end."""

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
from unigeo.client.reading.sampling import numbers_of
from unigeo.schemas.errors import PointsError, PointsWarning
from unigeo.schemas.store.status import Status

VALID = Status.VALID.label
_MAX_NAMED = 5
"""Most rows that an error message names."""


class MissingRows:
    """Counter of the reasons why rows of a table lack a vector, by modality."""

    def __init__(self, missing: Missing) -> None:
        self.missing = missing
        self.rows = 0
        self.counts: dict[str, Counter[str]] = {}
        self.cause = ""

    @contextmanager
    def collect_warnings(self) -> Iterator[None]:
        """Hold back warnings of points, which count one part only; keep the cause they state."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", PointsWarning)
            yield
        for warning in caught:
            if isinstance(warning.message, PointsWarning):
                self.cause = self.cause or name_options(warning.message.cause or "")
            else:  # caught with the others: issue it again
                warnings.warn_explicit(
                    warning.message, warning.category, warning.filename, warning.lineno
                )

    def rows_to_write(
        self, first: int, status: Mapping[str, np.ndarray]
    ) -> Bool[np.ndarray, " row"]:
        """Count the rows of a part, and return which of them are written.

        Args:
            first: number of the part's first row in the table.
            status: status of each row as text, by modality.

        Raises:
            PointsError: if a row has no vector and `missing` is "raise".
        """
        valid = {modality: texts == VALID for modality, texts in status.items()}
        for modality, texts in status.items():
            self.counts.setdefault(modality, Counter()).update(texts[~valid[modality]].tolist())
            if self.missing == "raise" and not valid[modality].all():
                raise PointsError(_no_vector_message(modality, first, texts.tolist()))
        everywhere = np.logical_and.reduce(list(valid.values()))
        self.rows += len(everywhere)
        return everywhere if self.missing == "drop" else np.ones(len(everywhere), bool)

    def print_summary(self, quiet: bool) -> None:
        """Print one line to stderr if a row has no vector.

        If most rows lie outside the field, print a warning with the likely cause, even if quiet.
        """
        missing = {modality: count for modality, count in self.counts.items() if count}
        outside = max((_count_outside(count) for count in missing.values()), default=0)
        if 2 * outside > self.rows:
            click.echo(f"Warning: {self._summary(missing)}. {self.cause}".rstrip(), err=True)
        elif missing and not quiet:
            click.echo(self._summary(missing), err=True)

    def _summary(self, missing: "dict[str, Counter[str]]") -> str:
        equal = len({_format_reasons(count) for count in self.counts.values()}) == 1
        listed = {"": next(iter(missing.values()))} if equal else missing
        text = "; ".join(
            f"{count.total():,} of {self.rows:,} rows {'has' if count.total() == 1 else 'have'} no "
            f"{numbers_of(modality).strip()}: {_format_reasons(count)}"
            for modality, count in listed.items()
        )
        return text + (" (left out)" if self.missing == "drop" else "")


def _count_outside(count: "Counter[str]") -> int:
    """Count the rows that lie outside the field's land, or have no coordinates."""
    reasons = (Status.OUTSIDE_REGION.label, Status.WATER.label, STATUS_TEXTS[NO_POSITION])
    return sum(count[reason] for reason in reasons)


def name_options(message: str) -> str:
    """Replace the names of Python arguments in a message by those of a command's options."""
    message = message.replace("columns=(longitude, latitude)", "--lon and --lat")
    return re.sub(r"\bcrs=('?)([\w:]*)\1", r"--crs \2", message).replace("--crs ,", "--crs,")


def _format_reasons(count: "Counter[str]") -> str:
    """Format counts by reason, in the order of `STATUS_TEXTS`.

    >>> _format_reasons(Counter({"no position": 1, "outside region": 2}))
    '2 outside region, 1 no position'
    """
    texts = dict.fromkeys([*STATUS_TEXTS.values(), *sorted(count)])
    return ", ".join(f"{count[text]:,} {text}" for text in texts if count[text])


def _no_vector_message(modality: str, first: int, texts: Sequence[str]) -> str:
    bad = [row for row, text in enumerate(texts) if text != VALID]
    named = ", ".join(f"row {first + row:,} ({texts[row]})" for row in bad[:_MAX_NAMED])
    more = f" and {len(bad) - _MAX_NAMED:,} more" if len(bad) > _MAX_NAMED else ""
    return (
        f"no {numbers_of(modality)} at {named}{more}. Use --missing nan to keep such rows empty, "
        "or --missing drop to leave them out"
    )
