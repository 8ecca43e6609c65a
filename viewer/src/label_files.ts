/** Labels as files: CSV and GeoJSON with the columns that `Field.label` and `Field.probe` take. */

import { StoreError } from "./http_store";

export interface Label {
  lonlat: number[];
  /** A class, or a number as text. */
  label: string;
}

const LONGITUDES = ["lon", "longitude", "lng", "long", "x"];
const LATITUDES = ["lat", "latitude", "y"];
const COLUMN = "label";

export function toCsv(labels: Label[]): string {
  const quoted = (text: string) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = labels.map(({ lonlat, label }) => [...lonlat, quoted(label)].join(","));
  return [`lon,lat,${COLUMN}`, ...lines, ""].join("\n");
}

export function toGeoJson(labels: Label[]): string {
  const features = labels.map(({ lonlat, label }) => ({
    type: "Feature",
    properties: { [COLUMN]: isNumber(label) ? Number(label) : label },
    geometry: { type: "Point", coordinates: lonlat },
  }));
  return JSON.stringify({ type: "FeatureCollection", features }, null, 1);
}

export function isNumber(label: string): boolean {
  return label.trim() !== "" && Number.isFinite(Number(label));
}

/** Read labels from a file; the column named `label`, or else the first that is no coordinate. */
export function readLabels(name: string, text: string): Label[] {
  const labels = name.toLowerCase().endsWith("json") ? ofGeoJson(text) : ofCsv(text);
  if (labels.length === 0) throw new StoreError(`${name} has no point with a label.`);
  for (const { lonlat, label } of labels) {
    const [lon, lat] = lonlat;
    if (!(Math.abs(lon) <= 360 && Math.abs(lat) <= 90)) {
      throw new StoreError(`${name}: "${lonlat.join(", ")}" of label "${label}" are no degrees.`);
    }
  }
  return labels;
}

function ofGeoJson(text: string): Label[] {
  interface Feature {
    properties: Record<string, unknown> | null;
    geometry: { type: string; coordinates: number[] } | null;
  }
  let features: Feature[];
  try {
    features = JSON.parse(text).features;
  } catch {
    throw new StoreError("The file is no GeoJSON: it cannot be read as JSON.");
  }
  if (!Array.isArray(features)) throw new StoreError("The file is no GeoJSON FeatureCollection.");
  return features.flatMap(({ properties, geometry }) => {
    const values = Object.entries(properties ?? {});
    const [, value] = values.find(([key]) => key === COLUMN) ?? values[0] ?? [];
    if (geometry?.type !== "Point" || value == null) return [];
    return [{ lonlat: geometry.coordinates.slice(0, 2), label: String(value) }];
  });
}

function ofCsv(text: string): Label[] {
  const [head, ...lines] = csvRows(text.replace(/^\ufeff/, ""));
  const names = (head ?? []).map((name) => name.trim().toLowerCase());
  const lon = names.findIndex((name) => LONGITUDES.includes(name));
  const lat = names.findIndex((name) => LATITUDES.includes(name));
  if (lon < 0 || lat < 0) {
    throw new StoreError("The table has no columns lon and lat in its first line.");
  }
  const named = names.indexOf(COLUMN);
  const column = named >= 0 ? named : names.findIndex((_, at) => at !== lon && at !== lat);
  if (column < 0) throw new StoreError("The table has no column of labels beside lon and lat.");
  return lines
    .filter((cells) => (cells[column] ?? "").trim() !== "" && cells[lon] && cells[lat])
    .map((cells) => ({ lonlat: [Number(cells[lon]), Number(cells[lat])], label: cells[column].trim() }));
}

/** Rows of a CSV, in which quoted cells may hold commas, quotes and line ends. */
function csvRows(text: string): string[][] {
  const table: string[][] = [[]];
  for (const [, quoted, plain, end] of text.matchAll(/(?:"((?:[^"]|"")*)"|([^",\r\n]*))(,|\r?\n|$)/g)) {
    table[table.length - 1].push(quoted?.replaceAll('""', '"') ?? plain);
    if (end !== ",") table.push([]);
    if (end === "") break;
  }
  return table.filter((cells) => cells.some((cell) => cell !== ""));
}
