/** Scores of cells as a layer of the map: the whole field, and the view in finer cells above it. */

import ImageLayer from "ol/layer/Image.js";
import ImageCanvasSource from "ol/source/ImageCanvas.js";
import type { Field } from "./field";
import { bounds } from "./field";
import type { Scored, Scores } from "./messages";

/** Stops of the colours from the lowest score to the highest: viridis, and blue to red. */
const RAMPS = {
  rising: ["#440154", "#3b528b", "#21918c", "#5ec962", "#fde725"],
  diverging: ["#2166ac", "#92c5de", "#f7f7f7", "#f4a582", "#b2182b"],
};
export type Ramp = keyof typeof RAMPS;

/** Lowest and highest score of the colours. */
export type Range = [number, number];

export class ScoreLayer {
  readonly layer: ImageLayer<ImageCanvasSource>;
  threshold = -Infinity;
  private canvases: { canvas: HTMLCanvasElement; extent: number[] }[] = [];
  private scored: Scored | null = null;
  private range: Range = [0, 1];
  private ramp: Ramp = "rising";
  private readonly source: ImageCanvasSource;

  constructor(private readonly field: Field) {
    this.source = new ImageCanvasSource({
      canvasFunction: (extent, resolution, pixelRatio, size) =>
        this.draw(extent, resolution / pixelRatio, size),
      projection: field.levels[0].grid.crs,
      interpolate: false,
      ratio: 1,
    });
    this.layer = new ImageLayer({ source: this.source, zIndex: 5 });
  }

  show(scored: Scored | null, range: Range, ramp: Ramp): void {
    this.scored = scored;
    this.range = range;
    this.ramp = ramp;
    this.paint();
  }

  /** Hide the cells below a score; nothing is read again. */
  hideBelow(threshold: number): void {
    this.threshold = threshold;
    this.paint();
  }

  private paint(): void {
    const parts = [this.scored?.whole, this.scored?.detail].filter((part) => part != null);
    this.canvases = parts.map((part) => ({ canvas: this.paintPart(part), extent: this.edges(part) }));
    this.source.changed();
  }

  private edges({ factor, window }: Scores): number[] {
    const level = this.field.levels.find((one) => one.factor === factor)!;
    return bounds(level.grid, window);
  }

  private paintPart({ window, values }: Scores): HTMLCanvasElement {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [window.width, window.height];
    const image = new ImageData(window.width, window.height);
    const colours = new Uint32Array(image.data.buffer);
    const table = colourTable(this.ramp);
    const [low, high] = this.range;
    for (let cell = 0; cell < values.length; ++cell) {
      const value = values[cell];
      if (!(value >= this.threshold)) continue;
      const share = high > low ? (value - low) / (high - low) : 0.5;
      colours[cell] = table[Math.max(0, Math.min(255, Math.round(255 * share)))];
    }
    canvas.getContext("2d")!.putImageData(image, 0, 0);
    return canvas;
  }

  private draw(extent: number[], pixel_m: number, size: number[]): HTMLCanvasElement {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = size.map(Math.ceil);
    const context = canvas.getContext("2d")!;
    context.imageSmoothingEnabled = false;
    for (const part of this.canvases) {
      const [west, south, east, north] = part.extent;
      const [left, top] = [(west - extent[0]) / pixel_m, (extent[3] - north) / pixel_m];
      const [width, height] = [(east - west) / pixel_m, (north - south) / pixel_m];
      context.drawImage(part.canvas, left, top, width, height);
    }
    return canvas;
  }
}

/** 256 colours, each as the four bytes of a pixel in memory (alpha last). */
function colourTable(ramp: Ramp): Uint32Array {
  const stops = RAMPS[ramp].map((colour) =>
    [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)),
  );
  const bytes = new Uint8ClampedArray(4 * 256);
  for (let step = 0; step < 256; ++step) {
    const at = (step / 255) * (stops.length - 1);
    const first = Math.min(Math.floor(at), stops.length - 2);
    const mixed = stops[first].map((low, k) => low + (at - first) * (stops[first + 1][k] - low));
    bytes.set([...mixed, 255], 4 * step);
  }
  return new Uint32Array(bytes.buffer);
}

export function rampGradient(ramp: Ramp): string {
  return `linear-gradient(to right, ${RAMPS[ramp].join(", ")})`;
}
