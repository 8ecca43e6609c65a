/** Reads vectors within a budget of bytes: a cell, a window, or all of a level. */

import * as zarr from "zarrita";
import type { Field, Level, Window } from "./field";
import { FILL, fullWindow } from "./field";
import type { HttpStore } from "./http_store";
import { lostObject } from "./lost_objects";
import type { ShardIndex } from "./stored_cells";
import { isPlain, readCells, readIndex } from "./stored_cells";
import { WholeObjects } from "./whole_objects";

const AT_ONCE = 8;
/** Answers that are kept, the last that were asked for. */
const MOST_KEPT = 8;

/** The vectors of a window's valid cells. */
export interface Part {
  modality: string;
  level: Level;
  window: Window;
  /** Number of each valid cell in the window, row by row. */
  cells: Int32Array;
  /** cell x width, quantized. */
  vectors: Int8Array;
}

type Int8Source = zarr.Array<"int8", zarr.AsyncReadable>;

export class Vectors {
  private readonly objects: WholeObjects;
  private readonly root: zarr.Location<zarr.AsyncReadable>;
  private readonly opened = new Map<string, Promise<Int8Source>>();
  private readonly sizes = new Map<string, Promise<Float64Array | null>>();
  private readonly parts = new Map<string, Promise<Part>>();
  private readonly clicked = new Map<string, Promise<(Int8Array | null)[]>>();
  private readonly indices = new Map<string, Promise<ShardIndex | undefined>>();

  constructor(
    readonly field: Field,
    readonly store: HttpStore,
  ) {
    this.objects = new WholeObjects(store);
    this.root = zarr.root(zarr.withRangeCoalescing(this.objects, { coalesceSize: 32768 }));
  }

  /** The vector of a cell of the field itself; null where it has none. */
  async cell(modality: string, row: number, col: number): Promise<Int8Array | null> {
    const key = [modality, row, col].join();
    const [level] = this.field.levels;
    const [vector] = await kept(this.clicked, key, () => this.cells(modality, level, [[row, col]]));
    return vector;
  }

  /** Whether the vectors of single cells can be read by their bytes alone. */
  isPlain(modality: string, level: Level): boolean {
    return isPlain(this.store.node(`${level.path}${modality}`));
  }

  /** Vectors of cells of a level; null where a cell has none. */
  async cells(modality: string, level: Level, rowcol: [number, number][]): Promise<(Int8Array | null)[]> {
    const held = this.parts.get(partKey(modality, level, fullWindow(level.grid)));
    if (held !== undefined) return picked(await held, rowcol);
    const { shard } = level;
    const groups = new Map<string, number[]>();
    rowcol.forEach(([row, col], cell) => {
      const name = `${Math.floor(row / shard)}/${Math.floor(col / shard)}`;
      groups.set(name, [...(groups.get(name) ?? []), cell]);
    });
    const sizes = await this.objectBytes(modality, level);
    const found: (Int8Array | null)[] = rowcol.map(() => null);
    await inParallel([...groups], async ([name, members]) => {
      const [top, left] = name.split("/").map((number) => Number(number) * shard);
      const across = level.grid.shape[1] / shard;
      if (sizes?.[(top / shard) * across + left / shard] === 0) return;
      const inside = members.map((cell): [number, number] => [rowcol[cell][0] - top, rowcol[cell][1] - left]);
      const read = this.isPlain(modality, level)
        ? await this.plainCells(modality, level, name, inside, sizes !== null)
        : await this.decodedCells(modality, level, members.map((cell) => rowcol[cell]));
      members.forEach((cell, at) => (found[cell] = read[at]?.[0] === FILL ? null : read[at]));
    });
    return found;
  }

  private async plainCells(
    modality: string,
    level: Level,
    name: string,
    cells: [number, number][],
    isListed: boolean,
  ) {
    const { shard } = level;
    const { chunk } = this.field;
    const key = `/${level.path}${modality}/c/${name}/0` as const;
    let index = this.indices.get(key);
    if (index === undefined) {
      index = readIndex(this.store, key, (shard / chunk) ** 2);
      index.catch(() => this.indices.delete(key));
      this.indices.set(key, index);
    }
    const known = await index;
    if (known === undefined && isListed) throw lostObject(this.store, key);
    if (known === undefined) return cells.map(() => null);
    return readCells(this.store, key, known, cells, { shard, chunk, width: this.width(modality, level) });
  }

