"""Time the building and the reading of a set of observations.

    python -m benchmarks.producer.observe            # two threads; about three minutes
    python -m benchmarks.producer.observe --quick    # a tenth of it

Prints, one JSON line each:

* `build`: locations per second for aerial + DSM windows of 256 px from local tiled GeoTIFFs
  (0.6 m; JPEG and PNG written into shards), and from the same files behind a web server that
  waits 30 ms before each answer. Goal, for the local ones: 60.
* `read`: samples per second of a finished set, decoded, in the order of an epoch: `tiny` (an
  image and heights of 32 px) and `full` (an image, heights and a street image of 224 px),
  beside a plain PyTorch DataLoader of two workers over the same bytes as loose files, in turns; the
  median of three.
"""

import argparse
import io
import json
import statistics
import tempfile
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import torch
from PIL import Image
from rasterio.transform import from_origin

from benchmarks.client.link import StoreLink
from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from unigeo.producer.observations.observation_set.set_observations import SetObservations
from unigeo.producer.sources.build_set import observe_set, prepare
from unigeo.producer.sources.set_description import (
    ImageryRules,
    LocationRules,
    SetDescription,
    SetStorage,
    StreetRules,
    SurfaceRules,
)

BOX = (-77.06, 38.80, -77.03, 38.82)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    few = 10 if options.quick else 1
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name, StoreLink(Path(name), latency_s=0.03) as link:
        folder = Path(name)
        rasters(folder)
        street_images(folder)
        count = 600 // few
        for what, base in (("build", name), ("build over HTTP", link.url)):
            start, cpu = time.perf_counter(), time.process_time()
            build(folder, what, count, 256, 0.6, base=base)
            rate = count / (time.perf_counter() - start)
            busy = count / (time.process_time() - cpu)
            tell(
                what, side_px=256, locations=count, per_s=round(rate, 1),
                per_cpu_s=round(busy, 1), goal=60 if base == name else None,
            )  # fmt: skip
        for what, side, count, goal in (("tiny", 32, 1200, 2000), ("full", 224, 400, 300)):
            full = what == "full"
            built = build(folder, what, count // few, side, 0.6 * 256 / side, street=full)
            loose = files(folder / f"{what}-loose", built)
            rates: dict[str, list[float]] = {"set": [], "loose": []}
            for epoch in range(3):
                rate = timed(len(built.members), lambda e=epoch, s=built: list(s.epoch(e)))
                rates["set"].append(rate)
                rates["loose"].append(timed(len(loose), lambda d=loose: list(loader(d))))
            tell(
                f"read {what}", side_px=side, samples=len(loose), images=len(loose.paths[0]),
                goal=goal, set_per_s=round(statistics.median(rates["set"])),
                loose_files_per_s=round(statistics.median(rates["loose"])),
            )  # fmt: skip


def tell(what: str, **numbers: Any) -> None:
    print(json.dumps({"what": what} | numbers), flush=True)


def rasters(folder: Path) -> None:
    """An aerial image and a surface model of 3 x 3 km, with the detail of real ones."""
    rng = np.random.default_rng(0)
    side = 5000
    coarse = rng.integers(30, 220, (3, side // 20, side // 20)).repeat(20, 1).repeat(20, 2)
    aerial = np.clip(coarse + rng.normal(0, 8, (3, side, side)), 0, 255).astype(np.uint8)
    heights = rng.uniform(0, 12, (side // 20, side // 20)).repeat(20, 0).repeat(20, 1)
    heights += rng.normal(0, 0.1, (side, side))
    for name, values in (("aerial_20220601.tif", aerial), ("dsm.tif", heights[None])):
        with rasterio.open(
            folder / name, "w", driver="GTiff", width=side, height=side, count=len(values),
            dtype="uint8" if len(values) == 3 else "float32", crs=32618, tiled=True,
            blockxsize=512, blockysize=512, transform=from_origin(320_500, 4_298_900, 0.6, 0.6),
            compress="deflate", predictor=2 if len(values) == 3 else 3, interleave="pixel",
        ) as raster:  # fmt: skip
            raster.write(values)


def street_images(folder: Path) -> None:
    """A street image of 640 x 480 every 100 m or so, with the detail of real ones."""
    rng = np.random.default_rng(1)
    (folder / "street").mkdir()
    lines = ["file,lat,lon,heading_deg"]
    for k, (lon, lat) in enumerate(product(*(np.linspace(BOX[i], BOX[i + 2], 24) for i in (0, 1)))):
        coarse = rng.integers(30, 220, (24, 32, 3)).repeat(20, 0).repeat(20, 1)
        pixels = np.clip(coarse + rng.normal(0, 8, coarse.shape), 0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / "street" / f"{k}.jpg", quality=90)
        lines.append(f"{k}.jpg,{lat:.6f},{lon:.6f},{k % 360}")
    (folder / "street.csv").write_text("\n".join(lines) + "\n")


def build(
    folder: Path, name: str, count: int, side: int, resolution_m: float,
    base: str = "", street: bool = False,
) -> SetObservations:  # fmt: skip
    """Build a set of aerial images and heights, and of street images if `street`."""
    base = base or str(folder)
    how: dict[str, Any] = {"kind": "files", "patch_px": side, "resolution_m": resolution_m}
    table = SetDescription(
        name=name,
        licence="CC0-1.0",
        where=LocationRules(bbox=BOX, count=count, per_cell=8),
        kept=SetStorage(shard_level=12, shard_places=64),
        aerial=ImageryRules(files=(f"{base}/aerial_20220601.tif",), **how),
        street=StreetRules(
            kind="folder",
            files=str(folder / "street" / "*.jpg"),
            table=str(folder / "street.csv"),
            licence="CC0-1.0",
            blurred=True,
            radius_m=150,
            patch_px=side,
        )
        if street
        else None,
        dsm=SurfaceRules(files=(f"{base}/dsm.tif",), **how),
    )
    return observe_set(prepare(table), str(folder / name))


class LooseFiles(torch.utils.data.Dataset[list[np.ndarray]]):
    """The images of a set, a file each."""

    def __init__(self, paths: list[list[Path]], numbers: list[tuple[float, float]]) -> None:
        self.paths, self.numbers = paths, numbers

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, row: int) -> list[np.ndarray]:
        images = []
        for path in self.paths[row]:
            image = Image.open(io.BytesIO(path.read_bytes()))
            if path.suffix == ".dsm":
                codes, (offset_m, scale_m) = np.asarray(image), self.numbers[row]
                metres = np.where(codes > 0, offset_m + scale_m * (codes - 1.0), np.nan)
                images.append(metres.astype(np.float32))
            else:
                images.append(np.moveaxis(np.array(image.convert("RGB")), 2, 0))
        return images


def files(folder: Path, built: SetObservations) -> LooseFiles:
    """Write the bytes of a set as loose files."""
    folder.mkdir()
    paths, numbers = [], []
    modalities, index = list(built.about["shapes"]), built.rows
    for row in built.members:
        if any(index[f"{modality}_reason"][row] for modality in modalities):
            continue
        row_paths = []
        for modality in modalities:
            span = (int(index[f"{modality}_at"][row]), int(index[f"{modality}_bytes"][row]))
            shard = f"shards/{int(index['shard'][row]):06d}.tar"
            path = folder / f"{row:08d}.{modality}"
            path.write_bytes(built.store.ranges(shard, [span])[0])
            row_paths.append(path)
        paths.append(row_paths)
        numbers.append((float(index["dsm_offset_m"][row]), float(index["dsm_scale_m"][row])))
    return LooseFiles(paths, numbers)


def loader(data: LooseFiles) -> Any:
    return torch.utils.data.DataLoader(data, batch_size=64, shuffle=True, num_workers=2)


def timed(count: int, work: Any) -> float:
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


if __name__ == "__main__":
    main()
