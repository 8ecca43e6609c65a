"""Opens a field from a URL, a Zarr store, or a Dataset that xarray opened."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from unigeo.client.field.field import Field
from unigeo.client.naming.default_field import default_field, say_once
from unigeo.client.naming.known_fields import address_of
from unigeo.client.reading.array_layout import stored_array
from unigeo.client.reading.cached_store import cached
from unigeo.client.reading.cell_protocol import Cells, WindowCells
from unigeo.client.reading.cell_reader import StoredCells
from unigeo.client.reading.checked_root import errors_naming, open_root
from unigeo.client.reading.dataset_variables import check_variables
from unigeo.client.reading.datasets import DatasetStore
from unigeo.client.reading.plain_attributes import nested_attributes
from unigeo.schemas.errors import (
    DamagedError,
    ForeignError,
    LayoutError,
    StoreError,
    UnigeoError,
)
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.io.addresses import absolute_url
from unigeo.schemas.io.limits import check_chunk
from unigeo.schemas.io.store_errors import MALFORMED
from unigeo.schemas.io.stores import open_store
from unigeo.schemas.store.attributes import UnigeoAttributes, read_attributes
from unigeo.schemas.store.layout import COVARIATES, NAME, Layout, status_name
from unigeo.schemas.store.overviews import overview_path

if TYPE_CHECKING:
    import xarray as xr
    import zarr
    from zarr.abc.store import Store

_REQUEST_TIMEOUT_S = 30.0
"""Default of `timeout_s`."""


def open_field(
    url: Any = None,
    *,
    region: str | None = None,
    release: str | int | None = None,
    overview: int | None = None,
    allow_building: bool = False,
    timeout_s: float = _REQUEST_TIMEOUT_S,
    cache: Any = None,
) -> Field:
    """Open a field.

    Args:
        url: a path, also of a folder with one store in it, or a `file://`, `https://`, `s3://`,
            `gs://` or `az://` URL, or a Zarr store; or the URL of a `catalog.json`, which lists
            several; or the name of a field, of those that `unigeo fields` lists. By default the
            field that `UNIGEO_FIELD` names, else `conus-1`, which a warning says.
        region: name of the field in a catalogue; may be left out if it lists only one region.
        release: name or number of the release in a catalogue; the newest by default.
        overview: open the overview instead whose cells each cover this many by this many cells.
        allow_building: also open a store that is not published yet; its missing shards read as
            "not produced".
        timeout_s: seconds after which a request without an answer is retried.
        cache: folder in which bytes of a remote store are kept once they are read; by default the
            one that `UNIGEO_CACHE` names, if it does; False keeps nothing.

    Raises:
        StoreError: if there is no store, no field of such a name, it cannot be reached, it is still
            being built, or the catalogue lists no such field.
        ForeignError: if its metadata are truncated, or not those of a unigeo field.
        LayoutError: if it has a newer layout, or no such overview.
    """
    import zarr

    default = default_field() if url is None else None
    if default is not None:
        url = default.address()
    elif isinstance(url, str):
        url = address_of(url)
    if region is not None or release is not None or str(url).endswith(".json"):
        from unigeo.client.naming.catalogues import store_of_catalogue

        url = store_of_catalogue(str(url), region, release, timeout_s=timeout_s)
    url = store_in_folder(absolute_url(url))
    store = cached(open_store(url, timeout_s=timeout_s), url, cache)
    root = open_root(store, url, building=allow_building and overview is None)
    path = "" if overview is None else _overview_path(root.group, url, overview)
    group = cast("zarr.Group", root.group[path]) if path else root.group
    attributes = dict(group.attrs)
    field_attributes = read_attributes(attributes, str(url))
    if field_attributes.state != "published" and not allow_building:
        raise StoreError(
            f"the field at {url} is still being built; open it with allow_building=True, or run "
            "unigeo-produce again to finish it"
        )
    try:
        _check_arrays(group, field_attributes, url)
    except MALFORMED as error:
        if isinstance(error, UnigeoError):
            raise
        raise ForeignError(
            f"metadata of the field at {url} are cut off, or foreign: {error}. Copy the store anew"
        ) from error
    layout = field_attributes.field_layout()

    def read(name: str, rows: slice, cols: slice) -> np.ndarray:
        with errors_naming(f"{name} of the field at {url}"):
            return np.asarray(cast(Any, group[name])[rows, cols])

    def opened() -> "xr.Dataset":
        import xarray as xr

        with errors_naming(f"the coordinates of the field at {url}"):
            dataset: xr.Dataset = xr.open_zarr(
                cast(Any, group.store),
                group=path or None,
                zarr_format=3,
                consolidated=root.listing is not None,
                decode_coords="all",
                chunks=None,
            )
        if isinstance(url, str):
            dataset.encoding.setdefault("source", url)
        return dataset

    @functools.cache
    def cells(name: str) -> Cells:
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            raise LayoutError(f"the field says it has {name!r}, and its store has no such array")
        stored = stored_array(array)
        if stored is None:  # a layout of bytes that only Zarr itself can read
            return _window_cells(name, read, layout)
        return StoredCells(stored, root.source, root.sizes_of(array.path))

    grid = field_attributes.grid.grid()
    if default is not None:
        say_once(default.sentence(field_attributes.region, grid.resolution_m))
    return _field(
        str(url),
        attributes,
        field_attributes,
        grid,
        read,
        cells,
        opened,
        source=url,
        checked=lambda: root.group.store,
        reopen=(
            open_field,
            (url,),
            {
                "overview": overview,
                "allow_building": allow_building,
                "timeout_s": timeout_s,
                "cache": cache,
            },
        ),
    )


def store_in_folder(url: Any) -> Any:
    """Return the only store in a local folder that is none itself; any other address as it is.

    Raises:
        StoreError: if the folder has several; it names them.
    """
    folder = Path(url) if isinstance(url, str) and "://" not in url else None
    if folder is None or not folder.is_dir() or (folder / "zarr.json").exists():
        return url
    inside = sorted(one.parent.name for one in folder.glob("*.zarr/zarr.json"))
    if len(inside) > 1:
        listed = ", ".join(inside[:5]) + (", ..." if len(inside) > 5 else "")
        raise StoreError(f"{url} is a folder of {len(inside)} stores: name one of {listed}")
    return str(folder / inside[0]) if inside else url


def _check_arrays(group: "zarr.Group", attributes: UnigeoAttributes, url: Any) -> None:
    """Check that arrays claim the field's sizes, since memory is allocated by what they claim.

    Raises:
        LayoutError: naming the array.
    """
    import zarr

    layout, shape = attributes.field_layout(), attributes.grid.shape
    shapes: dict[str, tuple[int, ...]] = {"y": shape[:1], "x": shape[1:]}
    shapes |= {name: (width,) for name, width in layout.band_dimensions.items()}
    for array in layout.arrays:
        shapes |= {array: (*shape, layout.width(array)), status_name(array): shape}
    for name, expected in shapes.items():
        stored = group.get(name)
        if not isinstance(stored, zarr.Array):
            continue  # reported when it is read
        if stored.shape != expected:
            claimed = " x ".join(f"{side:,}" for side in stored.shape)
            raise LayoutError(
                f"array {name!r} of {url} claims to be {claimed}, the field's grid and layout say "
                f"{' x '.join(f'{side:,}' for side in expected)}. The store is damaged, or made to "
                "do harm: copy it anew from where you trust it"
            )
        check_chunk(stored, url)


def _overview_path(root: "zarr.Group", url: Any, factor: int) -> str:
    """Return the path of an overview in a store.

    Raises:
        LayoutError: if the store has none of this factor; it names those that exist.
    """
    import zarr

    from unigeo.schemas.store.overviews import GROUP as OVERVIEWS

    stored = dict(root[OVERVIEWS].attrs).get("factors") if OVERVIEWS in root else None
    factors = [one for one in stored if isinstance(one, int)] if isinstance(stored, list) else []
    if factor not in factors:
        known = f"it has {', '.join(map(str, factors))}" if factors else "it has none"
        raise LayoutError(f"the field at {url} has no overview of factor {factor}; {known}")
    path = overview_path(factor)
    if not isinstance(root.get(path), zarr.Group):
        raise LayoutError(f"the store at {url} says it has {path!r}, and lacks it: copy it anew")
    return path


def field_of_dataset(dataset: "xr.Dataset") -> Field:
    """Return the field of a Dataset from `xr.open_zarr`, or of a window selected from one.

    Arrays that are still as `open_zarr` left them are read by their stored bytes; others are read
    through the Dataset.

    Raises:
        LayoutError: if the Dataset is no field, its cells were thinned or reordered, or its vectors
            lack bands or are not as they were stored.
    """
    attributes = nested_attributes(dataset.attrs)
    field_attributes = read_attributes(attributes, "the Dataset")
    field_grid = field_attributes.grid.grid()
    all_modalities = field_attributes.layout.modalities
    modalities = tuple(m for m in all_modalities if {m, status_name(m)} <= set(dataset))
    if not modalities or not {"x", "y"} <= set(dataset.coords):
        raise LayoutError(
            "the Dataset lacks the field's arrays; keep x, y and, of one modality at least, the "
            f"vectors and the status: {', '.join(all_modalities)}"
        )
    # The layout of what the Dataset still holds: variables may have been dropped.
    covariates = field_attributes.layout.covariates
    complete = {COVARIATES, status_name(COVARIATES)} <= set(dataset)
    if not complete or dataset[COVARIATES].sizes.get(NAME) != len(covariates):
        covariates = ()
    changes = {"modalities": modalities, "covariates": covariates}
    layout = field_attributes.layout.model_copy(update=changes)
    field_attributes = field_attributes.model_copy(update={"layout": layout})
    check_variables(dataset, field_attributes.field_layout())
    x, y = dataset["x"].values, dataset["y"].values
    if not (x.size and y.size):
        raise LayoutError(f"the Dataset has no cells: {len(y)} rows, {len(x)} columns")
    for name, values in (("x", x), ("y", y)):
        if not np.isfinite(values).all():
            raise DamagedError(
                f"the coordinate {name!r} of the Dataset holds no numbers: {name}/c/0 of the store "
                "is lost, which xarray does not say. Copy the store anew"
            )
    grid = field_grid.of_centres(x, y)
    if not (np.array_equal(grid.x, x) and np.array_equal(grid.y, y)):
        raise LayoutError("the Dataset's cells were thinned or reordered; sample the whole one")
    store = DatasetStore(dataset, field_attributes, grid)

    @functools.cache
    def cells(name: str) -> Cells:
        layout = field_attributes.field_layout()
        return store.cells(name) or _window_cells(name, store.read, layout)

    source = store.address
    return _field(
        str(source or "a Dataset"),
        attributes,
        field_attributes,
        grid,
        store.read,
        cells,
        store.checked_dataset,
        source=source,
        checked=None if source is None else store.store,
    )


def _window_cells(
    name: str, read: Callable[[str, slice, slice], np.ndarray], layout: Layout
) -> WindowCells:
    """Return the cells of an array that is read by windows."""
    has_bands = name in layout.arrays
    return WindowCells(
        lambda rows, cols: read(name, rows, cols),
        bands=layout.width(name) if has_bands else 1,
        dtype=layout.dtype(name) if has_bands else np.dtype(np.uint8),
        object_cells=(layout.shard, layout.shard),
        chunk_cells=(layout.chunk, layout.chunk),
    )


def _field(
    url: str,
    root_attributes: dict[str, Any],
    attributes: UnigeoAttributes,
    grid: Grid,
    read: Callable[[str, slice, slice], np.ndarray],
    cells: Callable[[str], Cells],
    opened: "Callable[[], xr.Dataset]",
    source: Any,
    checked: "Callable[[], Store] | None" = None,
    reopen: tuple[Callable[..., Field], tuple[Any, ...], dict[str, Any]] | None = None,
) -> Field:
    """Build a field, with licence and citation from the root's attributes."""
    return Field(
        url=url,
        attributes=attributes,
        grid=grid,
        layout=attributes.field_layout(),
        read=read,
        cells=cells,
        opened=opened,
        source=source,
        checked=checked,
        licence=str(root_attributes.get("license", "not stated")),
        citation=str(root_attributes.get("citation", "not stated")),
        reopen=reopen,
    )
