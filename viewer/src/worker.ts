/** Reads vectors and compares them, beside the page, so that the map never waits. */

import type { Field, Level } from "./field";
import { STATUSES, fullWindow, windowOf } from "./field";
import { HttpStore, StoreError } from "./http_store";
import type { Answer, Asked, Kind, Requests, Scored, Scores, Scoring } from "./messages";
import { readPicture } from "./pictures";
import { scoresOf } from "./similarity";
import { Vectors } from "./vectors";
import { Concepts } from "./words";

type Handlers = { [K in Kind]: (asked: Requests[K]["asked"]) => Promise<Requests[K]["answer"]> };

let store: HttpStore;
let field: Field;
let vectors: Vectors;
let concepts: Promise<Concepts> | null = null;

const handlers: Handlers = {
  async open(asked) {
    field = asked.field;
    store = new HttpStore(field.url, asked.root);
    vectors = new Vectors(field, store);
    return null;
  },
  picture: ({ modality, factor, row, col }) => readPicture(store, modality, factor, row, col),
  vector: ({ modality, row, col }) => vectors.cell(modality, row, col),
  async statuses({ row, col }) {
    const codes = await Promise.all(field.modalities.map((name) => statusOf(name, row, col)));
    return Object.fromEntries(field.modalities.map((name, number) => [name, codes[number]]));
  },
  score,
  words: async ({ words }) => (await loadedConcepts()).find(words),
  nearest: async ({ vector, count }) => (await loadedConcepts()).nearest(vector, count),
};

function loadedConcepts(): Promise<Concepts> {
  if (!field.hasConcepts) {
    throw new StoreError(
      "This store has no concepts, so words cannot be searched: its model has no text encoder. " +
        "Click the map to search by a location.",
    );
  }
  if (concepts === null) {
    concepts = Concepts.load(store);
    concepts.catch(() => (concepts = null));
  }
  return concepts;
}

/** The status of a cell, one byte: statuses have no codec that would change it. */
async function statusOf(modality: string, row: number, col: number): Promise<number> {
  const { shard } = field;
  const key = `/${modality}_status/c/${Math.floor(row / shard)}/${Math.floor(col / shard)}` as const;
  const offset = (row % shard) * shard + (col % shard);
  const body = await store.getRange(key, { offset, length: 1 });
  const code = body?.[0] ?? 0;
  return code < STATUSES.length ? code : 0;
}

async function score(asked: Scoring): Promise<Scored> {
  const { modality, query, budget } = asked;
  const costs = await Promise.all(
    field.levels.map((level) => vectors.cost(modality, level, fullWindow(level.grid))),
  );
  const number = costs.findIndex((cost) => cost <= budget);
  let whole: Scores | null = null;
  if (number >= 0) {
    const part = await vectors.whole(modality, field.levels[number]);
    whole = { factor: part.level.factor, window: part.window, values: scoresOf(part, query) };
  }
  const detail = await detailOf(asked, whole?.factor ?? Infinity);
  const needed = number < 0 ? costs[costs.length - 1] : null;
  return { whole, detail, needed };
}

/** The view by the finest cells that fit the budget and are not below a pixel of the screen. */
async function detailOf(asked: Scoring, coarser: number): Promise<Scores | null> {
  const { modality, query, budget, view } = asked;
  if (view === null) return null;
  const useful = (level: Level) =>
    level.factor < coarser && (level.grid.resolution_m * 2 > view.pixel_m || coarser === Infinity);
  for (const level of field.levels.filter(useful)) {
    const window = windowOf(level.grid, view.extent);
    if (window === null) return null;
    if ((await vectors.cost(modality, level, window)) > budget) continue;
    const part = await vectors.window(modality, level, window);
    return { factor: level.factor, window, values: scoresOf(part, query) };
  }
  return null;
}

self.onmessage = async (event: MessageEvent<Asked>) => {
  const { id, kind, asked } = event.data;
  const counts = () => (store === undefined ? { requests: 0, bytes: 0 } : { ...store.counts });
  let message: Answer;
  try {
    const answer = await (handlers[kind] as (asked: unknown) => Promise<unknown>)(asked);
    message = { id, counts: counts(), answer };
  } catch (error) {
    message = { id, counts: counts(), error: error instanceof Error ? error.message : `${error}` };
  }
  self.postMessage(message);
};
