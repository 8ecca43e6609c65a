/** The map: pictures, scores, outlines and marks, in Equal Earth or in Web Mercator. */

import Feature from "ol/Feature.js";
import OlMap from "ol/Map.js";
import View from "ol/View.js";
import { ScaleLine, defaults as defaultControls } from "ol/control.js";
import MultiPolygon from "ol/geom/MultiPolygon.js";
import Point from "ol/geom/Point.js";
import type Polygon from "ol/geom/Polygon.js";
import Draw from "ol/interaction/Draw.js";
import type TileLayer from "ol/layer/Tile.js";
import BaseTileLayer from "ol/layer/Tile.js";
import VectorLayer from "ol/layer/Vector.js";
import { transform, transformExtent } from "ol/proj.js";
import { getRenderPixel } from "ol/render.js";
import type RenderEvent from "ol/render/Event.js";
import VectorSource from "ol/source/Vector.js";
import XYZ from "ol/source/XYZ.js";
import { Circle, Fill, Stroke, Style, Text } from "ol/style.js";
import { CellImages } from "./cell_images";
import type { Field } from "./field";
import { bounds } from "./field";
import type { Colours } from "./messages";
import { drawOutlines, outlines } from "./outlines";
import { Preview } from "./preview";
import { MERCATOR, toDegrees, toMetres } from "./projections";
import type { Reader } from "./reader";
import { ScoreLayer } from "./score_layer";
import { partsOf } from "./table_files";
import type { Shape } from "./table_types";

export interface Camera {
  lonlat: number[];
  /** Metres of a pixel, in the CRS of the view. */
  resolution: number;
}

export class MapView {
  readonly map: OlMap;
  readonly scores: ScoreLayer;
  readonly outlines = outlines();
  /** A picture that the store does not hold. */
  private readonly computed: CellImages;
  private readonly previews = new Map<string, Preview>();
  private readonly labels = new VectorLayer({ source: new VectorSource(), zIndex: 15 });
  private draw: Draw | null = null;
  private readonly marks = new VectorLayer({ source: new VectorSource(), zIndex: 20 });
  private readonly base = new BaseTileLayer<XYZ>({ zIndex: 0, visible: false });
  private pictures: (TileLayer | null)[] = [null, null];
  private swipe = 0.5;

  constructor(
    private readonly field: Field,
    private readonly reader: Reader,
    target: HTMLElement,
    private readonly onError: (error: unknown) => void,
  ) {
    this.scores = new ScoreLayer(field);
    this.computed = new CellImages(field, 1);
    this.map = new OlMap({
      target,
      controls: defaultControls({ rotate: false }).extend([new ScaleLine()]),
      layers: [this.base, this.computed.layer, this.scores.layer, this.outlines, this.labels, this.marks],
      view: this.newView(this.crs),
    });
    drawOutlines(this.outlines, this.crs);
  }

  get crs(): string {
    return this.field.levels[0].grid.crs;
  }

  private get viewCrs(): string {
    return this.map.getView().getProjection().getCode();
  }

  private newView(projection: string): View {
    return new View({
      projection,
      center: [0, 0],
      resolution: 10_000,
      minResolution: this.field.levels[0].grid.resolution_m / 32,
      maxResolution: 60_000,
      enableRotation: false,
    });
  }

  /** Show the picture of one modality, and of another to the right of the swipe. */
  showPictures(modality: string | null, other: string | null): void {
    for (const layer of this.pictures) if (layer !== null) this.map.removeLayer(layer);
    this.pictures = [modality, other].map((name) => (name ? this.preview(name).layer() : null));
    this.pictures.forEach((layer, number) => {
      if (layer === null) return;
      layer.setZIndex(1 + number);
      this.map.addLayer(layer);
    });
    const [, right] = this.pictures;
    right?.on("prerender", (event) => this.clip(event));
    right?.on("postrender", (event) => (event.context as CanvasRenderingContext2D).restore());
  }

  /** Show a picture that was computed here, or none. */
  showColours(colours: Colours | null): void {
    const images = colours ? [{ ...colours, pixels: new ImageData(colours.rgba, colours.window.width) }] : [];
    this.computed.show(images);
  }

  /** Fit the view to the cells of a computed picture. */
  fitTo({ factor, valid }: Colours): void {
    const { grid } = this.field.levels.find((level) => level.factor === factor)!;
    this.fitExtent(bounds(grid, valid));
  }

  private fitExtent(extent: number[]): void {
    const padding = [24, 24, 24, 24];
    this.map.getView().fit(transformExtent(extent, this.crs, this.viewCrs, 16), { padding });
  }

