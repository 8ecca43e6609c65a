/** The cells of highest score, some distance apart. */

import type { Field } from "./field";
import { centre } from "./field";
import type { Scores } from "./messages";
import { toDegrees } from "./projections";

const EARTH_RADIUS_M = 6_371_008.8;

export interface Best {
  lonlat: number[];
  /** Row and column in the level of the scores. */
  rowcol: [number, number];
  score: number;
}

/** At most so many cells, each at least `apart_m` from those before it on the great circle. */
export function bestCells(field: Field, scores: Scores, count: number, apart_m: number): Best[] {
  const { grid } = field.levels.find((level) => level.factor === scores.factor)!;
  const { values, window } = scores;
  const order = [...values.keys()]
    .filter((cell) => !Number.isNaN(values[cell]))
    .sort((a, b) => values[b] - values[a]);
  const best: Best[] = [];
  for (const cell of order) {
    if (best.length === count) break;
    const row = window.row + Math.floor(cell / window.width);
    const col = window.col + (cell % window.width);
    const lonlat = toDegrees(centre(grid, row, col), grid.crs);
    if (best.every((other) => greatCircle_m(other.lonlat, lonlat) >= apart_m)) {
      best.push({ lonlat, rowcol: [row, col], score: values[cell] });
    }
  }
  return best;
}

function greatCircle_m([lon1, lat1]: number[], [lon2, lat2]: number[]): number {
  const [a, b, c] = [lat1, lat2, lon2 - lon1].map((degrees) => (degrees * Math.PI) / 180);
  const half = Math.sin((b - a) / 2) ** 2 + Math.cos(a) * Math.cos(b) * Math.sin(c / 2) ** 2;
  return 2 * EARTH_RADIUS_M * Math.asin(Math.min(1, Math.sqrt(half)));
}
