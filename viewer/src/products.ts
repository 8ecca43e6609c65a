/** Products of vectors and of the columns of a matrix. */

export function dot(one: ArrayLike<number>, other: ArrayLike<number>): number {
  let sum = 0;
  for (let at = 0; at < one.length; ++at) sum += one[at] * other[at];
  return sum;
}

/** Sum over rows of the products of each pair of columns. */
export function productsOf(rows: Float64Array[]): Float64Array[] {
  const { length: width } = rows[0];
  const sums = Array.from({ length: width }, () => new Float64Array(width));
  for (const row of rows) {
    for (let at = 0; at < width; ++at) {
      const [own, of] = [row[at], sums[at]];
      for (let other = 0; other <= at; ++other) of[other] += own * row[other];
    }
  }
  for (let at = 0; at < width; ++at) {
    for (let other = 0; other < at; ++other) sums[other][at] = sums[at][other];
  }
  return sums;
}
