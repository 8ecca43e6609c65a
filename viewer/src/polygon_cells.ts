/** The cells whose centre lies in a polygon, by the rule of `client/field/label_rows.py`. */

import type { Grid } from "./field";
import { StoreError } from "./http_store";
import { CENTRAL_MERIDIANS, toMetres } from "./projections";

/** Largest number of cells of one polygon, evenly spaced among all. */
export const MOST_CELLS = 100;
/** Longest piece of an edge, which is straight in degrees and a curve on the map. */
const EDGE_STEP_DEGREES = 0.1;

/** Row and column of the cells of a polygon, from the north to the south. */
export function cellsWithin(grid: Grid, rings: number[][][]): [number, number][] {
  const crossings = new Map<number, number[]>();
  for (const ring of rings) {
    const corners = rowcolOf(grid, ring);
    corners.forEach((end, at) => {
      if (at > 0) addCrossings(crossings, corners[at - 1], end, grid.shape[0]);
    });
  }
  const cells: [number, number][] = [];
  for (const row of [...crossings.keys()].sort((a, b) => a - b)) {
    const at = crossings.get(row)!.sort((a, b) => a - b);
    for (let pair = 0; pair + 1 < at.length; pair += 2) {
      const last = Math.min(grid.shape[1], Math.ceil(at[pair + 1] - 0.5));
      for (let col = Math.max(0, Math.ceil(at[pair] - 0.5)); col < last; ++col) cells.push([row, col]);
    }
  }
  return evenly(cells, MOST_CELLS);
}

/** At most so many items, in even steps. */
export function evenly<T>(items: T[], most: number): T[] {
  const kept = Math.min(items.length, most);
  return Array.from({ length: kept }, (_, at) => items[Math.floor((at * items.length) / kept)]);
}

/** Corners of a ring in fractional rows and columns, its edges cut into short pieces. */
function rowcolOf(grid: Grid, ring: number[][]): number[][] {
  const meridian = CENTRAL_MERIDIANS[grid.crs];
  const turn = Math.floor((ring[0][0] - meridian + 180) / 360) * 360;
  const off = ring.find(([lon]) => Math.abs(lon - turn - meridian) > 180);
  if (off !== undefined) {
    throw new StoreError(
      `A polygon crosses the edge of the map at longitude ${meridian + 180 + turn}: cut it in two there.`,
    );
  }
  const points = [[ring[0][0] - turn, ring[0][1]]];
  for (let at = 1; at < ring.length; ++at) {
    const [[lon0, lat0], [lon, lat]] = [ring[at - 1], ring[at]];
    const span = Math.max(Math.abs(lon - lon0), Math.abs(lat - lat0));
    const pieces = Math.max(1, Math.ceil(span / EDGE_STEP_DEGREES));
    for (let piece = 1; piece <= pieces; ++piece) {
      const share = piece / pieces;
      points.push([lon0 - turn + share * (lon - lon0), lat0 + share * (lat - lat0)]);
    }
  }
  return points.map((point) => {
    const [x, y] = toMetres(point, grid.crs);
    return [-y / grid.resolution_m - grid.row0, x / grid.resolution_m - grid.col0];
  });
}

/** Note where an edge crosses the lines through the centres of rows. */
function addCrossings(crossings: Map<number, number[]>, start: number[], end: number[], rows: number) {
  const [low, high] = [Math.min(start[0], end[0]), Math.max(start[0], end[0])];
  const last = Math.min(rows, Math.ceil(high - 0.5));
  for (let row = Math.max(0, Math.ceil(low - 0.5)); row < last; ++row) {
    const col = start[1] + ((row + 0.5 - start[0]) * (end[1] - start[1])) / (end[0] - start[0]);
    const known = crossings.get(row);
    if (known) known.push(col);
    else crossings.set(row, [col]);
  }
}
