"""Measure how much of plain numbers the vectors of a store keep.

    python -m benchmarks.producer.kept_numbers conus/conus.zarr --data DATA     # about two minutes

At the centres of the cells that hold the counties and a fifth of the ZIP areas of DATA, heights,
lights and colours of the rasters of docs/examples/conus_open.toml are read from the vectors of the
same view, by ridge and by a kernel. Prints a JSON line for each: R2 in blocks of 300 km that were
not seen.
"""

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.producer import uninstalled  # noqa: F401 - before unigeo
from unigeo import client
from unigeo.client.probing.cross_validation import probe_table
from unigeo.producer.api import open_observations
from unigeo.producer.evaluation.handmade.number_recipe import load_recipe
from unigeo.producer.evaluation.handmade.write_numbers import write_numbers

EXAMPLES = Path(__file__).parents[2] / "docs/examples"
NUMBERS = {
    "dsm": ("dsm_point", "dsm_39km_range"),
    "nightlights": ("nightlights_4km_log1p_mean",),
    "aerial": ("aerial_red_4km_mean", "aerial_green_4km_mean", "aerial_blue_4km_mean"),
}
"""Numbers of numbers43.toml by the modality whose vectors keep them: the height of the point and
the relief round it, the light, and the colour."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", help="address of a field of the contiguous United States")
    parser.add_argument("--data", type=Path, required=True, help="folder of rasters and tables")
    options = parser.parse_args()
    field = client.open_field(options.store)
    centres = cell_centres(field, locations(options.data))
    numbers = numbers_at(centres, options.data)
    for modality, names in NUMBERS.items():
        sampled = field.sample(centres, modality)
        columns = [name for name in sampled if name.removeprefix(f"{modality}_").isdigit()]
        vectors = sampled[columns].to_numpy(np.float32)
        targets = {name: numbers[name].to_numpy(float) for name in names}
        scores = probe_table(
            {modality: vectors}, targets, centres, block_km=300, baselines=False, kernel=True
        )
        for _, line in scores[scores["split"] == "blocked"].iterrows():
            shown = {key: line[key] for key in ("target", "features", "points")}
            print(json.dumps(shown | {"R2": round(line["score"], 4)}), flush=True)


def locations(data: Path) -> np.ndarray:
    """Return longitudes and latitudes of the counties and of 6,000 ZIP areas."""
    counties = pd.read_parquet(data / "tables/county_health.parquet")[["lon", "lat"]]
    areas = pd.read_parquet(data / "tables/zcta_poverty.parquet")[["lon", "lat"]]
    some = areas.sample(6000, random_state=0)
    return pd.concat([counties, some]).dropna().to_numpy(float)


def cell_centres(field: client.Field, lonlat: np.ndarray) -> np.ndarray:
    """Return longitude and latitude of the centres of the cells that hold the points."""
    rowcol, inside = field.grid.locate(lonlat)
    rows, cols = np.unique(rowcol[inside], axis=0).T
    return field.grid.centres()[rows, cols]


def numbers_at(lonlat: np.ndarray, data: Path) -> pd.DataFrame:
    """Compute the hand-made numbers at points."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "tables").mkdir()
        table = pd.DataFrame(lonlat, columns=["lon", "lat"]).assign(number=range(len(lonlat)))
        table.to_parquet(Path(folder, "tables/centres.parquet"))
        suite = Path(folder, "centres.toml")
        suite.write_text("[[table]]\nfile = 'tables/centres.parquet'\ntargets = ['number']\n")
        observations = open_observations(EXAMPLES / "conus_open.toml", data)
        recipe = load_recipe(EXAMPLES / "numbers43.toml")
        out = Path(folder, "numbers")
        write_numbers(observations, [suite], Path(folder), out, recipe)
        return pd.read_parquet(out / "points/centres.parquet")


if __name__ == "__main__":
    main()
