"""Recipes of hand-made numbers: which statistics of which windows of which rasters."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from unigeo.producer.observations.forms import Form
from unigeo.producer.observations.protocol import Observations
from unigeo.schemas.errors import ObservationsError
from unigeo.schemas.io.toml_files import check_keys, read_toml

PLAIN = ("mean", "std", "min", "max", "range", "log1p_mean")
"""Statistics of the numbers of each band."""
THRESHOLDS = ("share_above", "share_at_most")
"""Shares of pixels above, or at or below, the number that follows the colon."""
SHARES = "shares"
"""Statistic of classes: the share of each class in the pixels with data."""


@dataclass(frozen=True)
class WindowStatistic:
    """One statistic of the pixels of a window, such as `mean` or `share_above:100`."""

    name: str
    threshold: float | None = None

    @property
    def label(self) -> str:
        """Name in columns, such as `share_above_100`."""
        return self.name if self.threshold is None else f"{self.name}_{self.threshold:g}"

    def __str__(self) -> str:
        return self.name if self.threshold is None else f"{self.name}:{self.threshold:g}"

    def of(self, pixels: Float[np.ndarray, "band pixel"]) -> Float[np.ndarray, " band"]:
        """Compute the statistic of each band; at least one pixel is needed."""
        if self.name == "mean":
            values = pixels.mean(axis=1)
        elif self.name == "std":
            values = pixels.std(axis=1)
        elif self.name == "min":
            values = pixels.min(axis=1)
        elif self.name == "max":
            values = pixels.max(axis=1)
        elif self.name == "range":
            values = np.ptp(pixels, axis=1)
        elif self.name == "log1p_mean":
            # NaN where a mean is at or below -1, which has no logarithm.
            mean = pixels.mean(axis=1)
            values = np.log1p(np.where(mean > -1, mean, np.nan))
        elif self.name == "share_above":
            values = (pixels > self.threshold).mean(axis=1)
        else:
            values = (pixels <= self.threshold).mean(axis=1)
        return np.asarray(values)


@dataclass(frozen=True, kw_only=True)
class Windows:
    """One `[[windows]]` of a recipe: statistics of square windows of one modality."""

    modality: str
    sides_km: tuple[float, ...] = ()
    """Sides of the windows on the ground."""
    statistics: tuple[WindowStatistic, ...] = ()
    """Statistics of each band; empty for shares of classes."""
    shares: bool = False
    """Whether the share of each class is taken, as only classes allow."""
    point: bool = False
    """Whether the pixel that holds the point is taken too."""


@dataclass(frozen=True)
class NumberRecipe:
    """Which numbers are computed."""

    name: str
    windows: tuple[Windows, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as JSON, for the provenance."""
        tables = [
            {
                "modality": one.modality,
                "sides_km": list(one.sides_km),
                "statistics": [SHARES] if one.shares else [str(each) for each in one.statistics],
                "point": one.point,
            }
            for one in self.windows
        ]
        return {"name": self.name, "windows": tables}


def load_recipe(path: Path | str) -> NumberRecipe:
    """Read a recipe.

    Raises:
        ObservationsError: naming the file, the table and the key that is unknown, missing or
            malformed.
    """
    path = Path(path)
    document = read_toml(path, "the recipe", ObservationsError)
    check_keys(
        document, {"name": str, "windows": list}, f"recipe {path}", ObservationsError, ("windows",)
    )
    windows = tuple(
        _parse_windows(table, f"[[windows]] number {number} of recipe {path}")
        for number, table in enumerate(document["windows"], start=1)
    )
    if not windows:
        raise ObservationsError(f"recipe {path} names no [[windows]]")
    return NumberRecipe(document.get("name", path.stem), windows)


def default_recipe(observations: Observations) -> NumberRecipe:
    """Return the recipe where none is given: every raster, in the windows of its views.

    Mean and standard deviation of an image; also range and the height at the point of a surface;
    the share of each class.

    Raises:
        ObservationsError: if the observations have no rasters.
    """
    mean, std, span = map(WindowStatistic, ("mean", "std", "range"))
    windows = []
    for modality in observations.modalities:
        rasters = observations.rasters_of(modality)
        if rasters is None:
            continue
        sides = tuple(frame.patch_m / 1000 for frame in rasters.frames)
        encoder = observations.form(modality).encoder
        statistics = () if encoder == "classes" else (mean, std)
        windows.append(
            Windows(
                modality=modality,
                sides_km=sides,
                statistics=(*statistics, span) if encoder == "surface" else statistics,
                shares=encoder == "classes",
                point=encoder == "surface",
            )
        )
    if not windows:
        raise ObservationsError(
            f"{observations.name} has no rasters to take numbers from; it has "
            f"{', '.join(observations.modalities)}"
        )
    return NumberRecipe("windows of the views", tuple(windows))


def column_names(windows: Windows, form: Form, bands: int) -> Iterator[str]:
    """Name the numbers of one `[[windows]]`, in their order.

    Args:
        windows: windows to name.
        form: form of their modality.
        bands: number of bands of its rasters.
    """
    names = [""]
    if bands > 1:
        colours = ("red", "green", "blue") if form.is_colour else ()
        names = [f"{name}_" for name in colours or (f"b{k + 1}" for k in range(bands))]
    for side in windows.sides_km:
        stem = f"{windows.modality}_"
        if windows.shares:
            yield from (f"{stem}{side:g}km_{name}" for name in form.classes)
        for statistic in windows.statistics:
            yield from (f"{stem}{name}{side:g}km_{statistic.label}" for name in names)
    if windows.point:
        yield from (f"{windows.modality}_{name}point" for name in names)


def _parse_windows(table: Any, where: str) -> Windows:
    kinds = {"modality": str, "sides_km": list, "statistics": list, "point": bool}
    check_keys(table, kinds, where, ObservationsError, ("modality",))
    sides = table.get("sides_km", [])
    for side in sides:
        if not isinstance(side, int | float) or isinstance(side, bool) or not 0 < side < 5000:
            raise ObservationsError(
                f"{where}: the key 'sides_km' must list kilometres, each above 0 and below 5,000, "
                f"not {side!r}"
            )
    names = table.get("statistics", [])
    if bool(sides) != bool(names):
        raise ObservationsError(f"{where}: the keys 'sides_km' and 'statistics' need each other")
    if not sides and not table.get("point", False):
        raise ObservationsError(f"{where} asks for no number: give 'sides_km', or 'point = true'")
    if len(set(map(str, names))) < len(names) or len(set(sides)) < len(sides):
        raise ObservationsError(f"{where} lists a side or a statistic twice")
    if SHARES in names and len(names) > 1:
        raise ObservationsError(f"{where}: 'shares' are of classes, which have no other statistic")
    return Windows(
        modality=table["modality"],
        sides_km=tuple(map(float, sides)),
        statistics=tuple(_parse_statistic(name, where) for name in names if name != SHARES),
        shares=SHARES in names,
        point=table.get("point", False),
    )


def _parse_statistic(text: Any, where: str) -> WindowStatistic:
    if text in PLAIN:
        return WindowStatistic(text)
    name, _, number = str(text).partition(":")
    try:
        threshold = float(number)
    except ValueError:
        threshold = np.nan
    if name in THRESHOLDS and np.isfinite(threshold):
        return WindowStatistic(name, threshold)
    raise ObservationsError(
        f"{where}: there is no statistic {text!r}; there are {', '.join(PLAIN)}, "
        f"{', '.join(f'{one}:NUMBER' for one in THRESHOLDS)} and, of classes, {SHARES}"
    )
