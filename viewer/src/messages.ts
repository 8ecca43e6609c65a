/** What the page asks of its worker, and what the worker answers. */

import type { Field, Window } from "./field";
import type { Counts, RootDocument } from "./http_store";
import type { BlockScore } from "./label_ridge";
import type { Query } from "./similarity";

export interface Opening {
  field: Field;
  root: RootDocument;
}

export interface Scoring {
  modality: string;
  query: Query;
  /** Bytes that may be read for the whole field, and as many for the window. */
  budget: number;
  /** Edges of the view in metres of the field's CRS, and the side of a pixel; null for none. */
  view: { extent: number[]; pixel_m: number } | null;
}

/** Scores of a window of a level, NaN where a cell has no vector. */
export interface Scores {
  factor: number;
  window: Window;
  values: Float32Array;
}

export interface Scored {
  /** The whole field, if some level of it fits the budget. */
  whole: Scores | null;
  /** The view in finer cells, if they fit the budget. */
  detail: Scores | null;
  /** Bytes of the coarsest level, where not even that fits. */
  needed: number | null;
}

export interface Matches {
  phrases: string[];
  scores: number[];
}

/** Pixels of one stored chunk of the preview: RGBA, row by row. */
export interface Picture {
  rgba: Uint8ClampedArray<ArrayBuffer>;
  width: number;
  height: number;
}

/** Labels in cells: classes by number, or numbers. */
export interface LabelFit {
  modality: string;
  rowcol: [number, number][];
  /** Row and column of each label's block, by which a score is left out. */
  blocks: [number, number][];
  /** label x output: the number, or 1 for the label's class and 0 for the others. */
  targets: Float64Array[];
  classes: string[];
  budget: number;
  view: Scoring["view"];
}

export interface LabelsFitted {
  values: Scored;
  uncertainty: Scored;
  labels: number;
  used: number;
  classes: string[];
  score: BlockScore | null;
  /** band x output */
  weights: Float64Array[];
  penalty: number;
}

export interface Requests {
  fit: { asked: LabelFit; answer: LabelsFitted };
  open: { asked: Opening; answer: null };
  picture: {
    asked: { modality: string; factor: number; row: number; col: number };
    answer: Picture;
  };
  vector: { asked: { modality: string; row: number; col: number }; answer: Int8Array | null };
  statuses: { asked: { row: number; col: number }; answer: Record<string, number> };
  score: { asked: Scoring; answer: Scored };
  words: { asked: { words: string }; answer: WordsFound };
  nearest: { asked: { vector: Int8Array; count: number }; answer: Matches };
}

export interface WordsFound {
  vector: Float64Array;
  /** The stored phrases that match each term. */
  phrases: string[];
  unknown: string[];
}

export type Kind = keyof Requests;
export type Asked = { [K in Kind]: { id: number; kind: K; asked: Requests[K]["asked"] } }[Kind];
export type Answer = { id: number; counts: Counts } & ({ answer: unknown } | { error: string });
