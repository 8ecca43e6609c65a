/** Tables as files: CSV and GeoJSON, read with all their columns; labels, written as both. */

import { decoded, readCsv } from "./csv_files";
import { StoreError } from "./http_store";
import type { Label, Shape, Table } from "./table_types";
import { isMissing, isNumber } from "./table_types";

interface Feature {
  properties: Record<string, unknown> | null;
  geometry: { type: string; coordinates: unknown } | null;
}

const COLUMN = "label";
/** Size of the largest file that is read. */
const MOST_BYTES = 100e6;
const DEGREES = /CRS:?84|EPSG:+(4326|4269)/i;

/** Labels as numbers, if all of them are; else null, for classes. */
export function numbersOf(labels: string[]): number[] | null {
  if (labels.length === 0 || !labels.every(isNumber)) return null;
  return labels.map(Number);
}

/** Classes in order: codes as numbers, and other texts as texts. */
export function classesOf(labels: string[]): string[] {
  const kinds = [...new Set(labels)];
  return kinds.every(isNumber) ? kinds.sort((a, b) => Number(a) - Number(b)) : kinds.sort();
}

/** One row for each labelled point: polygons are to be given by the centres of their cells. */
export function toCsv(labels: Label[]): string {
  const quoted = (text: string) => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const lines = labels.map(({ lonlat, label }) => [...lonlat, quoted(label)].join(","));
  return [`lon,lat,${COLUMN}`, ...lines, ""].join("\n");
}

export function toGeoJson(labels: Label[]): string {
  const numbers = numbersOf(labels.map(({ label }) => label));
  const features = labels.map(({ lonlat, rings, label }, row) => ({
    type: "Feature",
    properties: { [COLUMN]: numbers?.[row] ?? label },
    geometry: rings
      ? { type: "MultiPolygon", coordinates: partsOf(rings) }
      : { type: "Point", coordinates: lonlat },
  }));
  return JSON.stringify({ type: "FeatureCollection", features }, null, 1);
}

/** Rings as polygons: a ring within an odd number of others is a hole of the innermost one. */
export function partsOf(rings: number[][][]): number[][][][] {
  const around = (ring: number[][]) => rings.filter((other) => other !== ring && within(other, ring[0]));
  const isOuter = (ring: number[][]) => around(ring).length % 2 === 0;
  const parts = rings.filter(isOuter).map((ring) => [ring]);
  for (const hole of rings.filter((ring) => !isOuter(ring))) {
    const holders = parts.filter(([outer]) => around(hole).includes(outer));
    holders.sort((a, b) => around(b[0]).length - around(a[0]).length)[0].push(hole);
  }
  return parts;
}

function within(ring: number[][], [lon, lat]: number[]): boolean {
  let inside = false;
  for (let at = 1; at < ring.length; ++at) {
    const [[lon1, lat1], [lon2, lat2]] = [ring[at - 1], ring[at]];
    if (lat1 <= lat === lat2 <= lat) continue;
    if (lon < lon1 + ((lat - lat1) * (lon2 - lon1)) / (lat2 - lat1)) inside = !inside;
  }
  return inside;
}

/** The column of labels: the one of this name, or else the first of numbers, or the first. */
export function columnOfLabels({ columns, rows }: Table): string {
  const named = columns.find((name) => name.toLowerCase() === COLUMN);
  const given = (at: number) => rows.map(({ values }) => values[at]).filter((text) => !isMissing(text));
  const ofNumbers = (_: string, at: number) => numbersOf(given(at)) !== null;
  return named ?? columns.find(ofNumbers) ?? columns[0];
}

/** The rows that have a value in a column. */
export function labelsOf(table: Table, column: string): Label[] {
  const at = table.columns.indexOf(column);
  return table.rows
    .map(({ shape, values }) => ({ ...shape, label: values[at].trim() }))
    .filter(({ label }) => !isMissing(label));
}

