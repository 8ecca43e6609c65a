"""What stands behind a Dataset that xarray opened: the store's own arrays, read checked.

Arrays that are still as `open_zarr` left them are read by their stored bytes. Of others, which dask
or xarray reads lazily from the store without a check, the objects are looked for first. What is in
memory already is taken as it is.
"""

from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unigeo.client.reading.array_layout import stored_array
from unigeo.client.reading.cell_reader import StoredCells
from unigeo.client.reading.checked_root import CheckedRoot, open_root
from unigeo.client.reading.generations import ROOT, changed
from unigeo.client.reading.object_listing import lost, short
from unigeo.client.reading.plain_attributes import nested_attributes
from unigeo.client.reading.protocol import Cells
from unigeo.client.reading.range_requests import Requests, Span
from unigeo.schemas.errors import StoreError
from unigeo.schemas.geo.grid import Grid
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

    def __init__(self, dataset: "xr.Dataset", own: UnigeoAttributes, grid: Grid) -> None:
        """Take the Dataset, its attributes, and the grid of its cells."""
        self.dataset, self.own = dataset, own
        whole = own.grid.grid()
        self._low = grid.row0 - whole.row0, grid.col0 - whole.col0
        self._is_whole = whole == grid
        self._there: set[str] = set()
        self._roots: dict[int, CheckedRoot] = {}
        self._array = cache(self._find_array)

    def store(self) -> "Store":
        """The store, by the address that xarray left in the Dataset."""
        return self._by_address.group.store

    def cells(self, name: str) -> Cells | None:
        """An array's cells by their bytes; None if the Dataset's values are others, or no bytes."""
        found = self._array(name)
        stored = None if found is None else stored_array(found[0])
        if found is None or stored is None:
            return None
        root = self._root_of(found[0].store)
        return _Shifted(StoredCells(stored, root.source, root.sizes_of(found[0].path)), found[1])

    def read(self, name: str, rows: slice, cols: slice) -> np.ndarray:
        """A window of an array.

        Raises:
            StoreError: if an object of it is lost.
        """
        found = self._array(name)
        if found is None:
            self._look_for(name, rows, cols)
            part = self.dataset[name].isel(y=rows, x=cols).transpose("y", "x", ...)
            try:
                return np.asarray(part.values)
            except (ValueError, RuntimeError):  # from codecs, which had other bytes than they asked
                self._look_for_ranges()
                raise
        array, (row, col) = found
        checked: Any = self._root_of(array.store).group[array.path]
        shape = self.dataset[name].shape
        top, bottom, _ = rows.indices(shape[0])
        left, right, _ = cols.indices(shape[1])
        return np.asarray(checked[row + top : row + bottom, col + left : col + right])

    def checked_dataset(self) -> "xr.Dataset":
        """The Dataset, with the arrays that are still the store's own read checked."""
        own = [name for m in self.own.layout.modalities for name in (m, status_name(m))]
        checked = {name: self._checked(name) for name in own if self._array(name) is not None}
        checked = {name: v for name, v in checked.items() if v is not None}
        if "spatial_ref" in self.dataset.coords:  # says all in its attributes
            checked["spatial_ref"] = self.dataset["spatial_ref"].variable.copy(
                data=np.array(0, np.int32)
            )
        return self.dataset.assign(checked)

    def _checked(self, name: str) -> "xr.Variable | None":
        """A variable as it is, but for where it is read from."""
        import xarray as xr

        found = self._array(name)
        assert found is not None
        array, (row, col) = found
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
        """The Zarr array that a variable still lazily is, and the first row and column it takes."""
        import zarr

        variable = self.dataset[name].variable
        if variable.dims[:2] != ("y", "x"):
            return None
        if variable.chunks is not None:
            # dask: only an array that nothing was done to yet, read again from where it came.
            untouched = str(getattr(variable.data, "name", "")).startswith(f"open_dataset-{name}-")
            if not (self._is_whole and untouched and self.address is not None):
                return None
            found = self._by_address.group.get(f"{self._path}/{name}".lstrip("/"))
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
        if not isinstance(found, zarr.Array) or found.dtype != variable.dtype:
            return None
        return found, low

    @cached_property
    def address(self) -> str | None:
        """Where xarray says that the Dataset came from; None of a file, which is no store."""
        address = self.dataset.encoding.get("source")
        known = isinstance(address, str) and ("://" in address or not Path(address).is_file())
        return address if known else None

    @property
    def _path(self) -> str:
        """Where the Dataset's group stands in its store."""
        overview = (self.own.model_extra or {}).get("overview_of")
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
        """The root of a store.

        Raises:
            DamagedError: if it is another than the one whose attributes the Dataset has.
        """
        root = open_root(store, self.address or store, building=self.own.state != "published")
        found: Any = nested_attributes(dict(root.group.attrs)).get("unigeo") or {}
        digests = [
            (self.own.model_extra or {}).get("manifest_sha256"),
            found.get("manifest_sha256"),
        ]
        if not self._path and None not in digests and digests[0] != digests[1]:
            raise changed(ROOT)
        return root

    def _look_for(self, name: str, rows: slice, cols: slice) -> None:
        """Refuse a window some of whose objects are lost, where xarray itself would fill in."""
        from zarr.core.sync import sync

        variable = self.dataset[name].variable
        in_memory = variable.chunks is None and isinstance(variable._data, np.ndarray)
        if in_memory or self.address is None or self.own.state != "published":
            return
        root = self._by_address
        sizes = root.sizes_of(f"{self._path}/{name}".lstrip("/"))()
        if sizes is None:
            return
        side = self.own.layout.shard
        shape = (variable.sizes["y"], variable.sizes["x"])  # in whatever order its axes are
        edges = [
            (low + part.indices(n)[0], low + part.indices(n)[1])
            for low, part, n in zip(self._low, (rows, cols), shape, strict=True)
        ]
        (top, bottom), (left, right) = edges
        for row in range(top // side, -(-bottom // side)):
            for col in range(left // side, -(-right // side)):
                rest = ["0"] if len(variable.dims) == 3 else []
                key = "/".join([f"{self._path}/{name}".lstrip("/"), "c", str(row), str(col), *rest])
                if sizes[row, col] and key not in self._there:
                    sync(_look_for(root.group.store, key, int(sizes[row, col])))
                    self._there.add(key)

    def _look_for_ranges(self) -> None:
        """Refuse a server that ignores ranges, which what xarray reads with may take for an answer.

        Raises:
            StoreError: if it does.
        """
        from zarr.core.sync import sync

        if self.address is not None:
            sync(Requests(self._by_address.group.store).one(Span(ROOT, 0, 1)))


async def _look_for(store: "Store", key: str, expected: int) -> None:
    try:
        size = await store.getsize(key)
    except FileNotFoundError as error:
        raise lost(key) from error
    if size != expected:
        raise short(key, size, expected)


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
