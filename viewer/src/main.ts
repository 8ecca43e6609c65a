/** Opens the store that the page was made for, or that its address names, and builds the page. */

import "ol/ol.css";
import "./page.css";
import { readState } from "./address";
import { element, say } from "./elements";
import { describeField } from "./field";
import { HttpStore, StoreError } from "./http_store";
import { MapView } from "./map_view";
import { Page } from "./page";
import { checkCrs, registerProjections } from "./projections";
import { Reader } from "./reader";

/** The store's address: `?store=`, else the one that the page was written with. */
function storeUrl(): string {
  const named = new URLSearchParams(location.search).get("store");
  const address = named ?? written("store");
  if (address === "") {
    throw new StoreError(
      "This page was not told which store to show: open it by unigeo view STORE, or add " +
        "?store=ADDRESS to its address.",
    );
  }
  if (location.protocol === "file:") {
    throw new StoreError(
      "A browser reads no store from a file. Serve the folder by any web server that answers range " +
        "requests, or run unigeo view STORE.",
    );
  }
  return new URL(address, location.href).href.replace(/\/+$/, "");
}

/** What the page was written with. */
function written(name: "store" | "source"): string {
  return document.querySelector<HTMLMetaElement>(`meta[name=unigeo-${name}]`)!.content;
}

async function start(): Promise<void> {
  registerProjections();
  const url = storeUrl();
  const store = new HttpStore(url);
  const root = await store.open();
  const isOwn = !new URLSearchParams(location.search).has("store");
  const field = describeField(url, isOwn ? written("source") : "", root);
  const { grid } = field.levels[0];
  checkCrs(grid.crs);
  document.title = `${field.region}: unigeo field`;
  element("title").textContent = field.region;
  element("facts").textContent =
    `${grid.shape[0]} x ${grid.shape[1]} cells of ${grid.resolution_m / 1000} km, ${grid.crs}; ` +
    `${field.modalities.join(", ")}; model ${field.model}`;
  element("terms").textContent = `Licence: ${field.licence.replace(/\.$/, "")}. ${field.citation}`;
  const fail = (error: unknown) => say(error instanceof Error ? error.message : String(error));
  let page: Page | null = null;
  const reader = new Reader(() => page?.tellCounts());
  await reader.ask("open", { field, root });
  const view = new MapView(field, reader, element("map"), fail);
  page = new Page(field, view, reader, store);
  const state = readState(location.hash);
  await page.restore(state);
  page.listen();
  Object.assign(window, { unigeo: page }); // for the browser's console
}

start()
  .catch((error) => say(error instanceof Error ? error.message : String(error)))
  .finally(() => document.body.setAttribute("data-ready", "true"));
