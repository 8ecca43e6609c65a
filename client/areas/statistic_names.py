"""The statistics that `zonal` computes, by the names that users give, and names of its columns."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from unigeo.client.points.join import column_names
from unigeo.client.reading.covariates import Selection
from unigeo.schemas.errors import LayoutError
from unigeo.schemas.store.layout import COVARIATES, Layout, status_name

_QUANTILE = "quantile:"
NAMES = ("mean", "std", "min", "max")
"""Statistics that have no argument."""


@dataclass(frozen=True)
class Statistic:
    """One statistic of the values of a band."""

    name: str
    """One of `NAMES`, or `quantile`."""
    level: float | None = None
    """Share of the weight that lies at or below the quantile, 0 to 1."""

    @property
    def infix(self) -> str:
        """Part of column names between modality and band; the mean has none, as in `sample`.

        >>> Statistic("std").infix, Statistic("quantile", 0.9).infix
        ('_std', '_q0.9')
        """
        if self.level is not None:
            return f"_q{self.level:.15g}"
        return "" if self.name == "mean" else f"_{self.name}"

    def columns(self, modality: str, bands: int, prefix: str = "") -> list[str]:
        """Return the names of the columns of a modality.

        >>> Statistic("std").columns("aerial", 2)
        ['aerial_std_000', 'aerial_std_001']
        """
        return column_names(modality + self.infix, bands, prefix)


MEAN = Statistic("mean")


def parse_statistics(stats: str | Iterable[str]) -> tuple[Statistic, ...]:
    """Read the names of statistics; one that is named twice is computed once.

    Raises:
        ValueError: if there is none, or one is unknown.

    >>> parse_statistics(["mean", "quantile:0.9"])
    (Statistic(name='mean', level=None), Statistic(name='quantile', level=0.9))
    """
    named = [stats] if isinstance(stats, str) else list(stats)
    if not named:
        raise ValueError(f"name one statistic at least: {_known()}")
    return tuple(dict.fromkeys(map(_parse, named)))


def zonal_columns(
    layout: Layout,
    chosen: Selection,
    statistics: tuple[Statistic, ...],
    prefix: str = "",
    *,
    weighted: bool = False,
) -> list[str]:
    """Return the name of every column that `Field.zonal` makes, in the order of its table.

    Args:
        layout: layout of the field.
        chosen: modalities and covariates that are read.
        statistics: statistics that are computed.
        prefix: put before every name.
        weighted: whether cells have weights beside their shares.

    Raises:
        LayoutError: if two columns would have one name.
    """
    names = [
        name
        for modality in chosen.modalities
        for one in statistics
        for name in one.columns(modality, layout.width(modality), prefix)
    ]
    for modality in chosen.modalities:
        names += _amount_columns(modality, prefix, weighted)
    if chosen.covariates:
        names += [f"{prefix}{name}{one.infix}" for one in statistics for name in chosen.covariates]
        names += _amount_columns(COVARIATES, prefix, weighted)
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise LayoutError(
            f"two columns would be named {twice[0]!r}, of a modality and of a statistic of "
            "another; ask for one modality at a time"
        )
    return names


def _amount_columns(array: str, prefix: str, weighted: bool) -> list[str]:
    """Return the names of the columns of how much of a polygon counts, and of its status."""
    amounts = ("cells", "share", "weight") if weighted else ("cells", "share")
    return [*(f"{prefix}{array}_{amount}" for amount in amounts), prefix + status_name(array)]


def _parse(text: str) -> Statistic:
    if text in NAMES:
        return Statistic(text)
    if isinstance(text, str) and text.startswith(_QUANTILE):
        try:
            level = float(text.removeprefix(_QUANTILE))
        except ValueError:
            level = -1.0
        if 0 <= level <= 1:
            return Statistic("quantile", level)
    raise ValueError(f"there is no statistic {text!r:.60}; known are {_known()}")


def _known() -> str:
    return f"{', '.join(NAMES)} and quantile:Q, with Q from 0 to 1, such as quantile:0.9"
