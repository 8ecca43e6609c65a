"""The store behind a Dataset that xarray opened, and checked reads of its arrays.

Arrays that are still as `open_zarr` left them are read by their stored bytes. Others are read
through dask or xarray, without checks, after looking for their objects in the store. Values that
are in memory already are taken as they are.
"""

from functools import cache, cached_property
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.reading.array_layout import stored_array
from unigeo.client.reading.cell_protocol import Cells
from unigeo.client.reading.cell_reader import StoredCells
from unigeo.client.reading.checked_root import CheckedRoot, open_root
from unigeo.client.reading.generations import ROOT, changed_error
from unigeo.client.reading.object_listing import lost_error, size_error
from unigeo.client.reading.plain_attributes import nested_attributes
from unigeo.client.reading.range_requests import Requests, Span
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.grid import Grid
from unigeo.schemas.geo.window import Window
from unigeo.schemas.io.stores import open_store
from unigeo.schemas.store.attributes import UnigeoAttributes
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.overviews import overview_path

if TYPE_CHECKING:
    import xarray as xr
    import zarr
    from zarr.abc.store import Store


class DatasetStore:
    """The store behind a Dataset, which may be a window of the field."""

    def __init__(self, dataset: "xr.Dataset", attributes: UnigeoAttributes, grid: Grid) -> None:
        """Take the Dataset, its attributes, and the grid of its cells."""
        self.dataset, self.attributes = dataset, attributes
        field_grid = attributes.grid.grid()
        self._first = field_grid.offset_of(grid)
        self._is_full = field_grid == grid
        self._present_keys: set[str] = set()
        self._roots: dict[int, CheckedRoot] = {}
        self._array = cache(self._find_array)

    def store(self) -> "Store":
        """Return the store, opened by the address that xarray left in the Dataset."""
        return self._by_address.group.store

    def cells(self, name: str) -> Cells | None:
        """Return an array's cells, read by their bytes.

        None if the Dataset's values are no longer the store's, or only Zarr can read the array.
        """
        window = self._array(name)
        if window is None:
            return None
        array, first = window
        stored = stored_array(array)
        if stored is None:
            return None
        root = self._root_of(array.store)
        return _OffsetCells(StoredCells(stored, root.source, root.sizes_of(array.path)), first)

    def read(self, name: str, rows: slice, cols: slice) -> np.ndarray:
        """Read a window of an array.

        Raises:
            StoreError: if an object of it is lost.
        """
        window = self._array(name)
        if window is None:
            self._check_objects(name, rows, cols)
            part = self.dataset[name].isel(y=rows, x=cols).transpose("y", "x", ...)
            try:
                return np.asarray(part.values)
            except (ValueError, RuntimeError):  # of codecs that were given other bytes
                self._check_range_requests()
                raise
        array, (row, col) = window
        checked: Any = self._root_of(array.store).group[array.path]
        shape = self.dataset[name].shape
        top, bottom, _ = rows.indices(shape[0])
        left, right, _ = cols.indices(shape[1])
        return np.asarray(checked[row + top : row + bottom, col + left : col + right])

    def checked_dataset(self) -> "xr.Dataset":
        """Return the Dataset with checked reads of the arrays that are still the store's."""
        arrays = self.attributes.field_layout().arrays
        names = [name for array in arrays for name in (array, status_name(array))]
        lazy = {name: self._checked_variable(name) for name in names if self._array(name)}
        checked = {name: variable for name, variable in lazy.items() if variable is not None}
        if "spatial_ref" in self.dataset.coords:  # only its attributes matter: read no value
            checked["spatial_ref"] = self.dataset["spatial_ref"].variable.copy(
                data=np.array(0, np.int32)
            )
        return self.dataset.assign(checked)

    def _checked_variable(self, name: str) -> "xr.Variable | None":
        """Return the same variable, read through the checked store; None without a listing."""
        import xarray as xr

        window = self._array(name)
        assert window is not None
        array, (row, col) = window
        group, _, _ = array.path.rpartition("/")
        root = self._root_of(array.store)
        if root.listing is None:
            return None
        store: Any = root.group.store
        opened = xr.open_zarr(store, group=group or None, zarr_format=3, chunks=None)
        variable = self.dataset[name].variable
        rows, cols = (
            slice(low, low + n) for low, n in zip((row, col), variable.shape, strict=False)
        )
        lazy: xr.Variable = opened.variables[name].isel(y=rows, x=cols)
        lazy.attrs, lazy.encoding = variable.attrs, variable.encoding
        return lazy if variable.chunks is None else lazy.chunk(variable.chunksizes)

    def _find_array(self, name: str) -> "tuple[zarr.Array[Any], tuple[int, int]] | None":
        """Find the Zarr array that a variable lazily reads.

        Returns:
            The array, and its row and column that are the variable's first; None if the variable
            is in memory, was computed, or is no plain window.
        """
        import zarr

        variable = self.dataset[name].variable
        if variable.dims[:2] != ("y", "x"):
            return None
        if variable.chunks is not None:
            # A dask array hides what it reads, but its name tells whether xarray just opened it.
            # Then the array of that name in the store has the same values.
            untouched = str(getattr(variable.data, "name", "")).startswith(f"open_dataset-{name}-")
            if not (self._is_full and untouched and self.address is not None):
                return None
            array = self._by_address.group.get(f"{self._path}/{name}".lstrip("/"))
            return (array, (0, 0)) if isinstance(array, zarr.Array) else None
        # Without dask xarray wraps the array in layers, each of which may add an index key. Go
        # down to the array, and add up where the slices begin.
        lazy: Any = variable._data
        first = (0, 0)
        while hasattr(lazy, "array"):
            if hasattr(lazy, "key"):
                keys = lazy.key.tuple
                if not all(isinstance(key, slice) and key.step in (None, 1) for key in keys):
                    return None
                if keys[2:] and keys[2].indices(lazy.array.shape[2]) != (0, lazy.array.shape[2], 1):
                    return None
                first = (first[0] + (keys[0].start or 0), first[1] + (keys[1].start or 0))
            lazy = lazy.array
        array = lazy.get_array() if hasattr(lazy, "get_array") else None
        if not isinstance(array, zarr.Array) or array.dtype != variable.dtype:
            return None
        return array, first

    @cached_property
    def address(self) -> str | None:
        """The store's address as xarray noted it; None without one, or of a (netCDF) file."""
        address = self.dataset.encoding.get("source")
        is_store = isinstance(address, str) and ("://" in address or not Path(address).is_file())
        return address if is_store else None

    @property
    def _path(self) -> str:
        """Path of the Dataset's group in its store: that of an overview, or the root."""
        overview = (self.attributes.model_extra or {}).get("overview_of")
        return overview_path(overview["factor"]) if isinstance(overview, dict) else ""

    @cached_property
    def _by_address(self) -> CheckedRoot:
        if self.address is None:
            raise StoreError("the Dataset does not say which store it came from")
        address = self.address.removesuffix(f"/{self._path}") if self._path else self.address
        return self._opened(open_store(address))

    def _root_of(self, store: "Store") -> CheckedRoot:
        if id(store) not in self._roots:
            same = "_by_address" in self.__dict__ and store is self._by_address.group.store
            self._roots[id(store)] = self._by_address if same else self._opened(store)
        return self._roots[id(store)]

    def _opened(self, store: "Store") -> CheckedRoot:
        """Open the root of a store.

        Raises:
            DamagedError: if the Dataset's attributes are not of this root.
        """
        building = self.attributes.state != "published"
        root = open_root(store, self.address or store, building=building)
        current: Any = nested_attributes(dict(root.group.attrs)).get("unigeo") or {}
        digests = [
            (self.attributes.model_extra or {}).get("manifest_sha256"),
            current.get("manifest_sha256"),
        ]
        if not self._path and None not in digests and digests[0] != digests[1]:
            raise changed_error(ROOT)
        return root

    def _check_objects(self, name: str, rows: slice, cols: slice) -> None:
        """Check that the objects of a window exist; xarray would read fill values of lost ones."""
        from zarr.core.sync import sync

        variable = self.dataset[name].variable
        in_memory = variable.chunks is None and isinstance(variable._data, np.ndarray)
        if in_memory or self.address is None or self.attributes.state != "published":
            return
        root = self._by_address
        sizes = root.sizes_of(f"{self._path}/{name}".lstrip("/"))()
        if sizes is None:
            return
        side = self.attributes.layout.shard
        shape = (variable.sizes["y"], variable.sizes["x"])  # in whatever order its axes are
        (top, bottom, _), (left, right, _) = rows.indices(shape[0]), cols.indices(shape[1])
        window = Window(top, left, bottom - top, right - left).shifted(*self._first)
        for row, col in product(*window.blocks(side)):
            band = ["0"] if len(variable.dims) == 3 else []
            key = "/".join([f"{self._path}/{name}".lstrip("/"), "c", str(row), str(col), *band])
            if sizes[row, col] and key not in self._present_keys:
                sync(_check_object(root.group.store, key, int(sizes[row, col])))
                self._present_keys.add(key)

    def _check_range_requests(self) -> None:
        """Check that the server answers range requests; xarray does not, and decodes garbage.

        Raises:
            StoreError: if the server ignores them.
        """
        from zarr.core.sync import sync

        if self.address is not None:
            sync(Requests(self._by_address.group.store).request(Span(ROOT, 0, 1)))


async def _check_object(store: "Store", key: str, expected: int) -> None:
    try:
        size = await store.getsize(key)
    except FileNotFoundError as error:
        raise lost_error(key) from error
    if size != expected:
        raise size_error(key, size, expected)


class _OffsetCells:
    """The cells of a window of an array; see `Cells`."""

    def __init__(self, cells: Cells, first: tuple[int, int]) -> None:
        """Take the array's cells, and the row and column that are the window's first."""
        self._cells, self._first = cells, np.array(first)
        self.bands, self.dtype = cells.bands, cells.dtype

    def gather(self, rowcol: np.ndarray, out: np.ndarray, **options: Any) -> None:
        """Read cells into `out`; see `Cells.gather`."""
        self._cells.gather(rowcol + self._first, out, **options)

    def cost(self, rowcol: np.ndarray) -> list[tuple[int, int]]:
        """Return an upper bound of what gathering reads; see `Cells.cost`."""
        return self._cells.cost(rowcol + self._first)