  /** Vectors of cells by way of their chunks, each of which has to be decoded whole, once. */
  private async decodedCells(modality: string, level: Level, rowcol: [number, number][]) {
    const { chunk } = this.field;
    const windows = new Map<string, Window>();
    const windowFor = ([row, col]: [number, number]) => {
      const [top, left] = [row - (row % chunk), col - (col % chunk)];
      const key = `${top}/${left}`;
      if (!windows.has(key)) windows.set(key, { row: top, col: left, height: chunk, width: chunk });
      return key;
    };
    const keys = rowcol.map(windowFor);
    const read = [...windows].map(async ([key, window]) => [key, await this.read(modality, level, window)] as const);
    const parts = new Map(await Promise.all(read));
    return rowcol.map((one, cell) => picked(parts.get(keys[cell])!, [one])[0]);
  }

  /** All of a level; read once. */
  whole(modality: string, level: Level): Promise<Part> {
    return this.window(modality, level, fullWindow(level.grid));
  }

  /** A window of a level; the last few are kept. */
  window(modality: string, level: Level, window: Window): Promise<Part> {
    const key = partKey(modality, level, window);
    return kept(this.parts, key, () => this.read(modality, level, window));
  }

  /** An upper bound of the bytes that are read for a window of a level. */
  async cost(modality: string, level: Level, window: Window): Promise<number> {
    const width = this.width(modality, level);
    const { chunk } = this.field;
    let bytes = 0;
    const sizes = await this.objectBytes(modality, level);
    for (const { row, col, inside } of objectsOf(level, window)) {
      const rows = Math.ceil((inside.row + inside.height) / chunk) - Math.floor(inside.row / chunk);
      const cols = Math.ceil((inside.col + inside.width) / chunk) - Math.floor(inside.col / chunk);
      const most = rows * cols * (chunk * chunk * width + 4) + 16 * (level.shard / chunk) ** 2 + 4;
      const stored = sizes?.[row * (level.grid.shape[1] / level.shard) + col];
      bytes += Math.min(most, stored ?? most);
    }
    return bytes;
  }

  private async read(modality: string, level: Level, window: Window): Promise<Part> {
    const width = this.width(modality, level);
    const array = await this.open(`${level.path}${modality}`);
    const sizes = await this.objectBytes(modality, level);
    const objects = objectsOf(level, window).filter(
      ({ row, col }) => sizes?.[row * (level.grid.shape[1] / level.shard) + col] !== 0,
    );
    const cells: number[][] = [];
    const vectors: Int8Array[] = [];
    await inParallel(objects, async ({ row, col, inside }, number) => {
      const first = [row * level.shard + inside.row, col * level.shard + inside.col];
      const key = `/${level.path}${modality}/c/${row}/${col}/0` as const;
      const part = () =>
        zarr.get(array, [
          zarr.slice(first[0], first[0] + inside.height),
          zarr.slice(first[1], first[1] + inside.width),
          null,
        ]);
      // All of a shard is one request, and its index none before it.
      const isWhole = inside.height === level.shard && inside.width === level.shard;
      const { data } = await (isWhole ? this.objects.during(key, part) : part());
      if (sizes !== null && this.store.missing.has(key)) {
        throw lostObject(this.store, key);
      }
      const valid: number[] = [];
      let count = 0;
      for (let cell = 0; cell < inside.height * inside.width; ++cell) {
        if (data[cell * width] === FILL) continue;
        data.copyWithin(count * width, cell * width, (cell + 1) * width);
        const cellRow = first[0] + Math.floor(cell / inside.width) - window.row;
        valid.push(cellRow * window.width + first[1] + (cell % inside.width) - window.col);
        count += 1;
      }
      cells[number] = valid;
      vectors[number] = data.slice(0, count * width);
    });
    const all = new Int8Array(vectors.reduce((sum, one) => sum + one.length, 0));
    let at = 0;
    for (const one of vectors) {
      all.set(one, at);
      at += one.length;
    }
    return { modality, level, window, cells: Int32Array.from(cells.flat()), vectors: all };
  }

