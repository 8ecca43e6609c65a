"""GeoTIFF files: their paths checked, then written window by window and renamed when complete."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from unigeo.schemas.errors import MissingExtraError, StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.io.addresses import check_destination
from unigeo.schemas.io.atomic_files import file_beside

_ENDINGS = (".tif", ".tiff")
_TILE = 256


def check_geotiff_path(path: str | Path, overwrite: bool) -> Path:
    """Check that a GeoTIFF can be written, before any work is done for it.

    Args:
        path: of the file, which is local and ends in `.tif` or `.tiff` in any case.
        overwrite: allow the file to exist already.

    Raises:
        StoreError: if the name is empty or has another ending, its folder does not exist, or it is
            a folder, or a file that must not be replaced.
    """
    name, path = str(path), Path(path)
    if "://" in name:
        raise StoreError(f"cannot write {name}: a GeoTIFF is written to a local file; copy it then")
    if not name.strip().lower().endswith(_ENDINGS) or name != name.strip():
        raise StoreError(
            f"cannot write a GeoTIFF named {name!r}: its name must end in {' or '.join(_ENDINGS)}"
        )
    check_destination(path, str(path))
    if path.is_dir():
        raise StoreError(f"cannot write {path}: it is a folder")
    if path.exists() and not overwrite:
        raise StoreError(
            f"cannot write {path}: it is there already; allow it to be replaced (overwrite=True, "
            "or --overwrite), remove it, or name another"
        )
    return path


def import_rasterio(advice: str = "") -> Any:
    """Import rasterio.

    Args:
        advice: what else the user can do without it; ends the message.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        import rasterio
        import rasterio.windows
    except ImportError as error:
        raise MissingExtraError(
            f"a GeoTIFF needs rasterio: pip install 'unigeo[geo]'{advice}"
        ) from error
    return rasterio


@contextmanager
def create_geotiff(
    path: Path, what: str, grid: Grid, *, cache_bytes: int | None = None, **profile: Any
) -> Iterator[Any]:
    """Yield a tiled GeoTIFF that is open for writing; it is renamed to `path` when all went well.

    Args:
        path: that `check_geotiff_path` let pass; a file that is there is replaced.
        what: the file in messages, such as "the map".
        grid: its cells are the pixels.
        cache_bytes: size of GDAL's cache; by default a share of the machine's memory.
        profile: further options of `rasterio.open`: `count`, `dtype`, `nodata`, ...

    Raises:
        StoreError: if it cannot be written; nothing is left then.
    """
    rasterio = import_rasterio()
    rows, cols = grid.shape
    try:
        with ExitStack() as stack:
            if cache_bytes is not None:
                stack.enter_context(rasterio.Env(GDAL_CACHEMAX=cache_bytes))
            part = stack.enter_context(file_beside(path))
            yield stack.enter_context(
                rasterio.open(
                    part,
                    "w",
                    driver="GTiff",
                    height=rows,
                    width=cols,
                    crs=grid.crs,
                    transform=rasterio.Affine(*grid.affine),
                    tiled=True,
                    blockxsize=_TILE,
                    blockysize=_TILE,
                    bigtiff="if_safer",
                    **profile,
                )
            )
    except (OSError, rasterio.errors.RasterioError) as error:
        if isinstance(error, StoreError):  # an OSError too: the field could not be read
            raise
        raise StoreError(f"cannot write {what} {path}: {error}") from error


def raster_window(window: Window) -> Any:
    """Convert a window of cells to rasterio's."""
    from rasterio.windows import Window as RasterWindow

    return RasterWindow(window.col, window.row, window.width, window.height)
