/**
 * Ridge on a few labels, by the equations of `client/probing/label_ridge.py`: the penalty that makes
 * the labels most likely, the uncertainty of Bayesian linear regression, a score by blocks.
 */

import { StoreError } from "./http_store";

/** Penalties that are tried, times the mean squared distance of the vectors from their mean. */
const PENALTIES = [1e-3, 1e-2, 1e-1, 1, 1e1, 1e2];
const LEAST_LABELS = 20;
const LEAST_BLOCKS = 5;
const FOLDS = 5;

type Matrix = Float64Array[];

export interface LabelRidge {
  centre: Float64Array;
  centred: Matrix;
  inverse: Matrix;
  /** band x output */
  weights: Matrix;
  intercept: Float64Array;
  penalty: number;
  noise: number;
}

export interface BlockScore {
  kind: "R2" | "accuracy";
  value: number;
  baseline: number;
}

/** Fit unit vectors (label x band) to targets (label x output). */
export function fitLabels(vectors: Matrix, targets: Matrix, penalty?: number): LabelRidge {
  const centre = meanOf(vectors);
  const intercept = meanOf(targets);
  const centred = vectors.map((vector) => vector.map((one, band) => one - centre[band]));
  const y = targets.map((target) => target.map((one, output) => one - intercept[output]));
  const gram = centred.map((one) => Float64Array.from(centred, (other) => dot(one, other)));
  const count = gram.length;
  const scale = gram.reduce((sum, row, label) => sum + row[label], 0) / count;
  if (!(scale > 1e-12)) {
    throw new StoreError(
      `The ${count} labels lie in cells of one vector: there is nothing to tell apart. Label cells ` +
        "that differ.",
    );
  }
  const candidates = penalty === undefined ? PENALTIES.map((one) => one * scale) : [penalty];
  const freedom = count - 1;
  let best: { unlikely: number; candidate: number; inverse: Matrix; squares: number } | null = null;
  for (const candidate of candidates) {
    const { inverse, logDeterminant } = inverseOf(gram, candidate);
    const fitted = product(inverse, y);
    const squares = candidate * fitted.reduce((sum, row, label) => sum + dot(row, y[label]), 0);
    const unlikely = freedom * Math.log(squares) + logDeterminant - count * Math.log(candidate);
    if (best === null || unlikely < best.unlikely) best = { unlikely, candidate, inverse, squares };
  }
  const { candidate, inverse, squares } = best!;
  const noise = Math.sqrt(squares / (freedom * intercept.length));
  const dual = product(inverse, y);
  const weights = Array.from(centre, (_, band) =>
    intercept.map((_, output) =>
      dual.reduce((sum, row, label) => sum + centred[label][band] * row[output], 0),
    ),
  );
  return { centre, centred, inverse, weights, intercept, penalty: candidate, noise };
}

/** Predictions of a vector: one for each output. */
export function predict(ridge: LabelRidge, vector: ArrayLike<number>): Float64Array {
  const { centre, weights, intercept } = ridge;
  const predicted = Float64Array.from(intercept);
  for (let band = 0; band < centre.length; ++band) {
    const from = vector[band] - centre[band];
    const row = weights[band];
    for (let output = 0; output < predicted.length; ++output) predicted[output] += from * row[output];
  }
  return predicted;
}

/** Standard deviation of a label at a vector. */
export function deviation(ridge: LabelRidge, vector: ArrayLike<number>): number {
  const { centre, centred, inverse, penalty, noise } = ridge;
  const x = centre.map((mean, band) => vector[band] - mean);
  const known = Float64Array.from(centred, (one) => dot(one, x));
  let left = dot(x, x);
  for (let label = 0; label < known.length; ++label) {
    left -= known[label] * dot(inverse[label], known);
  }
  return noise * Math.sqrt(1 + 1 / known.length + Math.max(left, 0) / penalty);
}