  /** Opacity of the pictures, 0 to 1. */
  setOpacity(opacity: number): void {
    this.computed.layer.setOpacity(opacity);
    for (const layer of this.pictures) layer?.setOpacity(opacity);
  }

  setSwipe(share: number): void {
    this.swipe = share;
    this.map.render();
  }

  private clip(event: RenderEvent): void {
    const context = event.context as CanvasRenderingContext2D;
    const [width, height] = this.map.getSize()!;
    const corners = [
      [width * this.swipe, 0],
      [width, 0],
      [width, height],
      [width * this.swipe, height],
    ].map((corner) => getRenderPixel(event, corner));
    context.save();
    context.beginPath();
    corners.forEach(([x, y], number) => (number ? context.lineTo(x, y) : context.moveTo(x, y)));
    context.closePath();
    context.clip();
  }

  private preview(modality: string): Preview {
    let preview = this.previews.get(modality);
    if (preview === undefined) {
      preview = new Preview(this.field, this.reader, modality, this.onError);
      this.previews.set(modality, preview);
    }
    return preview;
  }

  /** Fit the view to the data of a modality's picture, or to the grid. */
  async fit(modality: string | null): Promise<void> {
    const preview = modality === null ? null : this.preview(modality);
    const extent = (await preview?.extentOfData()) ?? bounds(this.field.levels[0].grid);
    this.fitExtent(extent);
  }

  /** Show the first picture by tiles of few bytes, until the view changes. */
  showFirst(modality: string, bytes: number): void {
    this.showPictures(null, null);
    const preview = this.preview(modality);
    const picture = preview.layer(preview.firstLevels(this.shown().extent, bytes));
    this.pictures = [picture, null];
    this.map.addLayer(picture);
    const view = this.map.getView();
    const state = () => `${view.getCenter()} ${view.getResolution()}`;
    const first = state();
    const onMove = () => {
      if (state() === first && view === this.map.getView()) return;
      picture.setSource(preview.layer().getSource());
      this.map.un("moveend", onMove);
    };
    this.map.on("moveend", onMove);
  }

  private toField(extent: number[]): number[] {
    return transformExtent(extent, this.viewCrs, this.crs, 16);
  }

  /** Edges of the view in metres of the field's CRS, and the side of a pixel. */
  shown(): { extent: number[]; pixel_m: number } {
    const view = this.map.getView();
    const extent = this.toField(view.calculateExtent(this.map.getSize()));
    return { extent, pixel_m: (extent[2] - extent[0]) / this.map.getSize()![0] };
  }

  camera(): Camera {
    const view = this.map.getView();
    return {
      lonlat: toDegrees(view.getCenter()!, this.viewCrs),
      resolution: view.getResolution()!,
    };
  }

  setCamera({ lonlat, resolution }: Camera): void {
    const view = this.map.getView();
    view.setCenter(toMetres(lonlat, this.viewCrs));
    view.setResolution(resolution);
  }

  /** Fly to a location, and ring it. */
  flyTo(lonlat: number[]): void {
    this.mark(RING, lonlat);
    const resolution = Math.min(
      this.map.getView().getResolution()!,
      this.field.levels[0].grid.resolution_m,
    );
    this.map.getView().animate({ center: toMetres(lonlat, this.viewCrs), resolution, duration: 500 });
  }

  /** Change the CRS of the view; the address of a base map, if any, is the user's own. */
  project(mercator: boolean, basemap: string): void {
    const crs = mercator ? MERCATOR : this.crs;
    this.base.setVisible(mercator && basemap !== "");
    this.base.setSource(
      mercator && basemap !== "" ? new XYZ({ url: basemap, crossOrigin: "anonymous" }) : null,
    );
    if (crs === this.viewCrs) return;
    const { lonlat, resolution } = this.camera();
    const stretch = 1 / Math.cos((lonlat[1] * Math.PI) / 180);
    this.map.setView(this.newView(crs));
    this.setCamera({ lonlat, resolution: mercator ? resolution * stretch : resolution / stretch });
    drawOutlines(this.outlines, crs);
    for (const feature of this.marks.getSource()!.getFeatures()) {
      feature.setGeometry(new Point(toMetres(feature.get("lonlat"), crs)));
    }
    for (const feature of this.labels.getSource()!.getFeatures()) {
      feature.setGeometry(this.geometryOf(feature.get("shape")));
    }
  }

