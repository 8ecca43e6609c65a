/** A table as it was read, and labels: rows with a location. */

/** A point, or a polygon by its rings of longitude and latitude, holes included. */
export interface Shape {
  /** The point, or the first corner of the polygon. */
  lonlat: number[];
  rings?: number[][][];
}

export interface Label extends Shape {
  /** A class, or a number as text. */
  label: string;
}

export interface Table {
  columns: string[];
  /** Of each row its number in the file, where it lies, and its text in each column. */
  rows: { row: number; shape: Shape; values: string[] }[];
}

/** Texts that stand for a missing number, as in `schemas/tables/text_values.py`. */
const MISSING = new Set(
  ["", "na", "n/a", "#n/a", "#na", "#n/a n/a", "<na>", "nat", "null", "none", "nil", "-", "--", "."].concat(
    ["\\n", "nan", "-nan", "1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"],
  ),
);

/** Whether a text stands for a missing value in a table. */
export function isMissing(text: string): boolean {
  return MISSING.has(text.trim().toLowerCase());
}

/** Whether a text is a number, and no code such as 01001. */
export function isNumber(text: string): boolean {
  const plain = text.trim();
  const isWritten = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(plain) && !/^[+-]?0\d/.test(plain);
  return isWritten && Number.isFinite(Number(plain));
}
