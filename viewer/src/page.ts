/** What the page does: pictures, clicks, words and scores, each from its control. */

import { writeState } from "./address";
import type { State } from "./address";
import { bestCells } from "./best_cells";
import { addOptions, degrees, element, input, megabytes, rows, say, select } from "./elements";
import type { Field } from "./field";
import { STATUSES, VALID, cellAt, centre } from "./field";
import { colourRange, drawHistogram } from "./histogram";
import { HttpStore, StoreError } from "./http_store";
import type { Label } from "./label_files";
import { isNumber } from "./label_files";
import { LabelPanel } from "./label_panel";
import type { MapView } from "./map_view";
import type { LabelsFitted, Scored } from "./messages";
import { toDegrees, toMetres } from "./projections";
import type { Reader } from "./reader";
import { rampGradient } from "./score_layer";
import { unit } from "./similarity";
import type { Query } from "./similarity";

const BEST = 10;
const PHRASES = 6;
/** Side of the blocks by which a probe of labels is scored. */
const BLOCK_M = 300_000;

interface Marked {
  lonlat: number[];
  row: number;
  col: number;
}

export class Page {
  scored: Scored | null = null;
  /** Requests in progress; tests wait until there are none. */
  busy = 0;
  readonly labels = new LabelPanel(this);
  private readonly marks = new Map<string, Marked>();
  private words = "";

  constructor(
    readonly field: Field,
    readonly view: MapView,
    readonly reader: Reader,
    readonly store: HttpStore,
  ) {
    const pictured = field.previews.length > 0 ? field.modalities : [];
    addOptions(select("show"), pictured, pictured.length > 0 ? "none" : "no picture in this store");
    addOptions(select("beside"), pictured, "none");
    addOptions(select("compare"), field.modalities);
    select("show").value = pictured[0] ?? "";
    select("compare").value = this.modalityForText();
    input("query").disabled = !field.hasConcepts;
    if (!field.hasConcepts) element("phrases").textContent = "This store has no concepts to search.";
  }

  /** Connect controls to what they do. */
  listen(): void {
    for (const id of ["show", "beside"]) select(id).onchange = () => this.showPictures();
    input("opacity").oninput = () => this.view.setOpacity(Number(input("opacity").value));
    input("swipe").oninput = () => this.view.setSwipe(Number(input("swipe").value));
    input("outlines").onchange = () => this.view.outlines.setVisible(input("outlines").checked);
    for (const id of ["mercator", "basemap"]) input(id).onchange = () => this.project();
    element("location").onsubmit = (event) => this.typed(event as SubmitEvent);
    element("words").onsubmit = (event) => {
      event.preventDefault();
      void this.search(input("query").value);
    };
    select("compare").onchange = () => void this.compareAnew();
    select("budget").onchange = () => void this.compareAnew();
    element("again").onclick = () => void this.compareAnew();
    input("score-opacity").oninput = () =>
      this.view.scores.layer.setOpacity(Number(input("score-opacity").value));
    element("clear").onclick = () => this.clear();
    input("threshold").oninput = () => this.hideBelow();
    this.view.onClick((lonlat, shift) => {
      if (this.labels.clicks) this.labels.add(lonlat);
      else void this.look(shift ? "B" : "A", lonlat);
    });
    this.labels.listen();
    this.view.map.on("moveend", () => this.remember());
  }

  async restore(state: State): Promise<void> {
    const known = (name: string | undefined) => this.field.modalities.includes(name ?? "");
    if (known(state.show)) select("show").value = state.show!;
    if (known(state.beside)) select("beside").value = state.beside!;
    if (known(state.compare)) select("compare").value = state.compare!;
    const shown = select("show").value || null;
    await this.run(() => this.view.fit(shown));
    if (state.mercator) {
      input("mercator").checked = true;
      this.project();
    }
    if (state.at && state.res) this.view.setCamera({ lonlat: state.at, resolution: state.res });
    if (shown === null || state.beside) this.showPictures();
    else this.view.showFirst(shown);
    if (state.b) await this.look("B", state.b, false);
    if (state.a) await this.look("A", state.a);
    else if (state.words) {
      input("query").value = state.words;
      await this.search(state.words);
    }
  }

  /** Look at the cell of a point: its status, its phrases, and the field's similarity to it. */
  async look(letter: string, lonlat: number[], scores = true): Promise<void> {
    await this.run(async () => {
      const [x, y] = toMetres(lonlat, this.view.crs);
      const cell = cellAt(this.field.levels[0].grid, x, y);
      this.view.mark(letter, lonlat);
      if (cell === null) {
        this.marks.delete(letter);
        element("found").replaceChildren(rows([[letter, `${degrees(lonlat)}: outside the grid`]]));
        return;
      }
      const [row, col] = cell;
      this.marks.set(letter, { lonlat, row, col });
      this.words = "";
      await this.describe(letter, lonlat, row, col);
      this.remember();
      if (scores) await this.compareMarks();
    });
  }

