"""What the client reads of the store, the truth for every reader, and the snippets of the page."""

import re
from functools import cached_property
from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
from rasterio.errors import RasterioIOError
from shapely import Polygon

from unigeo import client
from unigeo.schemas.store.layout import LAYOUT_VERSION

DOCS = Path(__file__).parents[2] / "docs" / "readers.md"
LAYOUT_2 = pytest.mark.xfail(
    LAYOUT_VERSION < 2,
    reason="layout 1: statuses have a CRC, one dimension has two lengths, an array has no rows",
    raises=(ValueError, RasterioIOError, AssertionError),
    strict=True,
)
CELLS = 200
AREA = [[-5.0, 2.0], [1.0, -6.0], [9.5, -3.0], [11.0, 8.0], [2.5, 10.5], [-5.0, 2.0]]
"""A polygon with water, cells without an observation and land in it."""


class Truth:
    """What the client says of the store."""

    def __init__(self, store: Path) -> None:
        self.field = client.open_field(store)
        self.grid = self.field.grid
        size = self.grid.shape[0] * self.grid.shape[1]
        self.cells = np.random.default_rng(0).choice(size, CELLS, replace=False)
        self.rows, self.cols = np.unravel_index(self.cells, self.grid.shape)

    @cached_property
    def vectors(self) -> Any:
        """Unit vectors of the cells, from their bytes; NaN where there is none."""
        lonlat = self.grid.centres()[self.rows, self.cols]
        return self.field.sample(lonlat, "coordinate", as_="numpy")["coordinate"]

    @cached_property
    def status(self) -> Any:
        """The status of every cell, from one shard after another."""
        whole = np.zeros(self.grid.shape, np.uint8)
        for piece in self.field.iter_region(modalities="coordinate"):
            whole[piece.window.slices] = piece.status["coordinate"]
        return whole

    @cached_property
    def clipped(self) -> Any:
        """Vectors as stored of the cells in the area, -128 in the others of the window round it."""
        return self.field.region(self.area, mask=True)["coordinate"].load()

    @cached_property
    def area(self) -> Any:
        """The area in the field's CRS."""
        return geopandas.GeoDataFrame(
            {"name": ["area"]}, geometry=[Polygon(AREA)], crs="OGC:CRS84"
        ).to_crs(self.grid.crs)


def blocks() -> list[tuple[str, str]]:
    """Headings and blocks of code of the page, in order."""
    found, heading = [], ""
    for part in re.split(r"^(## [^\n]*|```\w+\n.*?^```$)", DOCS.read_text(), flags=re.S | re.M):
        if part.startswith("## "):
            heading = part.removeprefix("## ")
        elif part.startswith("```"):
            found.append((heading, part.split("\n", 1)[1].removesuffix("```")))
    return found


def snippet(heading: str, place: str, number: int = 0) -> str:
    """A block of code of the page, its addresses those of the store."""
    code = [code for title, code in blocks() if title == heading][number]
    code = code.replace("https://example.org/conus/conus.zarr", f"{place}/gulf.zarr")
    code = code.replace("conus/conus.zarr", f"{place}/gulf.zarr")
    return code.replace("conus/unigeo-conus-10000m-r1.json", f"{place}/unigeo-gulf-80000m-r1.json")
