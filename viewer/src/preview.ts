/** The store's pictures of each modality, one tile of the map for each stored chunk. */

import TileLayer from "ol/layer/Tile.js";
import DataTileSource from "ol/source/DataTile.js";
import TileGrid from "ol/tilegrid/TileGrid.js";
import type { Field } from "./field";
import { bounds, coarsen } from "./field";
import type { Reader } from "./reader";

/** Most tiles of the first picture: each is a request. */
const FIRST_TILES = 4;

export class Preview {
  private readonly chunks = new Map<string, Promise<HTMLCanvasElement>>();
  private readonly factors: number[];

  constructor(
    private readonly field: Field,
    private readonly reader: Reader,
    readonly modality: string,
    private readonly onError: (error: unknown) => void,
  ) {
    this.factors = [...field.previews].sort((a, b) => b - a); // as of a tile grid: coarsest first
  }

  /** The picture by its coarsest levels, or by all of them. */
  layer(levels = this.factors.length): TileLayer {
    return new TileLayer({ zIndex: 1, source: this.source(levels) });
  }

  private source(levels: number): DataTileSource {
    const grid = this.field.levels[0].grid;
    const factors = this.factors.slice(0, levels);
    const extent = bounds(grid);
    return new DataTileSource({
      loader: (z, x, y) => this.tile(factors[z], y, x),
      projection: grid.crs,
      interpolate: false,
      transition: 0,
      tileSize: this.field.shard,
      tileGrid: new TileGrid({
        extent,
        origin: [extent[0], extent[3]],
        resolutions: factors.map((factor) => grid.resolution_m * factor),
        tileSize: this.field.shard,
      }),
    });
  }

  /** Levels of which an extent takes few bytes: those of the first picture. */
  firstLevels(extent: number[], bytes: number): number {
    const grid = this.field.levels[0].grid;
    const fitting = bytes / (3 * this.field.shard ** 2) - 1; // the coarsest tile is read already
    const most = Math.min(FIRST_TILES, fitting);
    const few = this.factors.filter((factor) => {
      const side = this.field.shard * factor * grid.resolution_m;
      const [west, , , north] = bounds(grid);
      const cols = Math.floor((extent[2] - west) / side) - Math.floor((extent[0] - west) / side) + 1;
      const rows =
        Math.floor((north - extent[1]) / side) - Math.floor((north - extent[3]) / side) + 1;
      return factor === this.factors[0] || rows * cols <= most;
    });
    return few.length;
  }

  /** The extent in metres of the pixels with data; the whole grid's if there are none. */
  async extentOfData(): Promise<number[]> {
    const factor = this.factors[0];
    const grid = coarsen(this.field.levels[0].grid, factor);
    const canvas = await this.tile(factor, 0, 0);
    const { data, width, height } = canvas
      .getContext("2d")!
      .getImageData(0, 0, canvas.width, canvas.height);
    let [left, top, right, bottom] = [width, height, 0, 0];
    for (let pixel = 0; pixel < width * height; ++pixel) {
      if (data[4 * pixel + 3] === 0) continue;
      const [row, col] = [Math.floor(pixel / width), pixel % width];
      [left, right] = [Math.min(left, col), Math.max(right, col + 1)];
      [top, bottom] = [Math.min(top, row), Math.max(bottom, row + 1)];
    }
    if (right <= left) return bounds(grid);
    return bounds(grid, { row: top, col: left, height: bottom - top, width: right - left });
  }

  private tile(factor: number, row: number, col: number): Promise<HTMLCanvasElement> {
    const key = [factor, row, col].join();
    let canvas = this.chunks.get(key);
    if (canvas === undefined) {
      canvas = this.read(factor, row, col);
      canvas.catch((error) => {
        this.chunks.delete(key);
        this.onError(error);
      });
      this.chunks.set(key, canvas);
    }
    return canvas;
  }

  private async read(factor: number, row: number, col: number): Promise<HTMLCanvasElement> {
    const { modality, reader } = this;
    const { rgba, width, height } = await reader.ask("picture", { modality, factor, row, col });
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const image = new ImageData(rgba, width, height);
    canvas.getContext("2d", { willReadFrequently: true })!.putImageData(image, 0, 0);
    return canvas;
  }
}
