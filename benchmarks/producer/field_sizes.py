"""Measure what `conus-1` would be worth, and weigh, with more or fewer numbers or other cells.

    python -m benchmarks.producer.field_sizes FIELD ... --numbers 64 96 128 256 --at TABLE ...

Each FIELD has fitted `fused` vectors of at least as many numbers, of which the leading ones serve
alone: `benchmarks.producer.conus_1 --numbers 256` makes one. For each number of them: megabytes of
the vectors, compressed as they are stored; of model, field and observations together; and the mean
R2 of the ten properties of the example counties in blocks that were not seen, by the vectors, and
by vectors and position. Covariates are measured beside 96 numbers. `--at` also weighs a second
store of those cells alone that hold a row of the tables, such as places and ZIP areas.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from numcodecs.zstd import Zstd
from safetensors import safe_open

from unigeo import client
from unigeo.producer.observations.open_conus import FOLDER
from unigeo.schemas.io.installed_fields import DEFAULT, installed_folder
from unigeo.schemas.store.layout import CHUNK, COVARIATES, FUSED, status_name
from unigeo.schemas.store.quantization import FILL
from unigeo.schemas.store.status import Status
from unigeo.schemas.tables.points import read_points
from unigeo.schemas.tables.table_files import read_table

NUMBERS = (64, 96, 128, 256)
BESIDE = 96
"""Numbers of the vectors beside which covariates are measured."""
_CHECKED = 20
"""Bytes of a chunk's entry in the index of its shard, and of its checksum."""


def stored_bytes(values: np.ndarray, empty: np.ndarray) -> int:
    """Return the bytes of an array (row col number) in compressed chunks; empty ones are none."""
    total, codec = 0, Zstd(level=3)
    for row in range(0, values.shape[0], CHUNK):
        for col in range(0, values.shape[1], CHUNK):
            window = slice(row, row + CHUNK), slice(col, col + CHUNK)
            if not empty[window].all():
                total += len(codec.encode(np.ascontiguousarray(values[window]))) + _CHECKED
    return total


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def beside_vectors() -> tuple[int, int]:
    """Return the bytes of model, field and observations without the vectors, and without the map.

    Returns:
        Those that do not depend on the numbers of a vector, and those that each number adds.
    """
    folder = installed_folder(DEFAULT)
    with safe_open(folder / "model/model.safetensors", "np") as weights:
        maps = weights.get_tensor("fusion.maps")
    vectors = folder_bytes(folder / "field.zarr" / FUSED)
    rest = folder_bytes(folder) + folder_bytes(FOLDER) - vectors - maps.nbytes
    return rest, maps.nbytes // maps.shape[-1]


def holding(field: client.Field, tables: list[str]) -> np.ndarray:
    """Return whether each cell (row col) holds a row of the tables."""
    found = np.zeros(field.grid.shape, bool)
    for table in tables:
        rowcol, inside = field.grid.locate(read_points(read_table(table), missing="keep").lonlat)
        found[tuple(rowcol[inside].T)] = True
    return found


def measure(address: str, numbers: list[int], tables: list[str]) -> pd.DataFrame:
    """Return a row for each number of the vectors of a field."""
    whole = client.open_field(address)
    chosen = holding(whole, tables)
    counties = client.example("counties")
    targets = counties.attrs["targets"]
    rest, each = beside_vectors()
    rows = []

    def add(field: client.Field, vectors: int, some: int, more: int, covariates: bool) -> None:
        probe = field.probe(
            counties, targets, FUSED, baselines=False, spatial="residuals", covariates=covariates,
            progress=False,
        )  # fmt: skip
        blocked = probe.scores[probe.scores["split"] == "blocked"]
        means = blocked.groupby("features")["score"].mean()
        name = f"{FUSED} + {COVARIATES}" if covariates else FUSED
        rows.append(
            {
                "km": whole.grid.resolution_m / 1000,
                "numbers": f"{field.layout.width(FUSED)}{' + covariates' * covariates}",
                "vectors MB": vectors / 1e6,
                "together MB": (rest + each * field.layout.width(FUSED) + vectors + more) / 1e6,
                "cells of --at": int(chosen.sum()),
                "their vectors MB": some / 1e6,
                "R2": means[name],
                "R2 with position": means[f"{name} + position"],
            }
        )

    status = whole.dataset()[status_name(FUSED)].values
    for count in numbers:
        field = whole.leading(count)
        values = field.dataset()[FUSED].values
        vectors = stored_bytes(values, (values == FILL).all(axis=-1))
        values[~chosen] = FILL
        some = stored_bytes(values, (values == FILL).all(axis=-1))
        add(field, vectors, some, 0, covariates=False)
        if count == BESIDE and whole.covariates.shape[0]:
            plain = whole.dataset()[COVARIATES].values
            more = stored_bytes(plain, status != Status.VALID)
            add(field, vectors, some, more, covariates=True)
    return pd.DataFrame(rows)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fields", nargs="+")
    parser.add_argument("--numbers", type=int, nargs="+", default=list(NUMBERS))
    parser.add_argument("--at", nargs="+", default=[], help="tables of places")
    options = parser.parse_args()
    tables = [measure(address, options.numbers, options.at) for address in options.fields]
    print(pd.concat(tables).round(3).to_string(index=False))


if __name__ == "__main__":
    main()
