/** Reads vectors and compares them, beside the page, so that the map never waits. */

import * as zarr from "zarrita";
import type { Field, Level } from "./field";
import { STATUSES, fullWindow, hasWords, windowOf } from "./field";
import { HttpStore, StoreError } from "./http_store";
import { blockScore, deviation, fitLabels, largest, likeliestShare, predict } from "./label_ridge";
import { checkMissing } from "./lost_objects";
import { coloursOf, mainDirections } from "./main_directions";
import type {
  Answer,
  Asked,
  Budget,
  Colours,
  ExactScoring,
  Kind,
  LabelFit,
  LabelsFitted,
  Requests,
  Scored,
  Scores,
  Scoring,
} from "./messages";
import { readPicture } from "./pictures";
import { dot } from "./products";
import { centredScoresOf, ofEachVector, scoresOf, unit } from "./similarity";
import type { Query } from "./similarity";
import { classesOf } from "./table_files";
import type { Part } from "./vectors";
import { Vectors } from "./vectors";
import { Concepts } from "./words";

type Handlers = { [K in Kind]: (asked: Requests[K]["asked"]) => Promise<Requests[K]["answer"]> };

let store: HttpStore;
let field: Field;
let vectors: Vectors;
const concepts = new Map<string, Promise<Concepts>>();
const searching = new Map<string, Promise<Float32Array[]>>();
/** Main directions by which a picture was computed. */
const computed = new Map<string, Float64Array[]>();
/** Vectors that are read for exact scores where each takes its whole chunk. */
const MOST_CHUNKS = 10;

type Compute = (part: Part) => Float32Array | Promise<Float32Array>;

const handlers: Handlers = {
  async open(asked) {
    field = asked.field;
    store = new HttpStore(field.url, asked.root);
    vectors = new Vectors(field, store);
    return null;
  },
  picture: ({ modality, factor, row, col }) => readPicture(store, modality, factor, row, col),
  colours,
  vector: ({ modality, row, col }) => vectors.cell(modality, row, col),
  async statuses({ row, col }) {
    const codes = await Promise.all(field.modalities.map((name) => statusOf(name, row, col)));
    return Object.fromEntries(field.modalities.map((name, number) => [name, codes[number]]));
  },
  score,
  exact,
  fit,
  words: async ({ words, modality }) => (await loadedConcepts(modality)).find(words),
  nearest: async ({ modality, vector, count }) => (await loadedConcepts(modality)).nearest(vector, count),
};

function loadedConcepts(modality: string): Promise<Concepts> {
  if (!field.hasConcepts) {
    throw new StoreError(
      "This store has no concepts, so words cannot be searched: its model has no text encoder. " +
        "Click the map to search by a location.",
    );
  }
  const name = Concepts.arrayFor(field, modality);
  let loaded = concepts.get(name);
  if (loaded === undefined) {
    loaded = Concepts.load(store, field, name);
    loaded.catch(() => concepts.delete(name));
    concepts.set(name, loaded);
  }
  return loaded;
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
  const few = field.searched.includes(modality) ? field.searchLevels : [];
  // Of cells of one size, those whose vectors are read whole come first.
  const levels = [...field.levels, ...few].sort((a, b) => a.factor - b.factor);
  const most = budget.most - bytesBesides(modality);
  return mapped(modality, levels, { ...budget, most }, view, await scoring(modality, query));
}

/** Bytes that a click reads beside vectors: phrases, and the directions of few numbers. */
function bytesBesides(modality: string): number {
  const phrases = hasWords(field, modality) ? `concepts/${Concepts.arrayFor(field, modality)}` : "";
  const axes = field.searched.includes(modality) ? `search/${modality}_axes` : "";
  const shapeOf = (path: string) => (store.node(path) as { shape: number[] } | undefined)?.shape ?? [0];
  const count = (path: string) => shapeOf(path).reduce((product, length) => product * length, 1);
  return count(phrases) + 4 * count(axes);
}

async function exact({ modality, query, factor, rowcol }: ExactScoring): Promise<Float32Array> {
  const level = field.levels.find((one) => one.factor === factor)!;
  const asked = vectors.isPlain(modality, level) ? rowcol : rowcol.slice(0, MOST_CHUNKS);
  const read = await vectors.cells(modality, level, asked);
  const cells = Int32Array.from(read.flatMap((vector, cell) => (vector ? [cell] : [])));
  const all = new Int8Array(cells.length * field.widths[modality]);
  cells.forEach((cell, at) => all.set(read[cell]!, at * field.widths[modality]));
  const window = { row: 0, col: 0, height: 1, width: asked.length };
  return (await scoring(modality, query))({ modality, level, window, cells, vectors: all });
}

/** What scores cells: by the query itself or, where cells have few numbers, by its directions. */
async function scoring(modality: string, query: Query): Promise<Compute> {
  const known = query.isWords && field.hasCentres ? await loadedConcepts(modality) : null;
  const centre = known?.centres.get(modality);
  if (known && centre) {
    const direction = known.fromMean(query.vectors[0]);
    return async (part) => {
      if (part.level.directions === null) return centredScoresOf(part, direction, centre);
      const axes = await searchAxes(modality);
      return centredScoresOf(part, unit(along(axes, direction)), along(axes, centre));
    };
  }
  return async (part) => {
    if (part.level.directions === null) return scoresOf(part, query);
    const axes = await searchAxes(modality);
    return scoresOf(part, { ...query, vectors: query.vectors.map((one) => unit(along(axes, one))) });
  };
}

