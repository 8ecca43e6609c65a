/** The controls of scores on the map: colours, histogram or legend, best cells, and files of them. */

import { bestCells } from "./best_cells";
import type { Best } from "./best_cells";
import type { Scale } from "./colours";
import { classColour, diverging, rangeOf, rising, stepped } from "./colours";
import { cellButtons, element, input, megabytes, rows, save } from "./elements";
import type { Field } from "./field";
import { bounds } from "./field";
import { geotiffOf } from "./geotiff";
import { drawHistogram } from "./histogram";
import { StoreError } from "./http_store";
import { short } from "./label_values";
import type { MapView } from "./map_view";
import { RING } from "./map_view";
import type { Scored, Scores } from "./messages";

export const BEST = 10;
const CELLS_APART = 4;

/** A map of the field, and how it is shown. */
export interface Shown {
  /** What the numbers are, such as "Cosine with the cell". */
  what: string;
  scored: Scored;
  kind: "rising" | "diverging" | "classes";
  /** Name and number, in the order of colours, of each class. */
  classes?: { name: string; colour: number }[];
  /** Further numbers of the same cells, for files. */
  others?: { name: string; scored: Scored }[];
  /** The best cells, if they are not to be found by these numbers alone. */
  best?: Best[];
}

export class ScoresPanel {
  shown: Shown | null = null;

  constructor(
    private readonly field: Field,
    private readonly view: MapView,
    private readonly run: (task: () => Promise<unknown>) => Promise<void>,
  ) {}

  listen(): void {
    input("score-opacity").oninput = () =>
      this.view.scores.layer.setOpacity(Number(input("score-opacity").value));
    input("threshold").oninput = () => this.hideBelow();
    element("save-tiff").onclick = () =>
      void this.run(async () => save("map.tif", new Blob([this.geotiff()], { type: "image/tiff" })));
    element("save-png").onclick = () =>
      void this.run(async () => save("map.png", await this.view.picture()));
  }

  clear(): void {
    this.shown = null;
    this.view.mark(RING, null);
    this.view.scores.show(null, rising([0, 1]));
    element("similarity").hidden = true;
  }

  /** Colour the map by scores. */
  show(shown: Shown): void {
    this.shown = shown;
    this.view.mark(RING, null);
    const { scored, kind, what } = shown;
    element("similarity").hidden = false;
    const resolution = this.field.levels[0].grid.resolution_m;
    const cells = ({ factor, directions }: Scores) =>
      `in cells of ${(resolution * factor) / 1000} km${byDirections(directions)}`;
    const told = [
      scored.whole ? `whole field ${cells(scored.whole)}` : "",
      scored.detail ? `this view ${cells(scored.detail)}` : "",
      scored.needed ? `the whole field takes ${megabytes(scored.needed)} or more` : "",
    ];
    element("scored").textContent = `${what}: ${told.filter(Boolean).join("; ")}.`;
    const values = this.main()?.values ?? new Float32Array();
    const ofClasses = kind === "classes";
    const scale = ofClasses
      ? stepped(shown.classes!.map(({ colour }) => classColour(colour)))
      : (kind === "diverging" ? diverging : rising)(rangeOf(values, kind === "diverging"));
    this.view.scores.show(scored, scale);
    element("numbers").hidden = ofClasses;
    element("best-box").hidden = ofClasses;
    element("legend").hidden = !ofClasses;
    if (ofClasses) this.showLegend(values);
    else this.showNumbers(values, scale);
  }

  /** The whole field, or else the view. */
  private main(): Scores | null {
    return this.shown?.scored.whole ?? this.shown?.scored.detail ?? null;
  }

  /** The cells of highest score, some distance apart. */
  bestOf(scores: Scores, count = BEST): Best[] {
    const apart_m = CELLS_APART * this.field.levels[0].grid.resolution_m * scores.factor;
    return bestCells(this.field, scores, count, apart_m);
  }

  private showLegend(values: Float32Array): void {
    const cells = values.filter((value) => !Number.isNaN(value));
    const entries = this.shown!.classes!.map(({ name }, number): [string, string] => {
      const count = cells.reduce((sum, value) => sum + Number(value === number), 0);
      return [short(name), `${((100 * count) / Math.max(1, cells.length)).toFixed(1)} % of the cells`];
    });
    const table = rows(entries);
    this.shown!.classes!.forEach(({ colour }, number) => {
      const swatch = document.createElement("span");
      swatch.className = "swatch";
      swatch.style.background = classColour(colour);
      table.rows[number].cells[0].prepend(swatch);
    });
    element("legend").replaceChildren(table);
  }

  private showNumbers(values: Float32Array, { range, gradient }: Scale): void {
    [input("threshold").min, input("threshold").max] = range.map(String);
    input("threshold").step = String((range[1] - range[0]) / 200);
    input("threshold").value = String(range[0]);
    element("threshold-value").textContent = "nothing";
    element("ramp").style.background = gradient;
    element("ramp-low").textContent = range[0].toPrecision(3);
    element("ramp-high").textContent = range[1].toPrecision(3);
    drawHistogram(element<HTMLCanvasElement>("histogram"), values, range);
    const main = this.main();
    const best = this.shown!.best ?? (main === null ? [] : this.bestOf(main));
    const isOfLabels = this.shown!.others !== undefined;
    element("best-heading").textContent = isOfLabels ? "Highest cells" : "Best cells";
    const said = (score: number) => (isOfLabels ? String(Number(score.toPrecision(4))) : score.toFixed(4));
    element("best").replaceChildren(...cellButtons(best, said, (lonlat) => this.view.flyTo(lonlat)));
  }

  private hideBelow(): void {
    const { value, min } = input("threshold");
    const none = Number(value) <= Number(min);
    element("threshold-value").textContent = none ? "nothing" : Number(value).toFixed(3);
    this.view.scores.hideBelow(none ? -Infinity : Number(value));
  }

  /** The numbers that are seen: of the view where it has finer cells, or else of the whole field. */
  private geotiff(): Uint8Array<ArrayBuffer> {
    const { what, scored, classes, others } = this.shown!;
    const pick = (one: Scored) => one.detail ?? one.whole;
    const main = pick(scored);
    if (main === null) throw new StoreError("There is no number on the map to save.");
    const level = this.field.levels.find(({ factor }) => factor === main.factor)!;
    const [west, , , north] = bounds(level.grid, main.window);
    return geotiffOf({
      width: main.window.width,
      height: main.window.height,
      bands: [
        { name: what + byDirections(main.directions), values: main.values },
        ...(others ?? []).map((one) => ({ name: one.name, values: pick(one.scored)!.values })),
      ],
      crs: level.grid.crs,
      origin: [west, north],
      pixel_m: level.grid.resolution_m,
      tags: [
        ["UNIGEO_SOURCE", this.field.source.split("?")[0]], // what follows may be a signature
        ["UNIGEO_MODEL", this.field.model],
        ...(classes ?? []).map(({ name }, number): [string, string] => [`CLASS_${number}`, name]),
      ],
      copyright: this.field.licence,
    });
  }
}

function byDirections(directions: number | null): string {
  return directions === null ? "" : ` by ${directions} main directions of the vectors`;
}
