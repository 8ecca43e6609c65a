"""Make a small folder of the open-CONUS observations, to train on a machine without GDAL and PROJ.

    python -m benchmarks.producer.gpu_data DATA     # DATA: as in docs/results.md; 31 MiB

It holds the rasters as they are, the locations that a training of `conus_open.toml` draws
(`places.npz`: longitude and latitude, the number of each one's text, and the texts as JSON), and
`carried.json`: the georeference of the rasters, and the provenance.
"""

import argparse
import json
import shutil
from pathlib import Path

import numpy as np
import rasterio

from benchmarks.producer.carried import DESCRIPTION, LOCATIONS
from unigeo.producer.observations.folder.description import RasterDescription
from unigeo.producer.observations.folder.folder_observations import FolderObservations
from unigeo.producer.observations.folder.open_folder import open_observations

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "conus_open.toml"
COUNT, SEED = 100_000, 0
"""Number of locations, training and hold-out together, and their seed, as in docs/results.md."""


def carry(observations: FolderObservations, out: Path, count: int = COUNT, seed: int = SEED) -> int:
    """Write the folder, replacing an older one; return its size in bytes.

    Args:
        observations: each raster modality of one file, in EPSG:3857 or EPSG:4326, without gaps.
        out: the folder.
        count: number of locations to draw.
        seed: seed that they are drawn with.
    """
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    rasters = {}
    for name, (source,) in observations.rasters.items():
        path = Path(source.path)
        with rasterio.open(path) as dataset:
            crs, gaps = dataset.crs.to_epsg(), dataset.nodata
        if crs not in (3857, 4326) or gaps is not None or source.affine[1] or source.affine[3]:
            raise SystemExit(f"{path} is not a raster without gaps in EPSG:3857 or EPSG:4326")
        shutil.copyfile(path, out / path.name)
        about = observations.description.modalities[name]
        assert isinstance(about, RasterDescription)
        rasters[name] = {
            "file": path.name,
            "mercator": crs == 3857,
            "affine": source.affine,
            "patch_m": list(about.patch_m),
            "patch_px": about.patch_px,
            "bands": len(source.bands),
            "encoder": observations.form(name).encoder,
        }
    lonlat = observations.locations(count, seed)
    texts = observations.texts(lonlat)
    distinct = sorted({text for text in texts if text is not None})
    number = {text: k for k, text in enumerate(distinct)} | {None: -1}
    np.savez_compressed(
        out / LOCATIONS,
        lonlat=lonlat,
        text=np.array([number[text] for text in texts], np.int32),
        texts=np.frombuffer(json.dumps(distinct).encode(), np.uint8),
    )
    (out / DESCRIPTION).write_text(
        json.dumps(
            {
                "seed": seed,
                "rasters": rasters,
                "about": observations.provenance(),
            }
        ),
        encoding="utf-8",
    )
    return sum(path.stat().st_size for path in out.iterdir())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path, help="folder of data")
    parser.add_argument("--observations", type=Path, default=EXAMPLE)
    parser.add_argument("--out", type=Path, default=Path("build/carried"))
    parser.add_argument("--places", type=int, default=COUNT)
    options = parser.parse_args()
    size = carry(open_observations(options.observations, options.data), options.out, options.places)
    print(f"{options.out}: {size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
