/** Main directions of a field's vectors, and its picture by them, as `principal_colours` in Python. */

import type { Window } from "./field";
import type { Colours } from "./messages";
import { dot, productsOf } from "./products";
import { unit } from "./similarity";
import type { Part } from "./vectors";

/** Cells, in even steps, whose vectors the directions are of. */
const MOST_FITTED = 5000;
const ROUNDS = 300;
/** Share of the cells at either end whose colours are the last ones. */
const CLIPPED = 0.01;

/** The three directions of largest variance, the first first; fewer if the vectors have fewer numbers. */
export function mainDirections({ vectors, cells }: Part, width: number): Float64Array[] {
  const count = Math.min(cells.length, MOST_FITTED);
  const rows = Array.from({ length: count }, (_, at) => {
    const cell = Math.floor((at * cells.length) / count);
    return unit(vectors.subarray(cell * width, (cell + 1) * width));
  });
  const mean = new Float64Array(width);
  for (const row of rows) row.forEach((one, band) => (mean[band] += one / count));
  for (const row of rows) {
    for (let band = 0; band < width; ++band) row[band] -= mean[band];
  }
  const covariance = productsOf(rows);
  const found: Float64Array[] = [];
  while (found.length < Math.min(3, width)) found.push(largestOf(covariance, found));
  return found;
}

/** The eigenvector of the largest eigenvalue among those at right angles to the ones before it. */
function largestOf(matrix: Float64Array[], before: Float64Array[]): Float64Array {
  // A start that no simple vector is at right angles to.
  let vector = Float64Array.from(matrix, (_, at) => Math.cos(1 + at * at));
  for (let round = 0; round < ROUNDS; ++round) {
    const next = round === 0 ? vector : Float64Array.from(matrix, (row) => dot(row, vector));
    for (const one of before) {
      const along = dot(one, next);
      for (let at = 0; at < next.length; ++at) next[at] -= along * one[at];
    }
    const length = Math.sqrt(dot(next, next));
    if (!(length > 1e-12)) break; // nothing varies any more
    vector = next.map((one) => one / length);
  }
  const sum = vector.reduce((total, one) => total + one, 0);
  return sum < 0 ? vector.map((one) => -one) : vector; // the sign is arbitrary: fix it
}

/** Red, green and blue of each cell, its position along each direction between two percentiles. */
export function coloursOf(part: Part, axes: Float64Array[]): Colours {
  const { cells, vectors, window } = part;
  const width = axes[0].length;
  const rgba = new Uint8ClampedArray(4 * window.width * window.height);
  axes.forEach((axis, band) => {
    const along = Float64Array.from(cells, (_, cell) => {
      const vector = vectors.subarray(cell * width, (cell + 1) * width);
      return dot(axis, vector) / Math.sqrt(dot(vector, vector));
    });
    const sorted = along.slice().sort();
    const [low, high] = [CLIPPED, 1 - CLIPPED].map((share) => sorted[Math.round(share * (sorted.length - 1))]);
    cells.forEach((cell, at) => {
      rgba[4 * cell + band] = high > low ? (255 * (along[at] - low)) / (high - low) : 0;
    });
  });
  for (const cell of cells) rgba[4 * cell + 3] = 255;
  return { factor: part.level.factor, window, rgba, valid: validWindow(part) };
}

/** The rows and columns that hold all cells with a vector. */
function validWindow({ cells, window }: Part): Window {
  let [top, left, bottom, right] = [window.height, window.width, 0, 0];
  for (const cell of cells) {
    const [row, col] = [Math.floor(cell / window.width), cell % window.width];
    [top, bottom] = [Math.min(top, row), Math.max(bottom, row + 1)];
    [left, right] = [Math.min(left, col), Math.max(right, col + 1)];
  }
  if (bottom <= top) return window;
  return { row: window.row + top, col: window.col + left, height: bottom - top, width: right - left };
}
