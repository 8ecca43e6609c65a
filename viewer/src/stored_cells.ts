/** Vectors of single cells by their bytes alone, where chunks are stored without a compressor. */

import type { AbsolutePath } from "zarrita";
import type { HttpStore } from "./http_store";

/** Largest distance of two vectors of a shard that are read by one request, in bytes. */
const GAP_BYTES = 16_384;
/** Offset in a shard's index of a chunk that is not stored: 2**64 - 1. */
const NOT_STORED = 0xffff_ffff_ffff_ffffn;
const PLAIN = new Set(["bytes", "crc32c"]);

interface Codec {
  name: string;
  configuration?: { codecs?: Codec[]; index_location?: string };
}

/** Whether a vector's bytes lie in a chunk as they are, and the index of a shard at its end. */
export function isPlain(node: unknown): boolean {
  const codecs = (node as { codecs?: Codec[] } | undefined)?.codecs ?? [];
  const { name, configuration } = codecs[0] ?? {};
  return (
    codecs.length === 1 &&
    name === "sharding_indexed" &&
    (configuration?.index_location ?? "end") === "end" &&
    (configuration?.codecs ?? []).every((codec) => PLAIN.has(codec.name))
  );
}

/** Index of a shard: offset and length of each chunk. */
export type ShardIndex = BigUint64Array;

export async function readIndex(store: HttpStore, key: AbsolutePath, chunks: number) {
  const body = await store.getRange(key, { suffixLength: 16 * chunks + 4 }); // and its checksum
  return body && new BigUint64Array(body.slice(0, 16 * chunks).buffer);
}

/**
 * Read the vectors of cells of one shard.
 *
 * @param cells row and column in the shard.
 * @returns one vector for each cell, null where its chunk is not stored.
 */
export async function readCells(
  store: HttpStore,
  key: AbsolutePath,
  index: ShardIndex,
  cells: [number, number][],
  { shard, chunk, width }: { shard: number; chunk: number; width: number },
): Promise<(Int8Array | null)[]> {
  const found: (Int8Array | null)[] = cells.map(() => null);
  const wanted: { offset: number; cell: number }[] = [];
  cells.forEach(([row, col], cell) => {
    const number = Math.floor(row / chunk) * (shard / chunk) + Math.floor(col / chunk);
    const start = index[2 * number];
    if (start === NOT_STORED) return;
    wanted.push({ offset: Number(start) + ((row % chunk) * chunk + (col % chunk)) * width, cell });
  });
  wanted.sort((a, b) => a.offset - b.offset);
  const runs: (typeof wanted)[] = [];
  for (const one of wanted) {
    const run = runs[runs.length - 1];
    if (run && one.offset - run[run.length - 1].offset <= GAP_BYTES) run.push(one);
    else runs.push([one]);
  }
  await Promise.all(
    runs.map(async (run) => {
      const { offset } = run[0];
      const length = run[run.length - 1].offset + width - offset;
      const body = (await store.getRange(key, { offset, length }))!;
      for (const one of run) {
        const first = body.byteOffset + one.offset - offset;
        found[one.cell] = new Int8Array(body.buffer.slice(first, first + width));
      }
    }),
  );
  return found;
}
