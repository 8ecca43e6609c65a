"""Options of sampling, checked when they are built."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from unigeo.client.points.join import Missing
from unigeo.client.points.snapping import check_snap
from unigeo.client.reading.sampling import Method, Numbers
from unigeo.client.shapes.discs import check_radius

As = Literal["pandas", "numpy", "xarray"]


@dataclass(frozen=True, kw_only=True)
class SampleOptions:
    """Options of `Field.sample`, whose docstring describes them.

    Raises:
        ValueError: if an option has no such value, or does not go with another.
    """

    method: Method = "nearest"
    missing: Missing = "nan"
    as_: As = "pandas"
    dtype: Numbers = "float32"
    lazy: bool = False
    prefix: str = ""
    progress: bool = False
    radius_m: float | None = None
    snap_km: float | None = None

    def __post_init__(self) -> None:
        for option, known in (
            ("method", Method),
            ("missing", Missing),
            ("as_", As),
            ("dtype", Numbers),
        ):
            check_choice(option, getattr(self, option), known)
        if self.dtype == "int8" and self.method != "nearest":
            raise ValueError(
                f"{self.method} vectors are means, not stored: they have dtype 'float32'"
            )
        if self.lazy and (self.as_ != "xarray" or self.missing != "nan"):
            raise ValueError("lazy=True goes with as_='xarray' and missing='nan'")
        if self.snap_km is not None:
            check_snap(self.snap_km)
            if self.lazy or self.radius_m is not None:
                raise ValueError(
                    "snap_km moves points by the status of cells, which it reads: it goes with "
                    "neither lazy=True nor radius_m, which averages what is near"
                )
        if self.radius_m is not None:
            check_radius(self.radius_m)
            if self.method != "nearest" or self.dtype != "float32" or self.lazy:
                raise ValueError(
                    "radius_m averages whole cells by area: it goes with method='nearest', "
                    "dtype='float32' and lazy=False, which are the defaults"
                )

    @property
    def means_of_points(self) -> bool:
        """Whether an option says how a point is read, which an area is not."""
        return self.method != "nearest" or self.radius_m is not None or self.snap_km is not None


def check_choice(option: str, value: str, literal: Any) -> None:
    """Raise unless a value is one that a `Literal` lists.

    Raises:
        ValueError: naming the option and its values.
    """
    known = get_args(literal)
    if value not in known:
        raise ValueError(f"{option} must be one of {', '.join(map(repr, known))}, not {value!r}")
