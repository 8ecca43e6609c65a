/** What a store says of its field: the grid, levels and modalities, and where a cell lies. */

import type { RootDocument } from "./http_store";
import { StoreError } from "./http_store";

const NEWEST_LAYOUT = 2;

/** A lattice of square cells in an Equal Earth CRS; row 0 is the northernmost. */
export interface Grid {
  crs: string;
  resolution_m: number;
  row0: number;
  col0: number;
  shape: [number, number];
}

/** Rows and columns of a level. */
export interface Window {
  row: number;
  col: number;
  height: number;
  width: number;
}

/**
 * The field itself (factor 1) or an overview, whose cells cover factor x factor cells: by all numbers
 * of their vectors, or by few.
 */
export interface Level {
  factor: number;
  /** Path of its group, with a slash at the end; empty for the root. */
  path: string;
  grid: Grid;
  /** Side of a stored object, in cells of the level. */
  shard: number;
  /** Main directions by which cells are compared; null if by their vectors. */
  directions: number | null;
}

export interface Field {
  url: string;
  /** Name or address by which Python opens the store. */
  source: string;
  /** Whether the store lies on this machine, so that reading it costs nothing. */
  isLocal: boolean;
  region: string;
  /** From the finest to the coarsest. */
  levels: Level[];
  /** The same cells by few numbers. */
  searchLevels: Level[];
  /** The modalities that have them. */
  searched: string[];
  modalities: string[];
  widths: Record<string, number>;
  bands: number;
  chunk: number;
  shard: number;
  /** Factors of the levels of the preview, from the finest; empty if there is none. */
  previews: number[];
  hasConcepts: boolean;
  /** Whether phrases are stored as the map to fused vectors shows them. */
  hasFusedPhrases: boolean;
  /** Whether words are compared from the centres of the modalities. */
  hasCentres: boolean;
  hasManifest: boolean;
  licence: string;
  citation: string;
  model: string;
}

export const STATUSES = [
  "not produced",
  "valid",
  "outside the region",
  "no observation",
  "encoding failed",
  "water",
];
export const VALID = 1;
export const FILL = -128;
/** Modality computed from all other modalities of a cell. */
export const FUSED = "fused";

interface Said {
  layout_version: number;
  state: string;
  region: string;
  grid: Grid;
  layout: {
    modalities: string[];
    bands: number;
    widths?: Record<string, number>;
    shard: number;
    chunk: number;
  };
  model: { name: string; sha256: string };
}

/** Read a field's description from its root, or say what is wrong with it. */
export function describeField(url: string, source: string, root: RootDocument): Field {
  const said = root.attributes?.unigeo as Said | undefined;
  if (said === undefined) {
    throw new StoreError(`${url} is no unigeo field: its root has no attribute "unigeo".`);
  }
  if (said.layout_version > NEWEST_LAYOUT) {
    throw new StoreError(
      `${url} has layout ${said.layout_version}, and this page reads ${NEWEST_LAYOUT}: use the page ` +
        "of a newer unigeo.",
    );
  }
  const nodes = root.consolidated_metadata?.metadata;
  if (said.state !== "published" || nodes === undefined) {
    throw new StoreError(
      `${url} is still being built: run unigeo-produce again to finish it, then reload this page.`,
    );
  }
  const { modalities, bands, widths, shard, chunk } = said.layout;
  const factors = listed(nodes, "overviews").map(Number);
  const levels = [1, ...factors]
    .filter((factor) => factor === 1 || `overviews/${factor}` in nodes)
    .sort((a, b) => a - b)
    .map((factor) => ({
      factor,
      path: factor === 1 ? "" : `overviews/${factor}/`,
      grid: coarsen(said.grid, factor),
      shard: shard / factor,
      directions: null,
    }));
  return {
    url,
    source: source || url,
    isLocal: source !== "" && !source.includes("://"),
    region: said.region,
    levels,
    ...describeSearch(nodes, said),
    modalities,
    widths: widths ?? Object.fromEntries(modalities.map((name) => [name, bands])),
    bands,
    chunk,
    shard,
    previews: Object.keys(nodes)
      .map((path) => /^preview\/(\d+)$/.exec(path))
      .flatMap((match) => (match ? [Number(match[1])] : []))
      .sort((a, b) => a - b),
    hasConcepts: "concepts/phrases" in nodes && "concepts/vectors" in nodes,
    hasFusedPhrases: "concepts/fused" in nodes,
    hasCentres: "concepts/centres" in nodes,
    hasManifest: "manifest" in nodes,
    licence: String(root.attributes.license ?? "not stated"),
    citation: String(root.attributes.citation ?? "not stated"),
    model: `${said.model.name} ${said.model.sha256.slice(0, 12)}`,
  };
}

