/** A histogram of scores. */

import type { Range } from "./colours";

const BINS = 70;

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
