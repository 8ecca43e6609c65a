/** Reads vectors and compares them, beside the page, so that the map never waits. */

import type { Field, Level } from "./field";
import { STATUSES, fullWindow, windowOf } from "./field";
import { HttpStore, StoreError } from "./http_store";
import { blockScore, deviation, fitLabels, largest, predict } from "./label_ridge";
import type {
  Answer,
  Asked,
  Kind,
  LabelFit,
  LabelsFitted,
  Requests,
  Scored,
  Scores,
  Scoring,
} from "./messages";
import { readPicture } from "./pictures";
import { centredScoresOf, ofEachVector, scoresOf, unit } from "./similarity";
import type { Part } from "./vectors";
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
  fit,
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
    concepts = Concepts.load(store, field.hasCentres);
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

async function score({ modality, query, budget, view }: Scoring): Promise<Scored> {
  if (query.isWords && field.hasCentres) {
    const known = await loadedConcepts();
    const centre = known.centres.get(modality);
    if (centre !== undefined) {
      const direction = known.fromMean(query.vectors[0]);
      return mapped(modality, budget, view, (part) => centredScoresOf(part, direction, centre));
    }
  }
  return mapped(modality, budget, view, (part) => scoresOf(part, query));
}

/** Numbers of the whole field by the finest level that fits the budget, and of the view. */
async function mapped(
  modality: string,
  budget: number,
  view: Scoring["view"],
  compute: (part: Part) => Float32Array,
): Promise<Scored> {
  const costs = await Promise.all(
    field.levels.map((level) => vectors.cost(modality, level, fullWindow(level.grid))),
  );
  const number = costs.findIndex((cost) => cost <= budget);
  const scores = (part: Part): Scores => ({
    factor: part.level.factor,
    window: part.window,
    values: compute(part),
  });
  const whole = number < 0 ? null : scores(await vectors.whole(modality, field.levels[number]));
  const part = view && (await detailOf(modality, budget, view, whole?.factor ?? Infinity));
  return {
    whole,
    detail: part === null ? null : scores(part),
    needed: number < 0 ? costs[costs.length - 1] : null,
  };
}

/** The view by the finest cells that fit the budget and are not below a pixel of the screen. */
async function detailOf(
  modality: string,
  budget: number,
  view: { extent: number[]; pixel_m: number },
  coarser: number,
): Promise<Part | null> {
  const useful = (level: Level) =>
    level.factor < coarser && (level.grid.resolution_m * 2 > view.pixel_m || coarser === Infinity);
  for (const level of field.levels.filter(useful)) {
    const window = windowOf(level.grid, view.extent);
    if (window === null) return null;
    if ((await vectors.cost(modality, level, window)) > budget) continue;
    return vectors.window(modality, level, window);
  }
  return null;
}

/** Fit labels and map the fit; labels in cells without a vector are left out. */
async function fit(asked: LabelFit): Promise<LabelsFitted> {
  const { modality, rowcol, budget, view, classes } = asked;
  const read = await Promise.all(rowcol.map(([row, col]) => vectors.cell(modality, row, col)));
  const kept = read.flatMap((vector, label) => (vector === null ? [] : [label]));
  const labelled = kept.map((label) => unit(read[label]!));
  const targets = kept.map((label) => asked.targets[label]);
  if (new Set(targets.map(String)).size < 2) {
    throw new StoreError(
      `${kept.length} of ${rowcol.length} labels have a ${modality} vector, and they are not of two ` +
        "kinds: label cells of two classes, or two numbers.",
    );
  }
  const ridge = fitLabels(labelled, targets);
  const score = blockScore(
    labelled,
    targets,
    kept.map((label) => asked.blocks[label]),
    ridge.penalty,
    classes.length > 0,
  );
  const value = (vector: Float64Array) => {
    const predicted = predict(ridge, vector);
    return classes.length > 0 ? largest(predicted) : predicted[0];
  };
  const map = (compute: (vector: Float64Array) => number) =>
    mapped(modality, budget, view, (part) => ofEachVector(part, compute));
  const values = await map(value);
  const uncertainty = await map((vector) => deviation(ridge, vector));
  const { weights, penalty } = ridge;
  return { values, uncertainty, labels: rowcol.length, used: kept.length, classes, score, weights, penalty };
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
