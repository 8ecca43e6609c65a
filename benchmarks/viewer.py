"""Time the page of a store in a headless Chromium, on a link of 50 MB/s with 30 ms.

    python -m benchmarks.viewer STORE [--rounds 5] [--modality fused]

Printed are seconds, requests and bytes of the store, the page itself not counted, of: the first
picture, from nothing; the first click, with the similarity of the whole field at the page's own
budget of bytes; a second click; and a map of 40 labels. The median of the rounds is printed, each
in a browser of its own. Needs node, Chromium and `npm ci` in `viewer/`.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.client.link import SERVER, StoreLink
from unigeo import client
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.page import page_of
from unigeo.schemas.store.status import Status

LATENCY_S, BYTES_PER_S = 0.03, 50e6
LABELS = 40

_STEPS = """
const steps = {};
let begin = opened, before = { requests: 0, bytes: 0 };
const note = async (name) => {
  const after = await counts();
  steps[name] = { seconds: (Date.now() - begin) / 1000, requests: after.requests - before.requests,
    megabytes: (after.bytes - before.bytes) / 1e6 };
  before = after;
  begin = Date.now();
};
await note("first picture");
if (MODALITY) await page.selectOption("#compare", MODALITY);
begin = Date.now();
await look(POINTS[0]); await note("first click");
await look(POINTS[1]); await note("second click");
await page.setInputFiles("#label-file", LABELS);
await page.waitForFunction(() => window.unigeo.labels.labels.length > 0);
begin = Date.now();
await page.click("#label-fit"); await idle(); await note("40 labels mapped");
told = steps;
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("store", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modality", help="whose vectors are compared; the page's own by default")
    options = parser.parse_args()
    sys.path.insert(0, str(SERVER.parents[1]))  # the browser of the tests
    from support.browser import browse

    field = client.open_field(options.store)
    name = options.modality or field.modalities[0]
    status = field.dataset()[status_name(name)].values
    lonlat = field.grid.centres(field.grid.full_window)[status == Status.VALID]
    rng = np.random.default_rng(0)
    points = rng.choice(lonlat, LABELS, replace=False)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        (folder / "field.zarr").symlink_to(options.store.resolve())
        (folder / "page.html").write_bytes(page_of("field.zarr"))
        table = pd.DataFrame({"lon": points[:, 0], "lat": points[:, 1], "label": points[:, 1]})
        table.to_csv(folder / "labels.csv", index=False)
        values = {
            "MODALITY": options.modality,
            "POINTS": points[:2].tolist(),
            "LABELS": str(folder / "labels.csv"),
        }
        constants = "".join(
            f"const {key} = {json.dumps(value)};\n" for key, value in values.items()
        )
        with StoreLink(folder, latency_s=LATENCY_S, bytes_per_s=BYTES_PER_S) as link:
            rounds = [
                browse(f"{link.url}/page.html", constants + _STEPS, folder)
                for _ in range(options.rounds)
            ]
    rows = [{"action": action, **step} for steps in rounds for action, step in steps.items()]
    print(pd.DataFrame(rows).groupby("action", sort=False).median().round(2).to_string())


if __name__ == "__main__":
    main()