/** Read a file by its name and bytes. */
export function readTable(name: string, bytes: ArrayBuffer): Table {
  if (bytes.byteLength > MOST_BYTES) {
    throw new StoreError(
      `${name} has ${Math.round(bytes.byteLength / 1e6)} MB, and ${MOST_BYTES / 1e6} can be read: save a ` +
        "sample of its rows; a thousand cells are fitted at most.",
    );
  }
  const text = decoded(bytes);
  const table = name.toLowerCase().endsWith("json") ? ofGeoJson(name, text) : readCsv(name, text);
  if (table.rows.length === 0) throw new StoreError(`${name} has no row with a location.`);
  for (const { row, shape } of table.rows) {
    const isBad = ([lon, lat]: number[]) => !(Math.abs(lon) <= 360 && Math.abs(lat) <= 90);
    const bad = (shape.rings?.flat() ?? [shape.lonlat]).find(isBad);
    if (bad === undefined) continue;
    const [lon, lat] = bad;
    const advice =
      Math.abs(lon) <= 90 && Math.abs(lat) <= 360
        ? "Longitude and latitude look swapped: longitude comes first."
        : "Give WGS 84 degrees as plain numbers, such as -122.33.";
    throw new StoreError(
      `${name}: "${bad.join(", ")}" in row ${row} is no longitude and latitude in degrees. ${advice}`,
    );
  }
  return table;
}

function ofGeoJson(name: string, text: string): Table {
  let document: { features?: Feature[]; crs?: { properties?: { name?: unknown } } } | null;
  try {
    document = JSON.parse(text.replace(/^\ufeff/, ""));
  } catch {
    throw new StoreError(`${name} is no GeoJSON: it cannot be read as JSON.`);
  }
  const features = document?.features;
  if (!Array.isArray(features)) throw new StoreError(`${name} is no GeoJSON FeatureCollection.`);
  const broken = features.findIndex((one) => typeof one !== "object" || one === null);
  if (broken >= 0) throw new StoreError(`${name}, feature ${broken} is no object of GeoJSON.`);
  const crs = document!.crs?.properties?.name;
  if (crs !== undefined && !DEGREES.test(String(crs))) {
    throw new StoreError(`${name} is in ${crs}: save it in longitude and latitude, WGS 84.`);
  }
  const columns = [...new Set(features.flatMap(({ properties }) => Object.keys(properties ?? {})))];
  if (columns.length === 0) throw new StoreError(`${name} has no properties to take as labels.`);
  const rows = features.flatMap(({ properties, geometry }, row) => {
    if (geometry == null) return [];
    const values = columns.map((column) => textOf(properties?.[column]));
    return [{ row, shape: shapeOf(geometry, `${name}, feature ${row}`), values }];
  });
  return { columns, rows };
}

function textOf(value: unknown): string {
  if (value == null) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function shapeOf({ type, coordinates }: NonNullable<Feature["geometry"]>, what: string): Shape {
  if (type === "Point") return { lonlat: positionOf(coordinates, what) };
  if (type !== "Polygon" && type !== "MultiPolygon") {
    throw new StoreError(`${what} is a ${type}: points and polygons can be labels.`);
  }
  const parts = listOf(type === "Polygon" ? [coordinates] : coordinates, what);
  const rings = parts
    .flatMap((part) => listOf(part, what))
    .map((ring) => listOf(ring, what).map((corner) => positionOf(corner, what)));
  const isClosed = (ring: number[][]) => ring.length >= 4 && `${ring[0]}` === `${ring[ring.length - 1]}`;
  if (rings.length === 0 || !rings.every(isClosed)) {
    throw new StoreError(`${what} is no polygon: a ring has four corners, the last of which is the first.`);
  }
  return { lonlat: rings[0][0], rings };
}

function listOf(value: unknown, what: string): unknown[] {
  if (Array.isArray(value)) return value;
  throw new StoreError(`${what} has coordinates that are no lists of numbers.`);
}

function positionOf(value: unknown, what: string): number[] {
  const position = listOf(value, what).slice(0, 2);
  if (position.length === 2 && position.every((one) => typeof one === "number")) return position as number[];
  throw new StoreError(`${what} has coordinates that are no lists of numbers.`);
}
