"""Time `field.zonal` over a file of polygons, and the memory of the whole process.

    python benchmarks/client/zonal.py conus/conus.zarr counties.parquet
    python benchmarks/client/zonal.py STORE counties.parquet --synthetic 768

With `--synthetic BANDS` the store is made first: random vectors over CONUS at 5 km, three
modalities (2.3 GB at 768 bands), left there for the next run. Prints a line to read and a JSON
line.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

from unigeo import client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("polygons")
    parser.add_argument("--modality", action="append", help="all by default")
    parser.add_argument("--synthetic", type=int, metavar="BANDS")
    options = parser.parse_args()
    if options.synthetic and not Path(options.store).exists():
        make(options.store, options.synthetic)
        print(f"made {options.store}; run again without --synthetic to measure")
        return
    start, cpu = time.perf_counter(), time.process_time()
    field = client.open_field(options.store)
    table = field.zonal(options.polygons, options.modality)
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    modalities = options.modality or field.modalities
    valid = float(table[f"{modalities[0]}_share"].mean())
    print(
        f"{len(table)} polygons, {len(modalities)} modalities of {field.bands} bands: "
        f"{seconds:.2f} s ({cpu_seconds:.2f} s of CPU), peak {peak_mb:.0f} MB, mean valid share "
        f"{valid:.3f}"
    )
    print(
        json.dumps(
            {
                "polygons": len(table),
                "modalities": list(modalities),
                "bands": field.bands,
                "seconds": round(seconds, 2),
                "cpu_seconds": round(cpu_seconds, 2),
                "peak_mb": round(peak_mb),
            }
        )
    )


def make(url: str, bands: int) -> None:
    """Publish a store of random vectors over CONUS at 5 km, in shards of 256 x 256 cells."""
    from unigeo.producer.publishing.publish import publish
    from unigeo.producer.storage.field_store import create_field
    from unigeo.schemas.geo.regions import region
    from unigeo.schemas.store.attributes import root_attributes
    from unigeo.schemas.store.layout import Layout, status_name
    from unigeo.schemas.store.status import Status

    conus = region("conus")
    grid, layout = (
        conus.grid(5000.0),
        Layout(modalities=("coordinate", "aerial", "dsm"), bands=bands),
    )
    attributes = root_attributes(
        region="conus", grid=grid, layout=layout, model_name="random", model_sha256="0" * 64,
        model_settings={}, observations={"name": "none"}, seed=0, code_version="0",
    )  # fmt: skip
    group = create_field(url, grid, layout, attributes)
    rng = np.random.default_rng(0)
    for window in grid.windows(layout.shard):
        shape = (window.height, window.width)
        for name in layout.modalities:
            group[name][window.slices] = rng.integers(-127, 128, (*shape, bands), np.int8)
            group[status_name(name)][window.slices] = np.full(shape, Status.VALID, np.uint8)
    publish(group, encoder={"matrix": np.eye(2, dtype=np.float32)}, encoder_settings={})


if __name__ == "__main__":
    main()
