/** What labels are: numbers or classes, and what speaks against taking them as such. */

import { classesOf, numbersOf } from "./table_files";
import { isNumber } from "./table_types";

export const MOST_CLASSES = 20;
const MOST_CHARACTERS = 40;
/** Numbers whose squares, and those of their differences, float64 can hold; as in `targets.py`. */
const [LARGEST, SMALLEST] = [1e100, 1e-100];
const DATE = /^\d{4}-\d{2}-\d{2}([T ].*)?$/;

export interface LabelValues {
  /** Labels as they are told apart: codes of classes as Python writes them, without zeros behind. */
  texts: string[];
  /** Labels as numbers; null if they are classes. */
  numbers: number[] | null;
  /** The classes in the order of their colours, also of numbers. */
  classes: string[];
  /** Whether some texts could be read as something else than classes, so that the user may choose. */
  isUnclear: boolean;
  /** Why the labels cannot be mapped as they are; null if they can be. */
  fault: string | null;
}

/** Read labels as numbers where all are, unless each is to be a class. */
export function valuesOf(labels: string[], areClasses: boolean): LabelValues {
  const numbers = numbersOf(labels);
  const kinds = new Set(labels);
  if (numbers === null) {
    const isUnclear = labels.length > 0 && doubt(labels) !== null;
    const fault = (areClasses ? null : doubt(labels)) ?? tooMany(kinds.size);
    return { texts: labels, numbers, classes: classesOf(labels), isUnclear, fault };
  }
  const areCodes = numbers.every(Number.isInteger) && kinds.size <= MOST_CLASSES;
  const texts = areCodes ? numbers.map(String) : labels;
  const asNumbers = areCodes && areClasses ? null : numbers;
  const fault = asNumbers && outOfRange(asNumbers);
  return { texts, numbers: asNumbers, classes: areCodes ? classesOf(texts) : [], isUnclear: areCodes, fault };
}

/** A label as it is listed. */
export function short(label: string): string {
  const line = label.replace(/\s+/g, " ");
  return line.length > MOST_CHARACTERS ? `${line.slice(0, MOST_CHARACTERS - 3)}...` : line;
}

/** What else than classes the texts may be meant as. */
function doubt(labels: string[]): string | null {
  const instead = "or tick Each label is a class";
  if (labels.every((label) => DATE.test(label))) {
    return (
      `The labels are dates, such as ${labels[0]}: make them numbers, such as the year or the days since ` +
      `a date, ${instead}.`
    );
  }
  const count = labels.reduce((sum, label) => sum + Number(isNumber(label)), 0);
  if (2 * count <= labels.length) return null;
  const [number, text] = [labels.find(isNumber)!, labels.find((label) => !isNumber(label))!];
  return (
    `${count} of ${labels.length} labels are numbers, such as ${number}, and others are not, such as ` +
    `"${short(text)}": correct or remove these, ${instead}.`
  );
}

function tooMany(count: number): string | null {
  if (count <= MOST_CLASSES) return null;
  return (
    `The labels are of ${count} classes, and ${MOST_CLASSES} can be told apart: choose a column with ` +
    "fewer, or one of numbers."
  );
}

function outOfRange(numbers: number[]): string | null {
  const low = numbers.reduce((least, one) => Math.min(least, one), Infinity);
  const high = numbers.reduce((most, one) => Math.max(most, one), -Infinity);
  if (Math.max(-low, high) > LARGEST) {
    return `A label is ${-low > high ? low : high}, too large to be squared: give labels in a larger unit.`;
  }
  if (high > low && high - low < SMALLEST) {
    return `The labels differ by ${high - low}, too little to be squared: give them in a smaller unit.`;
  }
  return null;
}
