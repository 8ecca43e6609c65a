/** A histogram of scores and the values between which colours are spread. */

import type { Range } from "./score_layer";

const BINS = 70;

/** The 2nd percentile and the highest score; where signs matter, as far on either side of zero. */
export function colourRange(values: Float32Array, diverging: boolean): Range {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort();
  if (sorted.length === 0) return [0, 1];
  const [low, high] = [sorted[Math.floor(0.02 * (sorted.length - 1))], sorted[sorted.length - 1]];
  if (!diverging) return [low, high];
  const most = Math.max(Math.abs(low), Math.abs(high));
  return [-most, most];
}

export function drawHistogram(canvas: HTMLCanvasElement, values: Float32Array, range: Range): void {
  const [low, high] = range;
  const counts = new Array<number>(BINS).fill(0);
  for (const value of values) {
    if (Number.isNaN(value)) continue;
    const bin = Math.floor((BINS * (value - low)) / (high - low || 1));
    counts[Math.max(0, Math.min(BINS - 1, bin))] += 1;
  }
  const most = Math.max(1, ...counts);
  const context = canvas.getContext("2d")!;
  context.clearRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#5b6773";
  const width = canvas.width / BINS;
  counts.forEach((count, bin) => {
    const height = (canvas.height * count) / most;
    context.fillRect(bin * width, canvas.height - height, width - 1, height);
  });
}
