"""Which covariates a field has: names, units and sources of the numbers of each raster modality."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from unigeo.producer.observations.forms import Form
from unigeo.producer.observations.protocol import Observations
from unigeo.producer.observations.raster_files.modality_rasters import ModalityRasters
from unigeo.schemas.store.covariates import CLASS_UNIT, Covariate
from unigeo.schemas.store.layout import STATUS_SUFFIX

STATISTICS = ("mean", "std", "range")
"""Statistics of each band of a view, in the order of the columns."""
_PART = 4
"""Part of a view's side that is the side of its middle."""
_LEAST_PX = 8
"""Pixels of the side of a middle; a smaller one says little more than the centre's pixel."""
_COLOURS = ("red", "green", "blue")
_MOST_LETTERS = 40
"""Letters of a band's or class's name in that of a covariate."""


@dataclass(frozen=True, eq=False)
class ModalityColumns:
    """The covariates of one modality: statistics view by view, then the pixel at the centre.

    The middle of the finest view counts as one more view, of whose bands only means are taken.
    """

    modality: str
    form: Form
    rasters: ModalityRasters
    statistics: tuple[str, ...]
    """Names of the statistics: of each band or class of each view, and then of the middle."""
    points: tuple[str, ...]
    """Name of the centre's pixel in each band."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns."""
        return self.statistics + self.points


@dataclass(frozen=True)
class Middle:
    """The square in the middle of a modality's finest view."""

    view: int
    """Number of the view."""
    px: int
    """Side in pixels."""
    side_m: float
    """Side on the ground."""


def middle_of(form: Form) -> Middle | None:
    """Return the middle of the finest view, a quarter as wide; None where it has few pixels."""
    px = min(form.shape[1:]) // _PART
    if px < _LEAST_PX or not form.sides_m:
        return None
    view = form.sides_m.index(min(form.sides_m))
    return Middle(view, px, form.sides_m[view] * px / min(form.shape[1:]))


def columns_of(
    observations: Observations, modalities: Iterable[str]
) -> tuple[ModalityColumns, ...]:
    """Return the covariates of every modality that is cut from rasters."""
    taken: set[str] = set()
    columns = []
    for modality in modalities:
        rasters = observations.rasters_of(modality)
        if rasters is None:
            continue
        form = observations.form(modality)
        bands = _band_names(form, rasters)
        sides = [side_text(side) for side in form.sides_m]
        middle = middle_of(form)
        inside = [] if middle is None else [side_text(middle.side_m)]
        if form.encoder == "classes":
            shares = [_slug(name) or str(number) for number, name in _numbered(form.classes)]
            inner = [[modality, side, share] for side in sides + inside for share in shares]
        else:
            inner = [
                [modality, band, side, statistic]
                for side in sides
                for band in bands
                for statistic in STATISTICS
            ]
            inner += [[modality, band, side, "mean"] for side in inside for band in bands]
        statistics = tuple(_unique(parts, taken) for parts in inner)
        points = tuple(_unique([modality, band, "point"], taken) for band in bands)
        columns.append(ModalityColumns(modality, form, rasters, statistics, points))
    return tuple(columns)


def names_of(columns: Iterable[ModalityColumns]) -> tuple[str, ...]:
    """Return the names of all covariates, in the order of the stored array."""
    return tuple(name for one in columns for name in one.names)


def describe_columns(
    columns: Iterable[ModalityColumns], provenance: Mapping[str, Any]
) -> tuple[Covariate, ...]:
    """Return each covariate with its unit and its source.

    Args:
        columns: the columns.
        provenance: the observations' provenance, whose modalities may state `units`.
    """
    sources = provenance.get("modalities", {})
    described: list[Covariate] = []
    for one in columns:
        about = sources.get(one.modality, {}) if isinstance(sources, Mapping) else {}
        files = ", ".join(dict.fromkeys(one.rasters.file_name(s.path) for s in one.rasters.sources))
        unit, point_unit = _unit(one.form, str(about.get("units") or "")), CLASS_UNIT
        if one.form.encoder == "classes":
            numbers = one.rasters.sources[0].classes
            named = [f"{n} {name}" for n, name in zip(numbers, one.form.classes, strict=True)]
            files = f"{files}: {', '.join(named)}"
        else:
            point_unit = unit
        described += [Covariate(name, unit, files) for name in one.statistics]
        described += [Covariate(name, point_unit, files) for name in one.points]
    return tuple(described)


def _unit(form: Form, stated: str) -> str:
    """Return the unit of a modality's numbers: metres of a surface, shares without a unit."""
    if form.encoder == "classes":
        return "1"
    return "m" if form.encoder == "surface" else stated or "1"


def _band_names(form: Form, rasters: ModalityRasters) -> list[str]:
    """Return a name for each band; none is needed where there is one."""
    source = rasters.sources[0]
    if len(source.bands) == 1:
        return [""]
    stated = [_slug(name) for name in getattr(source, "band_names", ())]
    if len(stated) == len(source.bands) and all(stated) and len(set(stated)) == len(stated):
        return stated
    return list(_COLOURS) if form.is_colour else [f"b{band}" for band in source.bands]


def _numbered(classes: Iterable[str]) -> Iterator[tuple[int, str]]:
    yield from enumerate(classes, start=1)


def side_text(side_m: float) -> str:
    """Return the side of a view as names have it, such as 16km, 10500m or 60cm."""
    whole = round(side_m)
    if whole < 1:
        return f"{round(side_m * 100)}cm"
    return f"{whole // 1000}km" if whole % 1000 == 0 else f"{whole}m"


def _slug(name: str) -> str:
    """Return a name in lower case, of letters, digits and underscores only."""
    return re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")[:_MOST_LETTERS]


def _unique(parts: Iterable[str], taken: set[str]) -> str:
    """Join the parts of a name, and number it where it is taken; remember it as taken."""
    stem = name = "_".join(part.lower() for part in parts if part)
    if stem.endswith(STATUS_SUFFIX):  # a class called status
        name = stem = f"{stem}_class"
    number = 2
    while name in taken:
        name = f"{stem}_{number}"
        number += 1
    taken.add(name)
    return name
