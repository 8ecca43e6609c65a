/** The cells that labels lie in: the cell of a point, the cells whose centre a polygon holds. */

import type { Grid } from "./field";
import { cellAt, centre } from "./field";
import { cellsWithin } from "./polygon_cells";
import { toDegrees, toMetres } from "./projections";
import type { Label } from "./table_types";

/** Side of the blocks by which a probe of labels is scored. */
const BLOCK_M = 300_000;

export interface LabelledCell {
  cell: [number, number];
  block: [number, number];
  /** Number of the label. */
  label: number;
}

export function labelledCells(grid: Grid, labels: Label[]): LabelledCell[] {
  return labels.flatMap(({ lonlat, rings }, label) => {
    if (rings === undefined) {
      const [x, y] = toMetres(lonlat, grid.crs);
      const cell = cellAt(grid, x, y);
      return cell === null ? [] : [{ cell, block: blockOf(x, y), label }];
    }
    return cellsWithin(grid, rings).map((cell) => ({
      cell,
      block: blockOf(...centre(grid, ...cell)),
      label,
    }));
  });
}

function blockOf(x: number, y: number): [number, number] {
  return [Math.floor(y / BLOCK_M), Math.floor(x / BLOCK_M)];
}

/** Labels in which each polygon has become points, the centres of its cells. */
export function asPoints(grid: Grid, labels: Label[]): Label[] {
  return labels.flatMap((one) => {
    if (one.rings === undefined) return [one];
    return cellsWithin(grid, one.rings).map(([row, col]) => ({
      lonlat: toDegrees(centre(grid, row, col), grid.crs),
      label: one.label,
    }));
  });
}
