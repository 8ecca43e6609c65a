/** Objects that a server lacks: those of no data are not stored, those of the manifest are lost. */

import * as zarr from "zarrita";
import type { HttpStore } from "./http_store";
import { StoreError } from "./http_store";

let listed: Promise<Set<string>> | null = null;

/** Throw if an object that the server does not have is one that the store's manifest lists. */
export async function checkMissing(store: HttpStore, key: string): Promise<void> {
  if (!store.missing.has(key)) return;
  if (listed === null) {
    listed = manifestKeys(store);
    listed.catch(() => (listed = null));
  }
  if ((await listed).has(key.slice(1))) throw lostObject(store, key);
}

export function lostObject(store: HttpStore, key: string): StoreError {
  return new StoreError(
    `${store.url}${key} is in the store's manifest, and its server does not have it: copy the store ` +
      "anew.",
  );
}

/** Keys of the objects that are no shards; none if the store does not say. */
async function manifestKeys(store: HttpStore): Promise<Set<string>> {
  try {
    const location = zarr.root(store).resolve("manifest/objects_keys");
    const array = await zarr.open.v3(location, { kind: "array" });
    const { data } = await zarr.get(array as zarr.Array<"uint8", HttpStore>);
    return new Set(new TextDecoder().decode(data).split("\n"));
  } catch (error) {
    if (error instanceof zarr.NotFoundError) return new Set();
    throw error;
  }
}
