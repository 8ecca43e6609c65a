/** Scores of cells on the map: the whole field, and the view in finer cells above it. */

import { CellImages } from "./cell_images";
import type { Scale } from "./colours";
import { pixelOf, rising } from "./colours";
import type { Field } from "./field";
import type { Scored, Scores } from "./messages";

export class ScoreLayer {
  threshold = -Infinity;
  private readonly images: CellImages;
  private scored: Scored | null = null;
  private scale = rising([0, 1]);

  constructor(field: Field) {
    this.images = new CellImages(field, 5);
  }

  get layer() {
    return this.images.layer;
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
    this.images.show(parts.map((part) => ({ ...part, pixels: this.pixels(part) })));
  }

  private pixels({ window, values }: Scores): ImageData {
    const image = new ImageData(window.width, window.height);
    const colours = new Uint32Array(image.data.buffer);
    for (let cell = 0; cell < values.length; ++cell) {
      const value = values[cell];
      if (value >= this.threshold) colours[cell] = pixelOf(this.scale, value); // not where NaN
    }
    return image;
  }
}
