"""Time the page of stores in a headless Chromium, on a link of 50 MB/s with 30 ms.

    python -m benchmarks.viewer STORE [STORE ...] [--rounds 5] [--modality fused] [--words forest]

Printed are seconds, requests and bytes of the store, the page itself not counted, of: the first
picture, from nothing; the first click, with the similarity of the whole field at the page's own
budget of bytes; a second click; words, where the store has some; and a map of 40 labels. A store
with the group `search` is timed with and without it. The median of the rounds is printed, each in a
browser of its own; the rounds of all stores alternate. Needs node, Chromium and `npm ci` in
`viewer/`.
"""

import argparse
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.client.link import SERVER, StoreLink
from unigeo import client
from unigeo.schemas.store.layout import status_name
from unigeo.schemas.store.page import page_of
from unigeo.schemas.store.search_levels import GROUP as SEARCH
from unigeo.schemas.store.status import Status

LATENCY_S, BYTES_PER_S = 0.03, 50e6
LABELS = 40
METADATA = "zarr.json"

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
if (WORDS) { await search(WORDS); await note("words"); }
await page.setInputFiles("#label-file", LABELS);
await page.waitForFunction(() => window.unigeo.labels.labels.length > 0);
begin = Date.now();
await page.click("#label-fit"); await idle(); await note("40 labels mapped");
const said = await text("message");
if (said) throw new Error(said);
told = steps;
"""


@dataclass(frozen=True)
class Shown:
    """A store behind its page, in a folder that a link serves."""

    name: str
    folder: Path
    constants: str
    """Of JavaScript, for the steps."""


def prepare(store: Path, folder: Path, modality: str | None, words: str, *, search: bool) -> Shown:
    """Write a page, labels and links to a store's objects; its group `search` may be left out."""
    root = json.loads((store / METADATA).read_text())
    shown = folder / "field.zarr"
    shown.mkdir(parents=True)
    for entry in store.iterdir():
        if entry.name != METADATA and (search or entry.name != SEARCH):
            (shown / entry.name).symlink_to(entry.resolve())
    nodes: dict[str, Any] = root["consolidated_metadata"]["metadata"]
    if not search:
        kept = {key: one for key, one in nodes.items() if key.split("/")[0] != SEARCH}
        root["consolidated_metadata"]["metadata"] = kept
    (shown / METADATA).write_text(json.dumps(root))
    (folder / "page.html").write_bytes(page_of("field.zarr"))
    field = client.open_field(store)
    name = modality or field.modalities[0]
    status = field.dataset()[status_name(name)].values
    lonlat = field.grid.centres(field.grid.full_window)[status == Status.VALID]
    points = np.random.default_rng(0).choice(lonlat, LABELS, replace=False)
    table = pd.DataFrame({"lon": points[:, 0], "lat": points[:, 1], "label": points[:, 1]})
    table.to_csv(folder / "labels.csv", index=False)
    values = {
        "MODALITY": modality,
        "WORDS": words if "concepts" in nodes else None,
        "POINTS": points[:2].tolist(),
        "LABELS": str(folder / "labels.csv"),
    }
    constants = "".join(f"const {key} = {json.dumps(value)};\n" for key, value in values.items())
    said = str(store) if search == (SEARCH in nodes) else f"{store} without {SEARCH}"
    return Shown(said, folder, constants)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("stores", type=Path, nargs="+", metavar="STORE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--modality", help="whose vectors are compared; the page's own by default")
    parser.add_argument("--words", default="forest", help="searched where a store has concepts")
    options = parser.parse_args()
    sys.path.insert(0, str(SERVER.parents[1]))  # the browser of the tests
    from support.browser import browse

    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        every = []
        for number, store in enumerate(options.stores):
            for search in (True, False) if (store / SEARCH).is_dir() else (False,):
                folder = Path(temporary) / f"{number}-{search}"
                one = prepare(store, folder, options.modality, options.words, search=search)
                every.append(one)
        for _ in range(options.rounds):
            for one in every:
                with StoreLink(one.folder, latency_s=LATENCY_S, bytes_per_s=BYTES_PER_S) as link:
                    told = browse(f"{link.url}/page.html", one.constants + _STEPS, one.folder)
                rows += [{"store": one.name, "action": action, **told[action]} for action in told]
    table = pd.DataFrame(rows).groupby(["store", "action"], sort=False).median()
    print(table.round(2).to_string())


if __name__ == "__main__":
    main()
