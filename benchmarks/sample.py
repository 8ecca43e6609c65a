"""Time `field.sample` beside plain xarray on the same points of the same store.

    python benchmarks/sample.py conus/conus.zarr --points 2000

Prints seconds of each (medians of five interleaved rounds) and their ratio; the two answers are
compared first.
"""

import argparse
import statistics
import time

import numpy as np
import pyproj
import xarray as xr

from unigeo import client


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--points", type=int, default=2000)
    parser.add_argument("--modality", default="aerial")
    options = parser.parse_args()
    field = client.open_field(options.store)
    dataset = xr.open_zarr(options.store, chunks=None)
    status = dataset[f"{options.modality}_status"].values
    rows, cols = np.nonzero(status == 1)
    chosen = np.random.default_rng(0).choice(len(rows), options.points)
    x, y = dataset.x.values[cols[chosen]], dataset.y.values[rows[chosen]]
    to_wgs84 = pyproj.Transformer.from_crs(field.grid.crs, 4326, always_xy=True)
    lonlat = np.stack(to_wgs84.transform(x, y), axis=1)

    def ours() -> np.ndarray:
        return field.sample(lonlat, modalities=[options.modality], as_="numpy")[options.modality]

    def plain() -> np.ndarray:
        at = {"x": xr.DataArray(x, dims="point"), "y": xr.DataArray(y, dims="point")}
        vectors = dataset[options.modality].sel(at, method="nearest").values.astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    assert np.abs(ours() - plain()).max() < 1e-6
    seconds: dict[str, list[float]] = {"unigeo": [], "xarray": []}
    for _ in range(5):
        for name, read in (("unigeo", ours), ("xarray", plain)):
            start = time.perf_counter()
            read()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    print(f"{options.points} points, {field.bands} bands of {options.modality}")
    for name, median in medians.items():
        print(f"{name:8} {median:8.3f} s")
    print(f"ratio    {medians['xarray'] / medians['unigeo']:8.2f} (xarray / unigeo)")


if __name__ == "__main__":
    main()
