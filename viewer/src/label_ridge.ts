/**
 * Ridge on a few labels, by the equations of `client/probing/label_ridge.py`: the penalty that makes
 * the labels most likely, the uncertainty of Bayesian linear regression, a score by blocks.
 */

import { StoreError } from "./http_store";
import { dot, productsOf } from "./products";

/** Penalties that are tried, times the mean squared distance of the vectors from their mean. */
const PENALTIES = [1e-3, 1e-2, 1e-1, 1, 1e1, 1e2];
const LEAST_LABELS = 20;
const LEAST_BLOCKS = 5;
const FOLDS = 5;
/** Factor by which the logistic function is nearest to the normal distribution's. */
const PROBIT = 1.702;

type Matrix = Float64Array[];

export interface LabelRidge {
  centre: Float64Array;
  centred: Matrix;
  /** Lower Cholesky factor of the Gram matrix of the centred vectors plus the penalty. */
  factor: Matrix;
  /** The same of bands, where they are fewer than labels: a deviation then takes fewer products. */
  bandFactor: Matrix | null;
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
  /** Prediction of each label by the labels of other blocks. */
  predicted: Matrix;
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
  interface Solved { unlikely: number; candidate: number; factor: Matrix; squares: number; dual: Matrix }
  let best: Solved | null = null;
  for (const candidate of candidates) {
    const factor = cholesky(gram, candidate);
    const dual = solve(factor, y);
    const squares = candidate * dual.reduce((sum, row, label) => sum + dot(row, y[label]), 0);
    const logDeterminant = factor.reduce((sum, row, at) => sum + 2 * Math.log(row[at]), 0);
    const unlikely = freedom * Math.log(squares) + logDeterminant - count * Math.log(candidate);
    if (best === null || unlikely < best.unlikely) best = { unlikely, candidate, factor, squares, dual };
  }
  const { candidate, factor, squares, dual } = best!;
  const noise = Math.sqrt(squares / (freedom * intercept.length));
  const weights = Array.from(centre, (_, band) =>
    intercept.map((_, output) =>
      dual.reduce((sum, row, label) => sum + centred[label][band] * row[output], 0),
    ),
  );
  const bandFactor = centre.length < count ? cholesky(productsOf(centred), candidate) : null;
  return { centre, centred, factor, bandFactor, weights, intercept, penalty: candidate, noise };
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
  const { centre, centred, factor, bandFactor, penalty, noise } = ridge;
  const x = centre.map((mean, band) => vector[band] - mean);
  if (bandFactor !== null) {
    forwards(bandFactor, x);
    return noise * Math.sqrt(1 + 1 / centred.length + dot(x, x));
  }
  const known = Float64Array.from(centred, (one) => dot(one, x));
  forwards(factor, known);
  const left = dot(x, x) - dot(known, known);
  return noise * Math.sqrt(1 + 1 / known.length + Math.max(left, 0) / penalty);
}

/** Probability of the likeliest class, by the rule of `LabelRidge.shares` in Python. */
export function likeliestShare(ridge: LabelRidge, vector: ArrayLike<number>): number {
  const spread = deviation(ridge, vector);
  const logs = predict(ridge, vector).map((one) => logLogistic((PROBIT * (one - 0.5)) / spread));
  const most = Math.max(...logs);
  return 1 / logs.reduce((sum, one) => sum + Math.exp(one - most), 0);
}

/** Logarithm of 1 / (1 + exp(-x)). */
function logLogistic(x: number): number {
  return x > 0 ? -Math.log1p(Math.exp(-x)) : x - Math.log1p(Math.exp(x));
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
    const baseline = Math.max(...mean);
    return { kind: "accuracy", value: right / targets.length, baseline, predicted };
  }
  let errors = 0;
  let spread = 0;
  targets.forEach(([target], label) => {
    errors += (target - predicted[label][0]) ** 2;
    spread += (target - mean[0]) ** 2;
  });
  return { kind: "R2", value: 1 - errors / spread, baseline: 0, predicted };
}

/** Index of the largest number, the first of equals. */
export function largest(row: Float64Array): number {
  let best = 0;
  for (let at = 1; at < row.length; ++at) if (row[at] > row[best]) best = at;
  return best;
}

function meanOf(rows: Matrix): Float64Array {
  const mean = new Float64Array(rows[0].length);
  for (const row of rows) for (let at = 0; at < mean.length; ++at) mean[at] += row[at];
  return mean.map((sum) => sum / rows.length);
}

/** Lower Cholesky factor of a positive semidefinite matrix plus a multiple of the identity. */
function cholesky(gram: Matrix, added: number): Matrix {
  const lower = gram.map((_, row) => new Float64Array(row + 1));
  for (let row = 0; row < gram.length; ++row) {
    const own = lower[row];
    for (let col = 0; col <= row; ++col) {
      const other = lower[col];
      let sum = gram[row][col] + (row === col ? added : 0);
      for (let k = 0; k < col; ++k) sum -= own[k] * other[k];
      own[col] = row === col ? Math.sqrt(sum) : sum / other[col];
    }
  }
  return lower;
}

/** Solve lower z = right in place. */
function forwards(lower: Matrix, right: Float64Array): void {
  for (let row = 0; row < right.length; ++row) {
    let sum = right[row];
    for (let k = 0; k < row; ++k) sum -= lower[row][k] * right[k];
    right[row] = sum / lower[row][row];
  }
}

/** Solve (lower lower') z = right, right label x output. */
function solve(lower: Matrix, right: Matrix): Matrix {
  const count = right.length;
  const solved = right.map((row) => new Float64Array(row.length));
  for (let output = 0; output < right[0].length; ++output) {
    const column = Float64Array.from(right, (row) => row[output]);
    forwards(lower, column);
    for (let row = count - 1; row >= 0; --row) {
      column[row] /= lower[row][row];
      for (let k = 0; k < row; ++k) column[k] -= lower[row][k] * column[row];
    }
    column.forEach((one, row) => (solved[row][output] = one));
  }
  return solved;
}
