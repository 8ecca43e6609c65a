"""Ways to a field: from a URL, from a Zarr store, from a Dataset that xarray opened."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from unigeo.client.field import Field
from unigeo.client.reading.arrays import stored_array
from unigeo.client.reading.cells import Cells, WindowCells
from unigeo.client.reading.datasets import check_variables
from unigeo.client.reading.fetching import Body, Requests, Source, Span
from unigeo.client.reading.gathering import Sizes, StoredCells
from unigeo.client.reading.mapped_files import Files
from unigeo.schemas.attributes import UnigeoAttributes, read_attributes
from unigeo.schemas.errors import LayoutError, StoreError, UnigeoError
from unigeo.schemas.grid import Grid
from unigeo.schemas.layout import Layout, status_name
from unigeo.schemas.limits import check_chunk, check_memory
from unigeo.schemas.manifest import GROUP
from unigeo.schemas.overviews import overview_path
from unigeo.schemas.stores import (
    damage_errors,
    explained,
    open_group,
)

if TYPE_CHECKING:
    import xarray as xr
    import zarr
    from zarr.abc.store import Store

    from unigeo.client.probing.probes import Probe

_REQUEST_TIMEOUT_S = 30.0


def source_of(store: "Store") -> Source:
    """The fastest way to the bytes of a Zarr store."""
    from zarr.storage import LocalStore

    return Files(store.root) if isinstance(store, LocalStore) else Requests(store)


def open_field(
    url: Any,
    *,
    region: str | None = None,
    release: str | None = None,
    overview: int | None = None,
    allow_building: bool = False,
    timeout_s: float = _REQUEST_TIMEOUT_S,
) -> Field:
    """Open a field.

    Args:
        url: a path, or a `file://`, `https://`, `s3://`, `gs://` or `az://` URL, or a Zarr store;
            or that of a `catalog.json`, which lists several.
        region: of a catalogue, which field; may be left out if it lists one region only.
        release: of a catalogue, which release; the newest by default.
        overview: open the field of coarser cells instead that each cover so many by so many.
        allow_building: also open a store that is not published yet; its missing shards read as
            "not produced".
        timeout_s: seconds after which a request without an answer is given up and tried again.

    Raises:
        StoreError: if there is no store, it cannot be reached, it is still being built, or the
            catalogue lists no such field.
        LayoutError: if it is no unigeo field, of a newer layout, or has no such overview.
    """
    if region is not None or release is not None or str(url).endswith(".json"):
        from unigeo.client.catalogues import store_of_catalogue

        url = store_of_catalogue(str(url), region, release, timeout_s=timeout_s)
    path = "" if overview is None else _overview_path(url, overview, timeout_s)
    group = open_group(url, path=path, consolidated=not allow_building, timeout_s=timeout_s)
    attributes = dict(group.attrs)
    own = read_attributes(attributes, str(url))
    if own.state != "published" and not allow_building:
        raise StoreError(
            f"the field at {url} is still being built; open it with allow_building=True, or run "
            "unigeo-produce again to finish it"
        )
    _check_arrays(group, own, url)
    source = source_of(group.store)

    failures = damage_errors()

    def read(name: str, rows: slice, cols: slice) -> np.ndarray:
        try:
            return np.asarray(cast(Any, group[name])[rows, cols])
        except failures as error:
            if isinstance(error, UnigeoError):
                raise
            raise StoreError(
                f"cannot read {name} of the field at {url}: {explained(error)}"
            ) from error

    layout = own.layout.layout()

    def opened() -> "xr.Dataset":
        import xarray as xr

        dataset: xr.Dataset = xr.open_zarr(
            cast(Any, group.store),
            group=path or None,
            zarr_format=3,
            consolidated=not allow_building,
            decode_coords="all",
            chunks=None,
        )
        return dataset

    @cache
    def cells(name: str) -> Cells:
        found = _stored_cells(group, name, source, own)
        return found if found is not None else _windows(name, read, layout)

    return _field(
        str(url),
        attributes,
        own,
        own.grid.grid(),
        read,
        cells,
        opened,
        source=url,
        reopen=(
            open_field,
            (url,),
            {"overview": overview, "allow_building": allow_building, "timeout_s": timeout_s},
        ),
    )


def _check_arrays(group: "zarr.Group", own: UnigeoAttributes, url: Any) -> None:
    """Refuse arrays that claim other sizes than the field's: memory is taken by what they claim.

    Raises:
        LayoutError: naming the array.
    """
    import zarr

    layout, shape = own.layout.layout(), own.grid.shape
    wanted: dict[str, tuple[int, ...]] = {"y": shape[:1], "x": shape[1:], "band": (layout.bands,)}
    for modality in layout.modalities:
        wanted |= {modality: (*shape, layout.bands), status_name(modality): shape}
    for name, expected in wanted.items():
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            continue  # told when it is asked for
        if array.shape != expected:
            claimed = " x ".join(f"{side:,}" for side in array.shape)
            raise LayoutError(
                f"array {name!r} of {url} claims to be {claimed}, the field's grid and layout say "
                f"{' x '.join(f'{side:,}' for side in expected)}. The store is damaged, or made to "
                "do harm: copy it anew from where you trust it"
            )
        check_chunk(array, url)


def _overview_path(url: Any, factor: int, timeout_s: float) -> str:
    """Where an overview stands in a store.

    Raises:
        LayoutError: if the store has none of this factor; it names those that there are.
    """
    from unigeo.schemas.overviews import GROUP as OVERVIEWS

    root = open_group(url, timeout_s=timeout_s)
    held = dict(root[OVERVIEWS].attrs).get("factors") if OVERVIEWS in root else None
    factors = [one for one in held if isinstance(one, int)] if isinstance(held, list) else []
    if factor not in factors:
        there = f"it has {', '.join(map(str, factors))}" if factors else "it has none"
        raise LayoutError(f"the field at {url} has no overview of factor {factor}; {there}")
    return overview_path(factor)


def field_of_dataset(dataset: "xr.Dataset") -> Field:
    """The field behind a Dataset from `xr.open_zarr`, or behind a window cut from one.

    Arrays that are still as `open_zarr` left them are read by their stored bytes; whatever else was
    made of them is read through the Dataset.

    Raises:
        LayoutError: if the Dataset is no field, its cells were thinned or reordered, or its vectors
            are not whole or not as they were stored.
    """
    own = read_attributes(dict(dataset.attrs), "the Dataset")
    whole = own.grid.grid()
    held = tuple(m for m in own.layout.modalities if {m, status_name(m)} <= set(dataset))
    if not held or not {"x", "y"} <= set(dataset.coords):
        raise LayoutError(
            "the Dataset lacks the field's arrays; keep x, y and, of one modality at least, the "
            f"vectors and the status: {', '.join(own.layout.modalities)}"
        )
    own = own.model_copy(update={"layout": own.layout.model_copy(update={"modalities": held})})
    check_variables(dataset, held, own.layout.layout().bands)
    x, y = dataset["x"].values, dataset["y"].values
    if not (x.size and y.size):
        raise LayoutError(f"the Dataset has no cells: {len(y)} rows, {len(x)} columns")
    row = round(float(-y[0] / whole.resolution_m - 0.5))
    col = round(float(x[0] / whole.resolution_m - 0.5))
    grid = Grid(whole.crs, whole.resolution_m, row, col, (len(y), len(x)))
    if not (np.array_equal(grid.x, x) and np.array_equal(grid.y, y)):
        raise LayoutError("the Dataset's cells were thinned or reordered; sample the whole one")
    layout = own.layout.layout()

    def read(name: str, rows: slice, cols: slice) -> np.ndarray:
        return np.asarray(dataset[name].isel(y=rows, x=cols).transpose("y", "x", ...).values)

    @cache
    def cells(name: str) -> Cells:
        behind = _array_behind(dataset, name, whole == grid)
        if behind is not None:
            array, low = behind
            stored = stored_array(array)
            if stored is not None:
                return _Shifted(StoredCells(stored, source_of(array.store)), low)
        return _windows(name, read, layout)

    source = dataset.encoding.get("source")
    return _field(
        str(source or "a Dataset"),
        dict(dataset.attrs),
        own,
        grid,
        read,
        cells,
        lambda: dataset,
        source=source,
    )


def _stored_cells(
    group: "zarr.Group", name: str, source: Source, own: UnigeoAttributes
) -> StoredCells | None:
    """An array by its bytes, or None if only Zarr can read it."""
    import zarr

    array = group.get(name)
    if not isinstance(array, zarr.Array):
        raise LayoutError(f"the field says it has {name!r}, and its store has no such array")
    stored = stored_array(array)
    if stored is None:
        return None

    @cache
    def sizes() -> Sizes | None:
        """Bytes of each object by the manifest; a published store has one."""
        listed = group.get(f"{GROUP}/{name}_bytes") if own.state == "published" else None
        if not isinstance(listed, zarr.Array) or listed.shape != stored.objects:
            return None
        return _manifest(listed, source)

    return StoredCells(stored, source, sizes)


def _manifest(listed: "zarr.Array[Any]", source: Source) -> Sizes:
    """Read an array of the manifest from its only chunk.

    Raises:
        StoreError: if it is not there: Zarr would take that for an array of zeros.
    """
    check_memory(listed, listed.path)
    key = f"{listed.path}/{listed.metadata.encode_chunk_key((0,) * listed.ndim)}"
    bodies: list[Body | None] = []
    source.fetch([Span(key)], lambda number, body: bodies.append(body))
    if bodies[0] is None:
        raise StoreError(
            f"{key} is not there: the store has lost its manifest, or does not let it be read. "
            "Copy the store anew."
        )
    if listed.chunks != listed.shape or len(bodies[0]) != listed.nbytes:
        return np.asarray(listed[...])
    return np.frombuffer(bodies[0], listed.dtype.newbyteorder("<")).reshape(listed.shape)


def _windows(
    name: str, read: Callable[[str, slice, slice], np.ndarray], layout: Layout
) -> WindowCells:
    vectors = name in layout.modalities
    return WindowCells(
        lambda rows, cols: read(name, rows, cols),
        bands=layout.bands if vectors else 1,
        dtype=np.dtype(np.int8 if vectors else np.uint8),
        object_cells=(layout.shard, layout.shard),
        chunk_cells=(layout.chunk, layout.chunk),
    )


class _Shifted:
    """The cells of a window of an array."""

    def __init__(self, cells: Cells, low: tuple[int, int]) -> None:
        self._cells, self._low = cells, np.array(low)
        self.bands, self.dtype = cells.bands, cells.dtype

    def gather(self, rowcol: np.ndarray, out: np.ndarray, **options: Any) -> None:
        """See `Cells.gather`."""
        self._cells.gather(rowcol + self._low, out, **options)

    def cost(self, rowcol: np.ndarray) -> list[tuple[int, int]]:
        """See `Cells.cost`."""
        return self._cells.cost(rowcol + self._low)


def _array_behind(
    dataset: "xr.Dataset", name: str, whole: bool
) -> "tuple[zarr.Array[Any], tuple[int, int]] | None":
    """The Zarr array that a variable still lazily is, and the first row and column it takes."""
    import zarr

    variable = dataset[name].variable
    if variable.chunks is not None:
        # dask: only an array that nothing was done to yet, read again from where it came.
        untouched = str(getattr(variable.data, "name", "")).startswith(f"open_dataset-{name}-")
        url = dataset.encoding.get("source")
        if not (whole and untouched and isinstance(url, str)):
            return None
        found = open_group(url).get(name)
        return (found, (0, 0)) if isinstance(found, zarr.Array) else None
    lazy: Any = variable._data
    low = (0, 0)
    while hasattr(lazy, "array"):
        if hasattr(lazy, "key"):
            keys = lazy.key.tuple
            if not all(isinstance(key, slice) and key.step in (None, 1) for key in keys):
                return None
            if keys[2:] and keys[2].indices(lazy.array.shape[2]) != (0, lazy.array.shape[2], 1):
                return None
            low = (low[0] + (keys[0].start or 0), low[1] + (keys[1].start or 0))
        lazy = lazy.array
    found = lazy.get_array() if hasattr(lazy, "get_array") else None
    plain = variable.dims in (("y", "x"), ("y", "x", "band"))
    return (found, low) if plain and isinstance(found, zarr.Array) else None


def _field(
    url: str,
    attributes: dict[str, Any],
    own: UnigeoAttributes,
    grid: Grid,
    read: Callable[[str, slice, slice], np.ndarray],
    cells: Callable[[str], Cells],
    opened: "Callable[[], xr.Dataset]",
    source: Any,
    reopen: tuple[Callable[..., Field], tuple[Any, ...], dict[str, Any]] | None = None,
) -> Field:
    return Field(
        url=url,
        attributes=own,
        grid=grid,
        layout=own.layout.layout(),
        read=read,
        cells=cells,
        opened=opened,
        source=source,
        licence=str(attributes.get("license", "not stated")),
        citation=str(attributes.get("citation", "not stated")),
        reopen=reopen,
    )


def sample(points: Any, url: Any, **options: Any) -> Any:
    """Read the vectors at points from the field at a URL; options as in `Field.sample`."""
    return open_field(url).sample(points, **options)


def join(table: Any, url: Any, **options: Any) -> Any:
    """Join a table to the field at a URL; options as in `Field.join`."""
    return open_field(url).join(table, **options)


def probe(table: Any, url: Any, targets: str | Sequence[str], **options: Any) -> "Probe":
    """Probe the field at a URL with a table; options as in `Field.probe`."""
    return open_field(url).probe(table, targets, **options)