  private async describe(letter: string, lonlat: number[], row: number, col: number) {
    const codes = await this.reader.ask("statuses", { row, col });
    const { grid } = this.field.levels[0];
    const entries: [string, string][] = [
      [letter, degrees(lonlat)],
      ["cell", `row ${row}, column ${col}; centre ${degrees(toDegrees(centre(grid, row, col), grid.crs))}`],
      ...Object.entries(codes).map(([name, code]): [string, string] => [name, STATUSES[code]]),
    ];
    const modality = select("compare").value;
    if (this.field.hasConcepts && codes[modality] === VALID && this.ofModelWidth(modality)) {
      const vector = await this.reader.ask("vector", { modality, row, col });
      if (vector !== null) {
        const { phrases } = await this.reader.ask("nearest", { vector, count: PHRASES });
        entries.push(["in words", phrases.join("; ")]);
      }
    }
    element("found").replaceChildren(rows(entries));
  }

  /** Score all cells by their similarity to A, or by whether they are nearer to A or to B. */
  private async compareMarks(): Promise<void> {
    const modality = select("compare").value;
    const vectors: Float64Array[] = [];
    for (const letter of ["A", "B"]) {
      const mark = this.marks.get(letter);
      if (mark === undefined) continue;
      const { row, col } = mark;
      const vector = await this.reader.ask("vector", { modality, row, col });
      if (vector === null) {
        throw new StoreError(
          `${letter} has no ${modality} vector (see its status): click a cell that has one.`,
        );
      }
      vectors.push(unit(vector));
    }
    if (vectors.length === 0) return;
    const weights = vectors.length === 2 ? [1, -1] : [1];
    const what = vectors.length === 2 ? "Red is nearer to A, blue to B" : "Cosine with the cell";
    await this.score({ vectors, weights }, what);
  }

  async search(words: string): Promise<void> {
    await this.run(async () => {
      const modality = select("compare").value;
      if (!this.ofModelWidth(modality)) {
        throw new StoreError(
          `Words have ${this.field.bands} numbers and ${modality} vectors ` +
            `${this.field.widths[modality]}: choose another modality under Vectors.`,
        );
      }
      const found = await this.reader.ask("words", { words });
      for (const letter of ["A", "B"]) this.forget(letter);
      element("found").replaceChildren();
      this.words = words;
      element("phrases").textContent =
        `Phrases: ${found.phrases.join("; ")}` +
        (found.unknown.length > 0 ? `. Not known: ${found.unknown.join(", ")}.` : "");
      this.remember();
      await this.score({ vectors: [found.vector], weights: [1], isWords: true }, `Cosine with "${words}"`);
    });
  }

  private async score(query: Query, what: string): Promise<void> {
    const budget = Number(select("budget").value);
    const modality = select("compare").value;
    const scored = await this.reader.ask("score", { modality, query, budget, view: this.view.shown() });
    this.showScores(scored, query.weights.length > 1, what);
  }

  /** Fit labels in the worker; what lies off the grid is left out. */
  async fitLabels(labels: Label[]): Promise<LabelsFitted> {
    const { grid } = this.field.levels[0];
    const placed = labels.flatMap(({ lonlat, label }) => {
      const [x, y] = toMetres(lonlat, this.view.crs);
      const cell = cellAt(grid, x, y);
      const block: [number, number] = [Math.floor(y / BLOCK_M), Math.floor(x / BLOCK_M)];
      return cell === null ? [] : [{ cell, block, label }];
    });
    const numbers = placed.every(({ label }) => isNumber(label));
    const classes = numbers ? [] : [...new Set(placed.map(({ label }) => label))].sort();
    const target = (label: string) =>
      numbers ? [Number(label)] : classes.map((one) => Number(one === label));
    return this.reader.ask("fit", {
      modality: select("compare").value,
      rowcol: placed.map(({ cell }) => cell),
      blocks: placed.map(({ block }) => block),
      targets: placed.map(({ label }) => Float64Array.from(target(label))),
      classes,
      budget: Number(select("budget").value),
      view: this.view.shown(),
    });
  }

  /** Colour the map by scores, with their histogram and best cells. */
  showScores(scored: Scored, diverging: boolean, what: string): void {
    this.scored = scored;
    element("similarity").hidden = false;
    const resolution = this.field.levels[0].grid.resolution_m;
    const told = [
      scored.whole ? `whole field in cells of ${(resolution * scored.whole.factor) / 1000} km` : "",
      scored.detail ? `this view in cells of ${(resolution * scored.detail.factor) / 1000} km` : "",
      scored.needed ? `the whole field takes ${megabytes(scored.needed)} or more` : "",
    ];
    element("scored").textContent = `${what}: ${told.filter(Boolean).join("; ")}.`;
    const main = scored.whole ?? scored.detail;
    const range = colourRange(main?.values ?? new Float32Array(), diverging);
    const ramp = diverging ? "diverging" : "rising";
    [input("threshold").min, input("threshold").max] = range.map(String);
    input("threshold").step = String((range[1] - range[0]) / 200);
    input("threshold").value = String(range[0]);
    this.view.scores.threshold = -Infinity;
    element("threshold-value").textContent = "nothing";
    element("ramp").style.background = rampGradient(ramp);
    this.view.scores.show(scored, range, ramp);
    drawHistogram(element<HTMLCanvasElement>("histogram"), main?.values ?? new Float32Array(), range);
    this.listBest();
  }