function searchAxes(modality: string): Promise<Float32Array[]> {
  let axes = searching.get(modality);
  if (axes === undefined) {
    axes = readAxes(`search/${modality}_axes`);
    axes.catch(() => searching.delete(modality));
    searching.set(modality, axes);
  }
  return axes;
}

function along(axes: Float32Array[], vector: ArrayLike<number>): Float64Array {
  return Float64Array.from(axes, (axis) => dot(axis, vector));
}

/** The first level that fits the budget, if any, and what all of them cost. */
async function affordable(modality: string, levels: Level[], { bytes, most }: Budget) {
  const costs = await Promise.all(
    levels.map((level) => vectors.cost(modality, level, fullWindow(level.grid))),
  );
  const least = Math.min(...costs);
  const isChosen = (cost: number, at: number) =>
    cost <= bytes || (cost <= most && (levels[at].factor === 1 || cost === least));
  return { number: costs.findIndex(isChosen), costs, least };
}

/** The picture of a modality by its main directions, of which the store holds none. */
async function colours({ modality, budget }: Requests["colours"]["asked"]): Promise<Colours> {
  const { number, least } = await affordable(modality, field.levels, budget);
  if (number < 0) {
    throw new StoreError(
      `A picture takes ${(least / 1e6).toFixed(1)} MB of vectors or more: raise Bytes to read, under ` +
        "Vectors, or have the store publish one.",
    );
  }
  const part = await vectors.whole(modality, field.levels[number]);
  if (part.cells.length === 0) throw new StoreError(`No cell of the field has a ${modality} vector.`);
  const axes = computed.get(modality) ?? mainDirections(part, field.widths[modality]);
  computed.set(modality, axes);
  return coloursOf(part, axes);
}

/** Numbers of the whole field by the first level that fits the budget, and of the view. */
async function mapped(
  modality: string,
  levels: Level[],
  budget: Budget,
  view: Scoring["view"],
  compute: Compute,
): Promise<Scored> {
  const { bytes } = budget;
  const { number, costs, least } = await affordable(modality, levels, budget);
  const scores = async (part: Part): Promise<Scores> => ({
    factor: part.level.factor,
    directions: part.level.directions,
    window: part.window,
    values: await compute(part),
  });
  const whole = number < 0 ? null : await scores(await vectors.whole(modality, levels[number]));
  const left = number >= 0 && costs[number] > bytes ? 0 : bytes;
  const part = view && (await detailOf(modality, levels, left, view, whole));
  return {
    whole,
    detail: part === null ? null : await scores(part),
    needed: number < 0 ? least : null,
  };
}

/** The view by the finest cells that fit the budget and are not below a pixel of the screen. */
async function detailOf(
  modality: string,
  levels: Level[],
  budget: number,
  view: { extent: number[]; pixel_m: number },
  whole: Scores | null,
): Promise<Part | null> {
  const isFiner = (level: Level) =>
    whole === null ||
    level.factor < whole.factor ||
    (level.factor === whole.factor && level.directions === null && whole.directions !== null);
  const useful = (level: Level) =>
    isFiner(level) && (level.grid.resolution_m * 2 > view.pixel_m || whole === null);
  for (const level of levels.filter(useful)) {
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
  // Where every cell is read for the map anyway, labelled cells cost nothing after it.
  if ((await affordable(modality, field.levels, budget)).number === 0) {
    await vectors.whole(modality, field.levels[0]);
  }
  const read = await vectors.cells(modality, field.levels[0], rowcol);
  const used = read.flatMap((vector, label) => (vector === null ? [] : [label]));
  const labelled = used.map((label) => unit(read[label]!));
  const texts = used.map((label) => String(labels[label]));
  const classes = typeof labels[0] === "number" ? [] : classesOf(texts);
  if (used.length < 2) {
    throw new StoreError(
      `${used.length} of ${rowcol.length} labelled cells have a ${modality} vector: label two at least.`,
    );
  }
  if (new Set(texts).size < 2) {
    throw new StoreError(
      `The labels of all ${used.length} cells with a ${modality} vector are the same: label cells of two ` +
        "classes, or with two numbers.",
    );
  }
  const targets = texts.map((text) =>
    Float64Array.from(classes.length > 0 ? classes.map((one) => Number(one === text)) : [Number(text)]),
  );
  const ridge = fitLabels(labelled, targets);
  const blocks = used.map((label) => asked.blocks[label]);
  const score = blockScore(labelled, targets, blocks, ridge.penalty, classes.length > 0);
  const map = (compute: (vector: Float64Array) => number) =>
    mapped(modality, field.levels, budget, view, (part) => ofEachVector(part, compute));
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
  const picture = `preview/${modality}_axes`;
  const axes = store.node(picture) === undefined ? computed.get(modality) : await readAxes(picture);
  const directions = axes ? labelled.map((vector) => axes.map((axis) => dot(axis, vector))) : null;
  const { weights, penalty } = ridge;
  return { values, uncertainty, shares, used, classes, score, residuals, directions, weights, penalty };
}

/** Main directions of a modality's vectors. */
async function readAxes(path: string): Promise<Float32Array[]> {
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
