/** What the page asks of its worker, and what the worker answers. */

import type { Field, Window } from "./field";
import type { Counts, RootDocument } from "./http_store";
import type { BlockScore } from "./label_ridge";
import type { Query } from "./similarity";

export interface Opening {
  field: Field;
  root: RootDocument;
}

export interface Budget {
  /** Bytes that may be read for the whole field, and as many for the view. */
  bytes: number;
  /** Bytes that may be read for all cells of the field, or for the coarsest ones that there are. */
  most: number;
}

export interface Scoring {
  modality: string;
  query: Query;
  budget: Budget;
  /** Edges of the view in metres of the field's CRS, and the side of a pixel; null for none. */
  view: { extent: number[]; pixel_m: number } | null;
}

/** Scores of a window of a level, NaN where a cell has no vector. */
export interface Scores {
  factor: number;
  /** Main directions by which the cells were compared; null if by their vectors. */
  directions: number | null;
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

export interface ExactScoring {
  modality: string;
  query: Query;
  factor: number;
  /** Row and column in the level of this factor, the most wanted first. */
  rowcol: [number, number][];
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

/** A picture by the main directions of vectors, clear where a cell has none. */
export interface Colours {
  factor: number;
  window: Window;
  rgba: Uint8ClampedArray<ArrayBuffer>;
  /** What of the window holds vectors. */
  valid: Window;
}

/** Labels in cells. */
export interface LabelFit {
  modality: string;
  rowcol: [number, number][];
  /** Row and column of each label's block, by which a score is left out. */
  blocks: [number, number][];
  /** The label of each cell: a class, or a number. */
  labels: string[] | number[];
  budget: Budget;
  view: Scoring["view"];
}

export interface LabelsFitted {
  /** The predicted number, or the number of the likeliest class. */
  values: Scored;
  uncertainty: Scored;
  /** Probability of the likeliest class; null for numbers. */
  shares: Scored | null;
  /** The cells with a label and a vector, by their numbers. */
  used: number[];
  classes: string[];
  score: BlockScore | null;
  /**
   * The label less its prediction, of the used cells: by labels of other blocks if there is a score.
   * Of a class it is 1 less the prediction for it.
   */
  residuals: number[];
  /** The used cells' positions along the three main directions of the picture; null if it is not known. */
  directions: number[][] | null;
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
  /** The picture of a store that holds none. */
  colours: { asked: { modality: string; budget: Budget }; answer: Colours };
  vector: { asked: { modality: string; row: number; col: number }; answer: Int8Array | null };
  statuses: { asked: { row: number; col: number }; answer: Record<string, number> };
  score: { asked: Scoring; answer: Scored };
  /** Scores of cells by all numbers of their vectors; of the first ones, if each takes a chunk. */
  exact: { asked: ExactScoring; answer: Float32Array };
  words: { asked: { words: string; modality: string }; answer: WordsFound };
  nearest: { asked: { modality: string; vector: Int8Array; count: number }; answer: Matches };
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