  private listBest(): void {
    const main = this.scored?.whole ?? this.scored?.detail;
    if (main == null) return element("best").replaceChildren();
    const apart_m = 4 * this.field.levels[0].grid.resolution_m * main.factor;
    const items = bestCells(this.field, main, BEST, apart_m).map(({ lonlat, score }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `${score.toFixed(4)} at ${lonlat.map((one) => one.toFixed(3)).join(", ")}`;
      button.onclick = () => this.view.flyTo(lonlat);
      const item = document.createElement("li");
      item.append(button);
      return item;
    });
    element("best").replaceChildren(...items);
  }

  private hideBelow(): void {
    const { value, min } = input("threshold");
    const none = Number(value) <= Number(min);
    element("threshold-value").textContent = none ? "nothing" : Number(value).toFixed(3);
    this.view.scores.hideBelow(none ? -Infinity : Number(value));
  }

  private async compareAnew(): Promise<void> {
    this.remember();
    if (this.words !== "") await this.search(this.words);
    else await this.run(() => this.compareMarks());
  }

  private clear(): void {
    for (const letter of ["A", "B"]) this.forget(letter);
    this.words = "";
    this.scored = null;
    this.view.scores.show(null, [0, 1], "rising");
    element("similarity").hidden = true;
    element("found").replaceChildren();
    this.remember();
  }

  /** Longitude and latitude of A or B; null if it is not set. */
  markOf(letter: string): number[] | null {
    return this.marks.get(letter)?.lonlat ?? null;
  }

  private forget(letter: string): void {
    this.marks.delete(letter);
    this.view.mark(letter, null);
  }

  private typed(event: SubmitEvent): void {
    event.preventDefault();
    const lonlat = input("lonlat").value.split(/[,;\s]+/).filter(Boolean).map(Number);
    const [lon, lat] = lonlat;
    if (lonlat.length !== 2 || !(Math.abs(lon) <= 360) || !(Math.abs(lat) <= 90)) {
      say("Type a longitude and a latitude in degrees, such as -122.33, 47.61.");
      return;
    }
    const letter = (event.submitter as HTMLButtonElement | null)?.value ?? "A";
    void this.look(letter, lonlat);
  }

  private showPictures(): void {
    const [show, beside] = ["show", "beside"].map((id) => select(id).value || null);
    element("swipe-label").hidden = beside === null;
    this.view.showPictures(show, beside);
    this.view.setOpacity(Number(input("opacity").value));
    this.remember();
  }

  private project(): void {
    element("basemap-label").hidden = !input("mercator").checked;
    this.view.project(input("mercator").checked, input("basemap").value.trim());
    this.remember();
  }

  private remember(): void {
    const { lonlat, resolution } = this.view.camera();
    const state: State = {
      at: lonlat,
      res: resolution,
      show: select("show").value,
      beside: select("beside").value,
      compare: select("compare").value,
      mercator: input("mercator").checked,
      a: this.marks.get("A")?.lonlat,
      b: this.marks.get("B")?.lonlat,
      words: this.words,
    };
    history.replaceState(null, "", writeState(state));
    this.tellCounts();
  }

  tellCounts(): void {
    const { requests, bytes } = this.counts();
    element("counts").textContent = `${requests} requests, ${megabytes(bytes)} of the store read`;
  }

  counts(): { requests: number; bytes: number } {
    const [one, other] = [this.store.counts, this.reader.counts];
    return { requests: one.requests + other.requests, bytes: one.bytes + other.bytes };
  }

  /** Run a task and show what goes wrong. */
  async run(task: () => Promise<unknown>): Promise<void> {
    say(null);
    this.busy += 1;
    document.body.setAttribute("aria-busy", "true");
    try {
      await task();
    } catch (error) {
      say(error instanceof Error ? error.message : String(error));
    } finally {
      this.busy -= 1;
      if (this.busy === 0) document.body.removeAttribute("aria-busy");
      this.tellCounts();
    }
  }

  private ofModelWidth(modality: string): boolean {
    return this.field.widths[modality] === this.field.bands;
  }

  /** The modality that words are compared with by default, as `Field.search` chooses it. */
  private modalityForText(): string {
    const fitting = this.field.modalities.filter((name) => this.ofModelWidth(name));
    return fitting.includes("aerial") ? "aerial" : (fitting[0] ?? this.field.modalities[0]);
  }
}
