"""Writes `client/examples/counties.csv.gz` and its datasheet `counties.json`.

    python tests/data/make_counties_example.py TABLES

TABLES is a folder with the four files in `INPUTS`: the counties of the 48 states and DC, and
tables of health, of society and of the environment by county.
"""

import gzip
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

OUT = Path(__file__).parents[2] / "client" / "examples"
INPUTS = {
    "counties": "US Census Bureau: names, codes and inner points of counties",
    "county_health": "CDC PLACES, release 2020",
    "county_socioeconomic": "US Census Bureau, SAIPE 2018, ACS 2014-18 and estimates of 2018",
    "county_environment": "NOAA nClimDiv 2019; fine particles of Wu et al. (2020)",
}
"""The files, each `NAME.parquet`, and where their numbers are from."""
PUBLIC = "public domain (work of the government of the United States)"
PARTICLES = "Apache-2.0, under which Wu et al. (2020) published it; not public domain, cite both"
SOURCE_OF = {
    "pm25_2014_2018": "surfaces of van Donkelaar et al. (2019), averaged over counties by Wu et "
    "al. (2020)",
    "temp_mean_2019_c": "NOAA nClimDiv 2019",
}
"""Where the numbers of a target are from, if its file has several sources."""
KEYS = {
    "fips": "FIPS code of the county, five digits",
    "county": "name of the county",
    "state": "letters of the state",
    "lat": "latitude of an inner point, degrees north",
    "lon": "longitude of an inner point, degrees east",
}
TARGETS: dict[str, tuple[str, int, str, str]] = {
    "median_household_income": ("county_socioeconomic", 0, "US dollars, 2018, SAIPE", PUBLIC),
    "bachelors_or_higher": (
        "county_socioeconomic", 1, "percent of adults of 25 and over, 2014-18, ACS", PUBLIC,
    ),
    "log10_pop_density": (
        "county_socioeconomic", 3, "log10 of people per square kilometre of land, 2018", PUBLIC,
    ),
    "diabetes": ("county_health", 1, "percent of adults, modelled prevalence, 2017", PUBLIC),
    "obesity": ("county_health", 1, "percent of adults, modelled prevalence, 2017-18", PUBLIC),
    "smoking": ("county_health", 1, "percent of adults, modelled prevalence, 2017-18", PUBLIC),
    "poor_mental_health": (
        "county_health", 1, "percent of adults, 14 days or more a month, 2017-18", PUBLIC,
    ),
    "uninsured": ("county_health", 1, "percent of adults of 18 to 64, 2017-18", PUBLIC),
    "pm25_2014_2018": (
        "county_environment", 3, "fine particles, micrograms per cubic metre, 2014-18", PARTICLES,
    ),
    "temp_mean_2019_c": (
        "county_environment", 2, "mean temperature of 2019, degrees C; DC has none", PUBLIC,
    ),
}  # fmt: skip
"""Input, decimals, meaning and licence of each target."""


def make(tables: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the table as CSV, and its datasheet."""
    read = {name: pd.read_parquet(tables / f"{name}.parquet") for name in INPUTS}
    rows = read["counties"][list(KEYS)].sort_values("fips").reset_index(drop=True)
    rows[["lat", "lon"]] = rows[["lat", "lon"]].astype(float).round(5)
    for target, (source, decimals, *_) in TARGETS.items():
        values = read[source].set_index("fips")[target].astype(float).round(decimals)
        rows[target] = rows["fips"].map(values)
    rows["median_household_income"] = rows["median_household_income"].astype(int)
    content = rows.to_csv(index=False, lineterminator="\n").encode()
    datasheet = {
        "title": "Counties of the 48 states and DC, with ten targets",
        "rows": len(rows),
        "sha256": hashlib.sha256(content).hexdigest(),
        "keys": KEYS,
        "targets": {
            name: {
                "meaning": meaning,
                "source": SOURCE_OF.get(name, INPUTS[source]),
                "licence": licence,
            }
            for name, (source, _, meaning, licence) in TARGETS.items()
        },
        "use": "Targets, to measure what vectors are worth; no model is trained on them. Health "
        "measures are modelled by CDC from demography and surveys, and say less of one county than "
        "a count would.",
        "citation": "US Census Bureau (SAIPE, ACS, population estimates); CDC PLACES 2020; NOAA "
        "nClimDiv; van Donkelaar et al. 2019 and Wu et al. 2020 (fine particles)",
        "made_by": "tests/data/make_counties_example.py",
        "inputs": {
            f"{name}.parquet": hashlib.sha256((tables / f"{name}.parquet").read_bytes()).hexdigest()
            for name in INPUTS
        },
    }
    return content, datasheet


def main() -> None:
    content, datasheet = make(Path(sys.argv[1]))
    with gzip.GzipFile(OUT / "counties.csv.gz", "wb", compresslevel=9, mtime=0) as packed:
        packed.write(content)
    text = json.dumps(datasheet, indent=1, ensure_ascii=False)
    (OUT / "counties.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
