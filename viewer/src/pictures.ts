/** Reads a chunk of the preview, in which 0 is no data. */

import * as zarr from "zarrita";
import type { HttpStore } from "./http_store";
import { checkMissing } from "./lost_objects";
import type { Picture } from "./messages";

export async function readPicture(
  store: HttpStore,
  modality: string,
  factor: number,
  row: number,
  col: number,
): Promise<Picture> {
  const path = `/preview/${factor}/${modality}` as const;
  const array = await zarr.open.v3(zarr.root(store).resolve(path), { kind: "array" });
  const { data, shape } = await (array as zarr.Array<"uint8", HttpStore>).getChunk([0, row, col]);
  await checkMissing(store, `${path}/c/0/${row}/${col}`);
  const [, height, width] = shape;
  const pixels = width * height;
  const rgba = new Uint8ClampedArray(4 * pixels);
  for (let pixel = 0; pixel < pixels; ++pixel) {
    let any = 0;
    for (let band = 0; band < 3; ++band) {
      any |= rgba[4 * pixel + band] = data[band * pixels + pixel];
    }
    rgba[4 * pixel + 3] = any > 0 ? 255 : 0;
  }
  return { rgba, width, height };
}
