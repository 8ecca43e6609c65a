/** Colours of numbers: viridis, blue to red, or one of each class. */

/** Lowest and highest number of the colours. */
export type Range = [number, number];

export interface Scale {
  range: Range;
  /** 256 colours, each as the four bytes of a pixel in memory, alpha last. */
  table: Uint32Array;
  /** The colours as a background of CSS, from the left to the right. */
  gradient: string;
}

const RISING = ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"];
const DIVERGING = ["#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b"];
const CLASSES = ["#d95f02", "#1b9e77", "#7570b3", "#e7298a", "#66a61e", "#e6ab02", "#a6761d", "#666666"];
const STEPS = 256;

export function classColour(number: number): string {
  return CLASSES[number % CLASSES.length];
}

export const rising = (range: Range): Scale => ramp(RISING, range);
export const diverging = (range: Range): Scale => ramp(DIVERGING, range);

/** A colour for each of the numbers 0, 1, and so on. */
export function stepped(colours: string[]): Scale {
  const count = colours.length;
  const table = tableOf((share) => channels(colours[Math.min(count - 1, Math.floor(share * count))]));
  return { range: [-0.5, count - 0.5], table, gradient: "none" };
}

function ramp(stops: string[], range: Range): Scale {
  const colours = stops.map(channels);
  const table = tableOf((share) => {
    const at = share * (stops.length - 1);
    const first = Math.min(Math.floor(at), stops.length - 2);
    return colours[first].map((low, k) => low + (at - first) * (colours[first + 1][k] - low));
  });
  return { range, table, gradient: `linear-gradient(to right, ${stops.join(", ")})` };
}

function channels(colour: string): number[] {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}

function tableOf(colour: (share: number) => number[]): Uint32Array {
  const bytes = new Uint8ClampedArray(4 * STEPS);
  for (let step = 0; step < STEPS; ++step) bytes.set([...colour(step / (STEPS - 1)), 255], 4 * step);
  return new Uint32Array(bytes.buffer);
}

/** A number's colour, as a pixel in memory. */
export function pixelOf({ range: [low, high], table }: Scale, value: number): number {
  const share = high > low ? (value - low) / (high - low) : 0.5;
  return table[Math.max(0, Math.min(STEPS - 1, Math.round((STEPS - 1) * share)))];
}

/** A number's colour for CSS. */
export function cssOf(scale: Scale, value: number): string {
  const bytes = new Uint8Array(Uint32Array.of(pixelOf(scale, value)).buffer);
  return `#${[...bytes.slice(0, 3)].map((one) => one.toString(16).padStart(2, "0")).join("")}`;
}

/** A low quantile and the highest number; where signs matter, as far on either side of zero. */
export function rangeOf(values: ArrayLike<number>, signed: boolean, quantile = 0.02): Range {
  const sorted = Float64Array.from(values).filter((value) => !Number.isNaN(value)).sort();
  if (sorted.length === 0) return [0, 1];
  const low = sorted[Math.floor(quantile * (sorted.length - 1))];
  const high = sorted[sorted.length - 1];
  if (!signed) return [low, high];
  const most = Math.max(Math.abs(low), Math.abs(high));
  return [-most, most];
}