  private width(modality: string, level: Level): number {
    return level.directions ?? this.field.widths[modality];
  }

  private open(path: string): Promise<Int8Source> {
    let array = this.opened.get(path);
    if (array === undefined) {
      array = zarr.open.v3(this.root.resolve(path), { kind: "array" }) as Promise<Int8Source>;
      this.opened.set(path, array);
    }
    return array;
  }

  /** Bytes of each stored object of a level, row by row; null if the manifest does not say. */
  private objectBytes(modality: string, level: Level): Promise<Float64Array | null> {
    const path = `${level.path}manifest/${modality}_bytes`;
    let sizes = this.sizes.get(path);
    if (sizes === undefined) {
      sizes = this.readSizes(path);
      sizes.catch(() => this.sizes.delete(path));
      this.sizes.set(path, sizes);
    }
    return sizes;
  }

  private async readSizes(path: string): Promise<Float64Array | null> {
    try {
      const array = await zarr.open.v3(this.root.resolve(path), { kind: "array" });
      const { data } = await zarr.get(array as zarr.Array<"int64", zarr.AsyncReadable>);
      return Float64Array.from(data, Number);
    } catch (error) {
      if (error instanceof zarr.NotFoundError) return null;
      throw error;
    }
  }
}

/** An answer that is kept, or is read now. */
function kept<T>(answers: Map<string, Promise<T>>, key: string, read: () => Promise<T>): Promise<T> {
  let answer = answers.get(key);
  if (answer === undefined) {
    answer = read();
    answer.catch(() => answers.delete(key)); // a failed read is tried again
  }
  answers.delete(key); // a Map keeps the order of insertion: the oldest comes first
  answers.set(key, answer);
  if (answers.size > MOST_KEPT) answers.delete(answers.keys().next().value!);
  return answer;
}

function partKey(modality: string, level: Level, { row, col, height, width }: Window): string {
  return [modality, level.path, row, col, height, width].join();
}

/** Vectors of cells of a part's level; null where a cell has none. */
function picked({ window, cells, vectors }: Part, rowcol: [number, number][]): (Int8Array | null)[] {
  const wanted = new Map<number, Int8Array | null>();
  const numberOf = ([row, col]: [number, number]) => (row - window.row) * window.width + col - window.col;
  for (const one of rowcol) wanted.set(numberOf(one), null);
  const width = vectors.length / Math.max(1, cells.length);
  cells.forEach((number, cell) => {
    if (wanted.has(number)) wanted.set(number, vectors.slice(cell * width, (cell + 1) * width));
  });
  return rowcol.map((one) => wanted.get(numberOf(one))!);
}

/** The stored objects that a window touches, and the part of each, in cells of the object. */
function objectsOf(level: Level, window: Window) {
  const { shard } = level;
  const found: { row: number; col: number; inside: Window }[] = [];
  const end = { row: window.row + window.height, col: window.col + window.width };
  for (let row = Math.floor(window.row / shard); row * shard < end.row; ++row) {
    for (let col = Math.floor(window.col / shard); col * shard < end.col; ++col) {
      const top = Math.max(window.row, row * shard);
      const left = Math.max(window.col, col * shard);
      const height = Math.min(end.row, (row + 1) * shard) - top;
      const width = Math.min(end.col, (col + 1) * shard) - left;
      const inside = { row: top - row * shard, col: left - col * shard, height, width };
      found.push({ row, col, inside });
    }
  }
  return found;
}

async function inParallel<T>(
  items: T[],
  work: (item: T, number: number) => Promise<void>,
): Promise<void> {
  let next = 0;
  const run = async () => {
    while (next < items.length) {
      const number = next++;
      await work(items[number], number);
    }
  };
  await Promise.all(Array.from({ length: Math.min(AT_ONCE, items.length) }, run));
}
