"""A headless Chromium, driven by playwright-core, in which a test looks at the page of a store."""

import json
import os
import subprocess
from pathlib import Path
from shutil import which
from typing import Any

import pytest

VIEWER = Path(__file__).parents[2] / "viewer"
SECONDS = 300
CHROMIUM = next(filter(None, map(which, ("chromium", "chromium-browser", "google-chrome"))), None)

_BEGIN = """
import { chromium } from "playwright-core";
const [executablePath, address] = process.argv.slice(2);
const args = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader",
  "--enable-unsafe-swiftshader"];
const browser = await chromium.launch({ executablePath, args });
const viewport = { width: 1280, height: 800 };
const page = await browser.newPage({ viewport, acceptDownloads: true });
const asked = [], errors = [];
page.on("request", (request) => asked.push(request.url()));
page.on("pageerror", (error) => errors.push(error.message));
const text = (id) => page.locator("#" + id).textContent();
/** Wait until the page has done what it was told. */
const idle = async () => {
  const still = () => document.body.dataset.ready && !(window.unigeo?.busy > 0);
  await page.waitForFunction(still);
  await page.evaluate(() => new Promise((done) => {
    const map = window.unigeo?.view.map;
    if (map === undefined) done();
    map?.once("rendercomplete", () => setTimeout(done));  // every tile is there
    map?.render();
  }));
  await page.waitForFunction(still);
};
const counts = () => page.evaluate(() => window.unigeo.counts());
const look = async (lonlat, button = "A") => {
  await page.fill("#lonlat", lonlat.join(", "));
  await page.click(`#location button[value=${button}]`);
  await idle();
};
const search = async (words) => {
  await page.fill("#query", words);
  await page.press("#query", "Enter");
  await idle();
};
let told, opened;
try {
  opened = Date.now();
  await page.goto(address);
  await idle();
"""
_END = """
} finally {
  await browser.close();
}
process.stdout.write(JSON.stringify({ told, asked, errors }));
"""


def needs_browser() -> None:
    """Skip the test where a tool is lacking."""
    if which("node") is None or not (VIEWER / "node_modules/playwright-core").is_dir():
        pytest.skip("node, or the viewer's packages, are not there: `make viewer` installs them")
    if CHROMIUM is None:
        pytest.skip("there is no Chromium: `make viewer` installs Debian's where it may")


def browse(address: str, code: str, folder: Path) -> Any:
    """Open a page and run JavaScript beside it; return what the code assigns to `told`.

    The code sees `page` of playwright, and the helpers `idle`, `text`, `counts`, `look`, `search`.
    Any error of the page fails the test, and so does a request to another host.
    """
    needs_browser()
    module = folder / "browse.mjs"
    (folder / "node_modules").unlink(missing_ok=True)
    (folder / "node_modules").symlink_to(VIEWER / "node_modules")
    module.write_text(_BEGIN + code + _END)
    # A browser asks for pages of this machine through no proxy.
    clean = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    done = subprocess.run(
        ["node", module, str(CHROMIUM), address],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        env=clean,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["errors"] == []
    local = ("http://127.0.0.1:", "blob:", "data:")
    assert [one for one in result["asked"] if not one.startswith(local)] == []
    return result["told"]
