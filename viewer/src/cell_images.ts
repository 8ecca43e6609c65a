/** Images of windows of cells as a layer of the map, one pixel to a cell. */

import ImageLayer from "ol/layer/Image.js";
import ImageCanvasSource from "ol/source/ImageCanvas.js";
import type { Field, Window } from "./field";
import { bounds } from "./field";

/** Pixels of a window of a level. */
export interface CellImage {
  factor: number;
  window: Window;
  pixels: ImageData;
}

export class CellImages {
  readonly layer: ImageLayer<ImageCanvasSource>;
  private canvases: { canvas: HTMLCanvasElement; extent: number[] }[] = [];
  private readonly source: ImageCanvasSource;

  constructor(
    private readonly field: Field,
    zIndex: number,
  ) {
    this.source = new ImageCanvasSource({
      canvasFunction: (extent, resolution, pixelRatio, size) =>
        this.draw(extent, resolution / pixelRatio, size),
      projection: field.levels[0].grid.crs,
      interpolate: false,
      ratio: 1,
    });
    this.layer = new ImageLayer({ source: this.source, zIndex });
  }

  /** Show images, later ones above earlier ones. */
  show(images: CellImage[]): void {
    this.canvases = images.map(({ factor, window, pixels }) => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [window.width, window.height];
      canvas.getContext("2d")!.putImageData(pixels, 0, 0);
      const level = this.field.levels.find((one) => one.factor === factor)!;
      return { canvas, extent: bounds(level.grid, window) };
    });
    this.source.changed();
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
