"""Time the client beside other readers of the same vectors, and hold it to its bars.

    python -m benchmarks.client                   # everything; about 15 minutes, 4 GB of disk
    python -m benchmarks.client --quick           # smaller field, fewer rounds
    python -m benchmarks.client --only warm one
    python -m benchmarks.client --out docs/performance.json --report docs/performance.md
    python -m benchmarks.client --only --out ... --report ...   # write the page anew, time nothing

Needs `aiohttp` and, for their rows, `tensorstore` and `exactextract`: `pip install -e '.[bench]'`.
geotessera and the installed client get environments of their own in the cache folder.
"""

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.client import layouts, probes
from benchmarks.client.cases import CASES, QUICK, Sizes
from benchmarks.client.reporting import document, machine, report, table

_DISK_BYTES = 6e9


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a quarter of the field")
    parser.add_argument("--only", nargs="*", choices=CASES, metavar="CASE", default=list(CASES))
    parser.add_argument("--cache", type=Path, help="folder of stores and environments, kept")
    parser.add_argument("--out", type=Path, help="JSON file; cases not run now stay in it")
    parser.add_argument("--note", help="said on the page: what else the machine did, say")
    parser.add_argument("--report", type=Path, help="Markdown page of that JSON")
    parser.add_argument(
        "--layouts", type=Path, help="JSON file of `benchmarks.client.layouts`, for the page"
    )
    parser.add_argument(
        "--probes", type=Path, help="JSON file of `benchmarks.client.probes`, for the page"
    )
    parser.add_argument("--conus", type=Path, help="a real field at 5 km, for zonal means")
    parser.add_argument("--polygons", type=Path, help="file of its counties")
    options = parser.parse_args()
    sizes = replace(
        QUICK if options.quick else Sizes(), conus=options.conus, polygons=options.polygons
    )
    with tempfile.TemporaryDirectory() as temporary:
        cache = options.cache or Path(temporary)
        cache.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(cache).free < _DISK_BYTES:
            parser.error(
                f"{cache} has less than {_DISK_BYTES / 1e9:g} GB free; name another --cache"
            )
        results = []
        for case in options.only:
            for result in CASES[case](cache.absolute(), sizes):
                results.append(document(result, case))
                print(table(results[-1]), flush=True)
    found: dict[str, Any] = {
        "command": "python -m benchmarks.client" + (" --quick" if options.quick else ""),
        "note": options.note,
        "machine": machine(),
        "results": results,
    }
    if options.out:
        earlier = json.loads(options.out.read_text()) if options.out.exists() else {"results": []}
        if not results:
            found |= earlier | ({"note": options.note} if options.note else {})
        else:
            kept = [result for result in earlier["results"] if result["case"] not in options.only]
            found["results"] = kept + results
        found["results"].sort(key=lambda result: list(CASES).index(result["case"]))
        options.out.write_text(json.dumps(found, indent=1) + "\n")
    if options.report:
        page = report(found)
        if options.layouts:
            page += layouts.section(json.loads(options.layouts.read_text()))
        if options.probes:
            page += probes.section(json.loads(options.probes.read_text()))
        options.report.write_text(page)


if __name__ == "__main__":
    main()
