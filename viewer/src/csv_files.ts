/** Text tables as people have them, read as `schemas/tables/` reads them: encoding, separator, positions. */

import { StoreError } from "./http_store";
import type { Table } from "./table_types";
import { isMissing } from "./table_types";

const LONGITUDES = ["lon", "longitude", "lng", "long", "längengrad", "laengengrad"];
const LATITUDES = ["lat", "latitude", "breitengrad"];
const SEPARATORS = [",", ";", "\t", "|"];

/** The text of a file: UTF-16 or UTF-8 by its first bytes, or else the encoding of Windows. */
export function decoded(bytes: ArrayBuffer): string {
  const [first, second] = new Uint8Array(bytes, 0, Math.min(2, bytes.byteLength));
  if (first === 0xff && second === 0xfe) return new TextDecoder("utf-16le").decode(bytes);
  if (first === 0xfe && second === 0xff) return new TextDecoder("utf-16be").decode(bytes);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return new TextDecoder("windows-1252").decode(bytes);
  }
}

export function readCsv(name: string, text: string): Table {
  const separator = separatorOf(text.slice(0, 1e5));
  const [head, ...lines] = csvRows(name, text, separator);
  const columns = (head ?? []).map((one) => one.trim());
  const found = coordinateColumns(columns);
  if (found === null) {
    const listed = columns.slice(0, 8).map((column) => column.slice(0, 30)).join(", ");
    throw new StoreError(
      `${name} has no columns lon and lat in its first line, which is "${listed}". Save the table as ` +
        "CSV, and name the columns of its longitudes and latitudes lon and lat.",
    );
  }
  // A column without a name is the index that pandas writes.
  const others = [...columns.keys()].filter((at) => !found.includes(at) && columns[at] !== "");
  if (others.length === 0) throw new StoreError(`${name} has no column of labels beside lon and lat.`);
  const plain = (cell: string | undefined) => withPoint((cell ?? "").trim().replace("−", "-"), separator);
  const rows = lines.flatMap((cells, row) => {
    const [lon, lat] = found.map((at) => plain(cells[at]));
    if (isMissing(lon) || isMissing(lat)) return [];
    const bad = [lon, lat].find((one) => !Number.isFinite(Number(one)));
    if (bad !== undefined) {
      throw new StoreError(`${name}, row ${row}: "${bad}" is no number. Write degrees as -122.33 or 47.61.`);
    }
    const shape = { lonlat: [Number(lon), Number(lat)] };
    return [{ row, shape, values: others.map((at) => plain(cells[at])) }];
  });
  return { columns: others.map((at) => columns[at]), rows };
}

/** A number with a decimal point, where a comma separates no cells. */
function withPoint(text: string, separator: string): string {
  return separator !== "," && /^[+-]?\d*,\d+(e[+-]?\d+)?$/i.test(text) ? text.replace(",", ".") : text;
}

/** Columns of longitude and latitude by their names; `x` and `y` where no others say so. */
function coordinateColumns(columns: string[]): [number, number] | null {
  const find = (names: string[]) => columns.findIndex((one) => names.includes(one.toLowerCase()));
  for (const [lon, lat] of [[find(LONGITUDES), find(LATITUDES)], [find(["x"]), find(["y"])]]) {
    if (lon >= 0 && lat >= 0) return [lon, lat];
  }
  return null;
}

/** The separator with which there are coordinates, and the most cells, in the first line. */
function separatorOf(text: string): string {
  const rated = SEPARATORS.map((separator) => {
    const [head] = splitRows(text, separator).rows;
    const isFound = coordinateColumns(head.map((one) => one.trim())) !== null;
    return { separator, rating: head.length + (isFound ? text.length : 0) };
  });
  return rated.reduce((best, one) => (one.rating > best.rating ? one : best)).separator;
}

function csvRows(name: string, text: string, separator: string): string[][] {
  const { rows, broken } = splitRows(text, separator);
  if (broken !== null) {
    throw new StoreError(
      `${name}, line ${broken + 1} of cells: a quoted cell does not end. It ends with a quote, and a quote ` +
        "in it is written twice.",
    );
  }
  return rows.filter((cells) => cells.length > 1 || cells[0].trim() !== "");
}

/** Rows of cells, which may hold separators and line ends in quotes; the first row that is broken. */
function splitRows(text: string, separator: string): { rows: string[][]; broken: number | null } {
  const end = separator === "|" ? "\\|" : separator;
  const cell = new RegExp(`(?:"((?:[^"]|"")*)"|("?)([^${end}\\r\\n]*))(${end}|\\r?\\n|\\r|$)`, "g");
  const rows: string[][] = [[]];
  let broken: number | null = null;
  for (const [, quoted, quote, plain, after] of text.matchAll(cell)) {
    if (quote === '"') broken ??= rows.length - 1;
    rows[rows.length - 1].push(quoted?.replaceAll('""', '"') ?? plain);
    if (after === "") break;
    if (after !== separator) rows.push([]);
  }
  return { rows, broken };
}
