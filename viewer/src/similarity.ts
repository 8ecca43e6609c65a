/** Cosines of quantized vectors with queries. */

import type { Part } from "./vectors";

/** A sum of cosines with unit vectors: one query, or A minus B. */
export interface Query {
  vectors: Float64Array[];
  weights: number[];
  /** Whether the vector is one of words, which may be compared from a centre. */
  isWords?: boolean;
}

export function unit(vector: ArrayLike<number>): Float64Array {
  let squares = 0;
  for (let band = 0; band < vector.length; ++band) squares += vector[band] * vector[band];
  const length = Math.sqrt(squares);
  return Float64Array.from(vector, (number) => number / length);
}

/** The weighted sum of cosines of each cell of a part, NaN where a cell has no vector. */
export function scoresOf(part: Part, query: Query): Float32Array {
  const scores = new Float32Array(part.window.height * part.window.width).fill(NaN);
  // A sum of products with the weighted sum is the weighted sum of products: one pass for all.
  const width = query.vectors[0].length;
  const combined = new Float64Array(width);
  query.vectors.forEach((vector, number) => {
    for (let band = 0; band < width; ++band) combined[band] += query.weights[number] * vector[band];
  });
  const { vectors, cells } = part;
  for (let cell = 0; cell < cells.length; ++cell) {
    const first = cell * width;
    let product = 0;
    let squares = 0;
    for (let band = 0; band < width; ++band) {
      const number = vectors[first + band];
      product += number * combined[band];
      squares += number * number;
    }
    scores[cells[cell]] = product / Math.sqrt(squares);
  }
  return scores;
}

/** The cosine of a direction with that of each cell's unit vector from a centre. */
export function centredScoresOf(
  part: Part,
  direction: Float64Array,
  centre: ArrayLike<number>,
): Float32Array {
  return ofEachVector(part, (vector) => {
    let product = 0;
    let squares = 0;
    for (let band = 0; band < vector.length; ++band) {
      const away = vector[band] - centre[band];
      product += away * direction[band];
      squares += away * away;
    }
    return squares > 0 ? product / Math.sqrt(squares) : 0;
  });
}

/** A number of each cell of a part from its unit vector, NaN where a cell has no vector. */
export function ofEachVector(part: Part, compute: (vector: Float64Array) => number): Float32Array {
  const numbers = new Float32Array(part.window.height * part.window.width).fill(NaN);
  const { vectors, cells } = part;
  const width = vectors.length / Math.max(1, cells.length);
  for (let cell = 0; cell < cells.length; ++cell) {
    numbers[cells[cell]] = compute(unit(vectors.subarray(cell * width, (cell + 1) * width)));
  }
  return numbers;
}