/** Score in blocks that were left out; null if there is too little to judge. */
export function blockScore(
  vectors: Matrix,
  targets: Matrix,
  blocks: [number, number][],
  penalty: number,
  classes: boolean,
): BlockScore | null {
  const known = [...new Set(blocks.map(String))]
    .map((block) => block.split(",").map(Number))
    .sort((a, b) => a[0] - b[0] || a[1] - b[1])
    .map(String);
  if (targets.length < LEAST_LABELS || known.length < LEAST_BLOCKS) return null;
  const fold = blocks.map((block) => known.indexOf(String(block)) % FOLDS);
  const predicted: Matrix = [];
  for (let one = 0; one < FOLDS; ++one) {
    const rest = fold.flatMap((number, label) => (number === one ? [] : [label]));
    const pick = (rows: Matrix) => rest.map((label) => rows[label]);
    const trained = pick(vectors);
    const alike = trained.every((vector) => vector.every((n, band) => Math.abs(n - trained[0][band]) <= 1e-9));
    const ridge = alike ? null : fitLabels(trained, pick(targets), penalty);
    fold.forEach((number, label) => {
      if (number !== one) return;
      predicted[label] = ridge ? predict(ridge, vectors[label]) : meanOf(pick(targets));
    });
  }
  const mean = meanOf(targets);
  if (classes) {
    const right = predicted.filter((row, label) => largest(row) === largest(targets[label])).length;
    return { kind: "accuracy", value: right / targets.length, baseline: Math.max(...mean) };
  }
  let errors = 0;
  let spread = 0;
  targets.forEach(([target], label) => {
    errors += (target - predicted[label][0]) ** 2;
    spread += (target - mean[0]) ** 2;
  });
  return { kind: "R2", value: 1 - errors / spread, baseline: 0 };
}

/** Index of the largest number, the first of equals. */
export function largest(row: Float64Array): number {
  let best = 0;
  for (let at = 1; at < row.length; ++at) if (row[at] > row[best]) best = at;
  return best;
}

function dot(one: Float64Array, other: Float64Array): number {
  let sum = 0;
  for (let at = 0; at < one.length; ++at) sum += one[at] * other[at];
  return sum;
}

function meanOf(rows: Matrix): Float64Array {
  const mean = new Float64Array(rows[0].length);
  for (const row of rows) for (let at = 0; at < mean.length; ++at) mean[at] += row[at];
  return mean.map((sum) => sum / rows.length);
}

function product(matrix: Matrix, columns: Matrix): Matrix {
  return matrix.map((row) => {
    const sums = new Float64Array(columns[0].length);
    row.forEach((number, at) => columns[at].forEach((one, k) => (sums[k] += number * one)));
    return sums;
  });
}

/** Inverse of a positive semidefinite matrix plus a multiple of the identity, by Cholesky. */
function inverseOf(gram: Matrix, added: number): { inverse: Matrix; logDeterminant: number } {
  const count = gram.length;
  const lower = gram.map(() => new Float64Array(count));
  for (let row = 0; row < count; ++row) {
    for (let col = 0; col <= row; ++col) {
      let sum = gram[row][col] + (row === col ? added : 0);
      for (let k = 0; k < col; ++k) sum -= lower[row][k] * lower[col][k];
      lower[row][col] = row === col ? Math.sqrt(sum) : sum / lower[col][col];
    }
  }
  const inverse = gram.map(() => new Float64Array(count));
  for (let col = 0; col < count; ++col) {
    const solved = new Float64Array(count);
    for (let row = col; row < count; ++row) {
      let sum = row === col ? 1 : 0;
      for (let k = col; k < row; ++k) sum -= lower[row][k] * solved[k];
      solved[row] = sum / lower[row][row];
    }
    for (let row = count - 1; row >= 0; --row) {
      let sum = solved[row];
      for (let k = row + 1; k < count; ++k) sum -= lower[k][row] * inverse[k][col];
      inverse[row][col] = sum / lower[row][row];
    }
  }
  const logDeterminant = lower.reduce((sum, row, at) => sum + 2 * Math.log(row[at]), 0);
  return { inverse, logDeterminant };
}