/** The levels of the group `search`, if the store has it. */
function describeSearch(nodes: Record<string, unknown>, { grid, layout }: Said) {
  const node = nodes.search as { attributes?: { modalities?: string[] } } | undefined;
  const searched = node?.attributes?.modalities ?? [];
  const searchLevels = listed(nodes, "search")
    .map(Number)
    .flatMap((factor): Level[] => {
      const path = `search/${factor}/`;
      const array = nodes[path + searched[0]] as { shape: number[] } | undefined;
      if (array === undefined) return [];
      return [
        {
          factor,
          path,
          grid: coarsen(grid, factor),
          shard: layout.shard / factor,
          directions: array.shape[2],
        },
      ];
    });
  return { searched, searchLevels };
}

/** Whether words can be compared with a modality's vectors. */
export function hasWords(field: Field, modality: string): boolean {
  if (!field.hasConcepts) return false;
  return (modality === FUSED && field.hasFusedPhrases) || field.widths[modality] === field.bands;
}

function listed(nodes: Record<string, unknown>, group: string): unknown[] {
  const node = nodes[group] as { attributes?: { factors?: unknown[] } } | undefined;
  return node?.attributes?.factors ?? [];
}

export function coarsen(grid: Grid, factor: number): Grid {
  return {
    crs: grid.crs,
    resolution_m: grid.resolution_m * factor,
    row0: grid.row0 / factor,
    col0: grid.col0 / factor,
    shape: [grid.shape[0] / factor, grid.shape[1] / factor],
  };
}

/** West, south, east and north edge, in metres. */
export function bounds(grid: Grid, window?: Window): [number, number, number, number] {
  const { row, col, height, width } = window ?? fullWindow(grid);
  const size = grid.resolution_m;
  return [
    (grid.col0 + col) * size,
    -(grid.row0 + row + height) * size,
    (grid.col0 + col + width) * size,
    -(grid.row0 + row) * size,
  ];
}

export function fullWindow(grid: Grid): Window {
  return { row: 0, col: 0, height: grid.shape[0], width: grid.shape[1] };
}

/** Row and column of the cell that holds a point in metres; an edge belongs to the east and north. */
export function cellAt(grid: Grid, x: number, y: number): [number, number] | null {
  const row = Math.ceil(-y / grid.resolution_m) - 1 - grid.row0;
  const col = Math.floor(x / grid.resolution_m) - grid.col0;
  const inside = row >= 0 && col >= 0 && row < grid.shape[0] && col < grid.shape[1];
  return inside ? [row, col] : null;
}

export function centre(grid: Grid, row: number, col: number): [number, number] {
  const size = grid.resolution_m;
  return [(grid.col0 + col + 0.5) * size, -(grid.row0 + row + 0.5) * size];
}

/** The cells that an extent in metres touches; null if none. */
export function windowOf(grid: Grid, extent: number[]): Window | null {
  const size = grid.resolution_m;
  const [west, south, east, north] = extent;
  const top = Math.max(0, Math.floor(-north / size) - grid.row0);
  const left = Math.max(0, Math.floor(west / size) - grid.col0);
  const bottom = Math.min(grid.shape[0], Math.ceil(-south / size) - grid.row0);
  const right = Math.min(grid.shape[1], Math.ceil(east / size) - grid.col0);
  if (bottom <= top || right <= left) return null;
  return { row: top, col: left, height: bottom - top, width: right - left };
}
