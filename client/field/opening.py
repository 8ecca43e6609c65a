"""Ways to a field: from a URL, from a Zarr store, from a Dataset that xarray opened."""

from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from unigeo.client.field.field import Field
from unigeo.client.reading.array_layout import stored_array
from unigeo.client.reading.cell_reader import StoredCells
from unigeo.client.reading.checked_root import errors_naming, open_root
from unigeo.client.reading.dataset_variables import check_variables
from unigeo.client.reading.datasets import DatasetStore
from unigeo.client.reading.plain_attributes import nested_attributes
from unigeo.client.reading.protocol import Cells, WindowCells
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
from unigeo.schemas.store.layout import COVARIATES, Layout, status_name
from unigeo.schemas.store.overviews import overview_path

if TYPE_CHECKING:
    import xarray as xr
    import zarr
    from zarr.abc.store import Store

    from unigeo.client.probing.probe import Probe

_REQUEST_TIMEOUT_S = 30.0


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
        ForeignError: if its metadata are cut off, or not those of a unigeo field.
        LayoutError: if it is of a newer layout, or has no such overview.
    """
    import zarr

    if region is not None or release is not None or str(url).endswith(".json"):
        from unigeo.client.field.catalogues import store_of_catalogue

        url = store_of_catalogue(str(url), region, release, timeout_s=timeout_s)
    url = absolute_url(url)
    store = open_store(url, timeout_s=timeout_s)
    root = open_root(store, url, building=allow_building and overview is None)
    path = "" if overview is None else _overview_path(root.group, url, overview)
    group = cast("zarr.Group", root.group[path]) if path else root.group
    attributes = dict(group.attrs)
    own = read_attributes(attributes, str(url))
    if own.state != "published" and not allow_building:
        raise StoreError(
            f"the field at {url} is still being built; open it with allow_building=True, or run "
            "unigeo-produce again to finish it"
        )
    try:
        _check_arrays(group, own, url)
    except MALFORMED as error:
        if isinstance(error, UnigeoError):
            raise
        raise ForeignError(
            f"metadata of the field at {url} are cut off, or foreign: {error}. Copy the store anew"
        ) from error
    layout = own.field_layout()

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

    @cache
    def cells(name: str) -> Cells:
        array = group.get(name)
        if not isinstance(array, zarr.Array):
            raise LayoutError(f"the field says it has {name!r}, and its store has no such array")
        stored = stored_array(array)
        if stored is None:
            return _windows(name, read, layout)
        return StoredCells(stored, root.source, root.sizes_of(array.path))

    return _field(
        str(url),
        attributes,
        own,
        own.grid.grid(),
        read,
        cells,
        opened,
        source=url,
        checked=lambda: root.group.store,
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

    layout, shape = own.field_layout(), own.grid.shape
    wanted: dict[str, tuple[int, ...]] = {"y": shape[:1], "x": shape[1:]}
    wanted |= {name: (width,) for name, width in layout.band_dimensions.items()}
    for modality in layout.modalities:
        wanted |= {modality: (*shape, layout.width(modality)), status_name(modality): shape}
    if layout.covariates:
        wanted[COVARIATES] = (*shape, len(layout.covariates))
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


def _overview_path(root: "zarr.Group", url: Any, factor: int) -> str:
    """Where an overview stands in a store.

    Raises:
        LayoutError: if the store has none of this factor; it names those that there are.
    """
    import zarr

    from unigeo.schemas.store.overviews import GROUP as OVERVIEWS

    held = dict(root[OVERVIEWS].attrs).get("factors") if OVERVIEWS in root else None
    factors = [one for one in held if isinstance(one, int)] if isinstance(held, list) else []
    if factor not in factors:
        there = f"it has {', '.join(map(str, factors))}" if factors else "it has none"
        raise LayoutError(f"the field at {url} has no overview of factor {factor}; {there}")
    path = overview_path(factor)
    if not isinstance(root.get(path), zarr.Group):
        raise LayoutError(f"the store at {url} says it has {path!r}, and lacks it: copy it anew")
    return path


def field_of_dataset(dataset: "xr.Dataset") -> Field:
    """The field behind a Dataset from `xr.open_zarr`, or behind a window cut from one.

    Arrays that are still as `open_zarr` left them are read by their stored bytes; whatever else was
    made of them is read through the Dataset.

    Raises:
        LayoutError: if the Dataset is no field, its cells were thinned or reordered, or its vectors
            are not whole or not as they were stored.
    """
    attributes = nested_attributes(dataset.attrs)
    own = read_attributes(attributes, "the Dataset")
    whole = own.grid.grid()
    held = tuple(m for m in own.layout.modalities if {m, status_name(m)} <= set(dataset))
    if not held or not {"x", "y"} <= set(dataset.coords):
        raise LayoutError(
            "the Dataset lacks the field's arrays; keep x, y and, of one modality at least, the "
            f"vectors and the status: {', '.join(own.layout.modalities)}"
        )
    covariates = own.layout.covariates if COVARIATES in dataset else ()
    changed = {"modalities": held, "covariates": covariates}
    own = own.model_copy(update={"layout": own.layout.model_copy(update=changed)})
    check_variables(dataset, own.field_layout())
    x, y = dataset["x"].values, dataset["y"].values
    if not (x.size and y.size):
        raise LayoutError(f"the Dataset has no cells: {len(y)} rows, {len(x)} columns")
    for name, values in (("x", x), ("y", y)):
        if not np.isfinite(values).all():
            raise DamagedError(
                f"the coordinate {name!r} of the Dataset holds no numbers: {name}/c/0 of the store "
                "is lost, which xarray does not say. Copy the store anew"
            )
    grid = whole.of_centres(x, y)
    if not (np.array_equal(grid.x, x) and np.array_equal(grid.y, y)):
        raise LayoutError("the Dataset's cells were thinned or reordered; sample the whole one")
    behind = DatasetStore(dataset, own, grid)

    @cache
    def cells(name: str) -> Cells:
        return behind.cells(name) or _windows(name, behind.read, own.field_layout())

    source = behind.address
    return _field(
        str(source or "a Dataset"),
        attributes,
        own,
        grid,
        behind.read,
        cells,
        behind.checked_dataset,
        source=source,
        checked=None if source is None else behind.store,
    )


def _windows(
    name: str, read: Callable[[str, slice, slice], np.ndarray], layout: Layout
) -> WindowCells:
    vectors = name in layout.modalities
    return WindowCells(
        lambda rows, cols: read(name, rows, cols),
        bands=layout.width(name) if vectors else 1,
        dtype=np.dtype(np.int8 if vectors else np.uint8),
        object_cells=(layout.shard, layout.shard),
        chunk_cells=(layout.chunk, layout.chunk),
    )


def _field(
    url: str,
    attributes: dict[str, Any],
    own: UnigeoAttributes,
    grid: Grid,
    read: Callable[[str, slice, slice], np.ndarray],
    cells: Callable[[str], Cells],
    opened: "Callable[[], xr.Dataset]",
    source: Any,
    checked: "Callable[[], Store] | None" = None,
    reopen: tuple[Callable[..., Field], tuple[Any, ...], dict[str, Any]] | None = None,
) -> Field:
    return Field(
        url=url,
        attributes=own,
        grid=grid,
        layout=own.field_layout(),
        read=read,
        cells=cells,
        opened=opened,
        source=source,
        checked=checked,
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