  /** Put a mark with a letter, or take it away. */
  mark(letter: string, lonlat: number[] | null): void {
    const source = this.marks.getSource()!;
    const old = source.getFeatureById(letter);
    if (old) source.removeFeature(old);
    if (lonlat === null) return;
    const feature = new Feature({ geometry: new Point(toMetres(lonlat, this.viewCrs)), lonlat });
    feature.setId(letter);
    feature.setStyle(markStyle(letter));
    source.addFeature(feature);
  }

  /** Show labels in their colours. */
  markLabels(labels: (Shape & { number: number; colour: string })[]): void {
    const source = this.labels.getSource()!;
    source.clear();
    const styles = new Map<string, Style | Style[]>();
    const radius = labels.length > MANY ? 3 : 5;
    const features = labels.map((shape) => {
      const feature = new Feature({ geometry: this.geometryOf(shape), shape });
      feature.setId(shape.number);
      const kind = `${shape.colour} ${shape.rings === undefined}`;
      const style =
        styles.get(kind) ?? (shape.rings ? areaStyle(shape.colour) : pointStyle(shape.colour, radius));
      styles.set(kind, style);
      feature.setStyle(style);
      return feature;
    });
    source.addFeatures(features);
  }

  private geometryOf({ lonlat, rings }: Shape): Point | MultiPolygon {
    if (rings === undefined) return new Point(toMetres(lonlat, this.viewCrs));
    const laid = (ring: number[][]) => ring.map((corner) => toMetres(corner, this.viewCrs));
    return new MultiPolygon(partsOf(rings).map((part) => part.map(laid)));
  }

  /** Let clicks be the corners of polygons, and call back with the rings of each that is closed. */
  drawPolygons(draws: boolean, onDrawn: (rings: number[][][]) => void): void {
    if (this.draw !== null) this.map.removeInteraction(this.draw);
    this.draw = null;
    if (!draws) return;
    this.draw = new Draw({ type: "Polygon" });
    this.draw.on("drawend", ({ feature }) => {
      const rings = (feature.getGeometry() as Polygon).getCoordinates();
      onDrawn(rings.map((ring) => ring.map((corner) => toDegrees(corner, this.viewCrs))));
    });
    this.map.addInteraction(this.draw);
  }

  /** The map as it is seen, as PNG. */
  async picture(): Promise<Blob> {
    const rendered = new Promise((done) => this.map.once("rendercomplete", done));
    this.map.render();
    await rendered;
    const [width, height] = this.map.getSize()!;
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [width, height];
    const context = canvas.getContext("2d")!;
    context.fillStyle = "#eef2f5";
    context.fillRect(0, 0, width, height);
    for (const layer of this.map.getViewport()!.querySelectorAll("canvas")) {
      context.globalAlpha = Number((layer.parentElement as HTMLElement).style.opacity || "1");
      context.drawImage(layer, 0, 0, width, height);
    }
    return new Promise((done) => canvas.toBlob((blob) => done(blob!), "image/png"));
  }

  onClick(listener: (lonlat: number[], shift: boolean) => void): void {
    this.map.on("singleclick", ({ coordinate, originalEvent }) => {
      const xy = transform(coordinate, this.viewCrs, this.crs);
      listener(toDegrees(xy, this.crs), originalEvent.shiftKey);
    });
  }
}

/** The mark of a location that was flown to. */
export const RING = "ring";
/** Labels above which their dots are smaller. */
const MANY = 300;

function pointStyle(colour: string, radius: number): Style {
  const edge = new Stroke({ color: "#ffffff", width: radius > 3 ? 1.5 : 0.5 });
  return new Style({ image: new Circle({ radius, fill: new Fill({ color: colour }), stroke: edge }) });
}

/** An outline with a white edge, which is seen where the map has the same colour. */
function areaStyle(colour: string): Style[] {
  const fill = new Fill({ color: `${colour}33` });
  return [
    new Style({ stroke: new Stroke({ color: "#ffffff", width: 5 }), fill }),
    new Style({ stroke: new Stroke({ color: colour, width: 2.5 }) }),
  ];
}

function markStyle(letter: string): Style | Style[] {
  if (letter === RING) {
    return [
      new Style({ image: new Circle({ radius: 11, stroke: new Stroke({ color: "#ffffff", width: 5 }) }) }),
      new Style({ image: new Circle({ radius: 11, stroke: new Stroke({ color: "#1d2733", width: 2 }) }) }),
    ];
  }
  return new Style({
    image: new Circle({
      radius: 9,
      fill: new Fill({ color: letter === "A" ? "#b2182b" : "#2166ac" }),
      stroke: new Stroke({ color: "#ffffff", width: 2 }),
    }),
    text: new Text({ text: letter, fill: new Fill({ color: "#ffffff" }), font: "bold 11px sans-serif" }),
  });
}
