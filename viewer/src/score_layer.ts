/** Scores of cells as a layer of the map: the whole field, and the view in finer cells above it. */

import ImageLayer from "ol/layer/Image.js";
import ImageCanvasSource from "ol/source/ImageCanvas.js";
import type { Scale } from "./colours";
import { pixelOf, rising } from "./colours";
import type { Field } from "./field";
import { bounds } from "./field";
import type { Scored, Scores } from "./messages";

export class ScoreLayer {
  readonly layer: ImageLayer<ImageCanvasSource>;
  threshold = -Infinity;
  private canvases: { canvas: HTMLCanvasElement; extent: number[] }[] = [];
  private scored: Scored | null = null;
  private scale = rising([0, 1]);
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

  show(scored: Scored | null, scale: Scale): void {
    this.scored = scored;
    this.scale = scale;
    this.threshold = -Infinity;
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
    for (let cell = 0; cell < values.length; ++cell) {
      const value = values[cell];
      if (value >= this.threshold) colours[cell] = pixelOf(this.scale, value); // not where NaN
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
