"""A reader written from `docs/store.md` alone, with json and numpy, reads what the client reads."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyproj import Transformer

from unigeo import client


class Stranger:
    """Knows the page, and no Zarr and no unigeo."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        root = json.loads((folder / "zarr.json").read_bytes())
        self.nodes = root["consolidated_metadata"]["metadata"]
        self.own = root["attributes"]["unigeo"]
        if self.own["layout_version"] > 2 or self.own["state"] != "published":
            raise ValueError("not for this reader")
        self.grid, self.layout = self.own["grid"], self.own["layout"]

    def whole(self, name: str) -> np.ndarray:
        """An array of one piece."""
        node = self.nodes[name]
        dtype = np.dtype(node["data_type"]).newbyteorder("<")
        piece = self.folder.joinpath(name, "c", *["0"] * len(node["shape"]))
        return np.frombuffer(piece.read_bytes(), dtype).reshape(node["shape"])

    def cell(self, x: float, y: float) -> tuple[int, int]:
        """Row and column of a point."""
        size = self.grid["resolution_m"]
        row, col = np.ceil(-y / size) - 1 - self.grid["row0"], x // size - self.grid["col0"]
        return int(row), int(col)

    def status(self, modality: str, row: int, col: int) -> int:
        side = self.layout["shard"]
        shard = self.folder / f"{modality}_status/c/{row // side}/{col // side}"
        return shard.read_bytes()[row % side * side + col % side]

    def vector(self, modality: str, row: int, col: int) -> np.ndarray | None:
        """The stored bytes of a cell's vector."""
        side, chunk = self.layout["shard"], self.layout["chunk"]
        shard = self.folder / f"{modality}/c/{row // side}/{col // side}/0"
        if not shard.exists():
            return None
        row, col, across = row % side, col % side, side // chunk
        width = self.layout.get("widths", {}).get(modality, self.layout["bands"])
        with shard.open("rb") as opened:
            opened.seek(-(16 * across**2 + 4), 2)
            index = np.frombuffer(opened.read(16 * across**2), "<u8").reshape(-1, 2)
            offset, _ = index[row // chunk * across + col // chunk].tolist()
            if offset == 2**64 - 1:
                return None
            opened.seek(offset + (row % chunk * chunk + col % chunk) * width)
            vector = np.frombuffer(opened.read(width), np.int8)
        return None if vector[0] == -128 else vector

    def manifest_digest(self) -> str:
        """What `unigeo.manifest_sha256` should be."""
        files = sorted(
            (file.relative_to(self.folder).as_posix(), file)
            for file in (self.folder / "manifest").rglob("*")
            if file.is_file()
        )
        lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {key}\n" for key, f in files]
        return hashlib.sha256("".join(lines).encode()).hexdigest()


@pytest.fixture(params=["layout1", "layout2", "gulf", "wide"])
def store(request: pytest.FixtureRequest, past: dict[str, Path]) -> Path:
    if request.param in past:
        return past[request.param]
    path: Path = request.getfixturevalue(request.param)
    return path


def test_fifty_cells_are_what_the_client_reads(store: Path) -> None:
    stranger, field = Stranger(store), client.open_field(store)
    rng = np.random.default_rng(0)
    lonlat = rng.uniform((-20, -15), (25, 18), (50, 2))
    lonlat[:2] = (5, 5), (22, 15)  # on water, and where aerial sees nothing
    metres = Transformer.from_crs("OGC:CRS84", stranger.grid["crs"], always_xy=True).transform(
        *lonlat.T
    )
    sampled: Any = field.sample(lonlat, field.modalities, as_="xarray", dtype="int8")
    units: Any = field.sample(lonlat, field.modalities, as_="numpy")
    seen = set()
    for modality in stranger.layout["modalities"]:
        for number, (x, y) in enumerate(zip(*metres, strict=True)):
            row, col = stranger.cell(x, y)
            status = stranger.status(modality, row, col)
            vector = stranger.vector(modality, row, col)
            assert status == sampled[f"{modality}_status"].values[number]
            assert (vector is not None) == (status == 1)
            seen.add(status)
            if vector is None:
                assert (sampled[modality].values[number] == -128).all()
                continue
            assert np.array_equal(vector, sampled[modality].values[number])
            wide = vector.astype(np.float64)
            unit = wide / np.sqrt((wide * wide).sum())
            assert np.allclose(unit, units[modality][number], rtol=0, atol=1e-6)
    assert {1, 3, 5} <= seen


def test_the_lattice_is_where_the_page_says(store: Path) -> None:
    stranger = Stranger(store)
    grid, size = stranger.grid, stranger.grid["resolution_m"]
    rows, cols = grid["shape"]
    x, y = stranger.whole("x"), stranger.whole("y")
    assert np.array_equal(x, (grid["col0"] + np.arange(cols) + 0.5) * size)
    assert np.array_equal(y, -(grid["row0"] + np.arange(rows) + 0.5) * size)
    for row, col in ((0, 0), (5, 7), (rows - 1, cols - 1)):
        assert stranger.cell(x[col], y[row]) == (row, col)
        assert stranger.cell(x[col] - size / 2, y[row] - size / 2) == (row, col), "south-west"


def test_the_manifest_is_hashed_as_the_page_says(store: Path) -> None:
    stranger = Stranger(store)
    assert stranger.manifest_digest() == stranger.own["manifest_sha256"]
    held = stranger.whole("manifest/root_attributes").tobytes()
    assert hashlib.sha256(held).hexdigest() == stranger.own["attributes_sha256"]
    keys = stranger.whole("manifest/objects_keys").tobytes().decode().splitlines()
    hashes = stranger.whole("manifest/objects_sha256")
    sizes = stranger.whole("manifest/objects_bytes")
    listed = {key: (hashes[k].tobytes(), int(sizes[k])) for k, key in enumerate(keys)}
    for name in stranger.nodes:
        if f"manifest/{name}_sha256" not in stranger.nodes:
            continue
        sha256, size = (stranger.whole(f"manifest/{name}_{part}") for part in ("sha256", "bytes"))
        rest = ["0"] * (len(stranger.nodes[name]["shape"]) - 2)
        for row, col in np.ndindex(*size.shape):
            key = "/".join([name, "c", str(row), str(col), *rest])
            if size[row, col]:
                listed[key] = (sha256[row, col].tobytes(), int(size[row, col]))
    stored = {
        file.relative_to(store).as_posix(): file.read_bytes()
        for file in store.rglob("*")
        if file.is_file()
    }
    others = {key for key in stored if key != "zarr.json" and not key.startswith("manifest/")}
    assert others == set(listed)
    for key, (sha256, size) in listed.items():
        assert (hashlib.sha256(stored[key]).digest(), len(stored[key])) == (sha256, size)


def test_the_page_names_every_array_and_no_other(wide: Path, past: dict[str, Path]) -> None:
    """A stored array that the page does not describe is a gap in it."""
    page = (Path(__file__).parents[1] / "docs/store.md").read_text()
    known = {
        "x",
        "y",
        "band",
        "spatial_ref",
        "covariates",
        "name",
        "phrases",
        "vectors",
        "shard_bounds",
        "rgb",
    }
    known |= {"objects_keys", "objects_sha256", "objects_bytes", "root_attributes"}
    ends = ("_status", "_axes", "_stretch", "_sha256", "_bytes", "_valid_cells", "_run", "_task")
    for name in [*known, *ends, "band_<n>", "axis0_<n>", "phrase_byte", "key_byte", "frequencies"]:
        assert name in page, name
    for store in (wide, past["layout2"]):
        stranger = Stranger(store)
        for path, node in stranger.nodes.items():
            group, _, name = path.rpartition("/")
            if node["node_type"] == "array" and group.split("/")[0] != "encoder":
                own = stranger.layout["modalities"]
                described = name in {*known, *own} or name.endswith(ends)
                assert described or name in ("band_3", "band_12"), path
