/** Reads vectors and compares them, beside the page, so that the map never waits. */

import * as zarr from "zarrita";
import type { Field, Level } from "./field";
import { STATUSES, fullWindow, windowOf } from "./field";
import { HttpStore, StoreError } from "./http_store";
import { blockScore, deviation, fitLabels, largest, likeliestShare, predict } from "./label_ridge";
import { checkMissing } from "./lost_objects";
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
  const { modality, rowcol, budget, view, labels } = asked;
  const read = await vectors.cells(modality, rowcol);
  const used = read.flatMap((vector, label) =>
    vector === null || Number.isNaN(labels[label]) ? [] : [label],
  );
  const labelled = used.map((label) => unit(read[label]!));
  const texts = used.map((label) => String(labels[label]));
  const classes = typeof labels[0] === "number" ? [] : [...new Set(texts)].sort();
  if (new Set(texts).size < 2) {
    throw new StoreError(
      `${used.length} of ${rowcol.length} labels have a ${modality} vector, and they are not of two ` +
        "kinds: label cells of two classes, or two numbers.",
    );
  }
  const targets = texts.map((text) =>
    Float64Array.from(classes.length > 0 ? classes.map((one) => Number(one === text)) : [Number(text)]),
  );
  const ridge = fitLabels(labelled, targets);
  const blocks = used.map((label) => asked.blocks[label]);
  const score = blockScore(labelled, targets, blocks, ridge.penalty, classes.length > 0);
  const map = (compute: (vector: Float64Array) => number) =>
    mapped(modality, budget, view, (part) => ofEachVector(part, compute));
  const isOfClasses = classes.length > 0;
  const values = await map((vector) => {
    const predicted = predict(ridge, vector);
    return isOfClasses ? largest(predicted) : predicted[0];
  });
  const uncertainty = await map((vector) => deviation(ridge, vector));
  const shares = isOfClasses ? await map((vector) => likeliestShare(ridge, vector)) : null;
  const residuals = targets.map((target, label) => {
    const predicted = score?.predicted[label] ?? predict(ridge, labelled[label]);
    const own = isOfClasses ? largest(target) : 0;
    return target[own] - predicted[own];
  });
  const axes = await mainDirections(modality);
  const directions = axes && labelled.map((vector) => axes.map((axis) => product(axis, vector)));
  const { weights, penalty } = ridge;
  return { values, uncertainty, shares, used, classes, score, residuals, directions, weights, penalty };
}

function product(one: ArrayLike<number>, other: ArrayLike<number>): number {
  let sum = 0;
  for (let at = 0; at < one.length; ++at) sum += one[at] * other[at];
  return sum;
}

/** The directions of red, green and blue in the picture; null if the store has no picture. */
async function mainDirections(modality: string): Promise<Float32Array[] | null> {
  const path = `preview/${modality}_axes`;
  if (store.node(path) === undefined) return null;
  const array = await zarr.open.v3(zarr.root(store).resolve(path), { kind: "array" });
  const { data, shape } = await zarr.get(array as zarr.Array<"float32", HttpStore>);
  await checkMissing(store, `/${path}/c/0/0`);
  return Array.from({ length: shape[0] }, (_, axis) =>
    data.subarray(axis * shape[1], (axis + 1) * shape[1]),
  );
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
