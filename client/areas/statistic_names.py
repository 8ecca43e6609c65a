"""The statistics that `zonal` computes, by the names that users give."""

from collections.abc import Iterable
from dataclasses import dataclass

from unigeo.client.points.join import column_names

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
            return f"_q{self.level:g}"
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
