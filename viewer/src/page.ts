/** What the page does: pictures, clicks, words and scores, each from its control. */

import { writeState } from "./address";
import type { State } from "./address";
import { addOptions, degrees, element, input, megabytes, rows, say, select } from "./elements";
import type { Field } from "./field";
import { FUSED, STATUSES, VALID, cellAt, centre, hasWords } from "./field";
import { HttpStore, StoreError } from "./http_store";
import { LabelPanel } from "./label_panel";
import type { MapView } from "./map_view";
import type { Budget, Scored, Scores } from "./messages";
import { toDegrees, toMetres } from "./projections";
import type { Reader } from "./reader";
import { BEST, ScoresPanel } from "./scores_panel";
import { unit } from "./similarity";
import type { Query } from "./similarity";

const PHRASES = 6;
/** Cells by few numbers among which the best ones by all numbers are looked for. */
const CANDIDATES = 3 * BEST;
/** Bytes of the store for the first picture, its metadata included. */
const FIRST_BYTES = 1_000_000;

interface Marked {
  lonlat: number[];
  row: number;
  col: number;
}

/** Thrown where the user has asked for something else in the meantime. */
class Overtaken extends Error {}

export class Page {
  /** Requests in progress; tests wait until there are none. */
  busy = 0;
  readonly labels = new LabelPanel(this);
  readonly scores: ScoresPanel;
  private turn = 0;
  private readonly marks = new Map<string, Marked>();
  private words = "";

  constructor(
    readonly field: Field,
    readonly view: MapView,
    readonly reader: Reader,
    readonly store: HttpStore,
  ) {
    this.scores = new ScoresPanel(field, view, (task) => this.run(task));
    addOptions(select("show"), field.modalities, "none");
    addOptions(select("beside"), field.modalities, "none");
    element("beside-label").hidden = !this.hasPictures;
    element("no-picture").hidden = this.hasPictures;
    addOptions(select("compare"), field.modalities);
    select("show").value = this.hasPictures ? field.modalities[0] : "";
    select("compare").value = this.comparedFirst();
    const isSearchable = field.modalities.some((name) => hasWords(field, name));
    input("query").disabled = !isSearchable;
    if (!isSearchable) element("phrases").textContent = this.whyNoWords();
  }

  /** Whether the store holds pictures; else they are computed here. */
  private get hasPictures(): boolean {
    return this.field.previews.length > 0;
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
    element("clear").onclick = () => this.clear();
    this.scores.listen();
    this.view.onClick((lonlat, shift) => {
      if (this.labels.draws) return;
      if (this.labels.clicks) this.labels.add({ lonlat });
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
    // Vectors on this machine cost nothing: a picture of them is computed at once.
    if (!this.hasPictures && this.field.isLocal && state.show === undefined) {
      select("show").value = this.comparedFirst();
    }
    const shown = select("show").value || null;
    await this.run(() => this.view.fit(this.hasPictures ? shown : null));
    if (state.mercator) {
      input("mercator").checked = true;
      this.project();
    }
    if (state.at && state.res) this.view.setCamera({ lonlat: state.at, resolution: state.res });
    if (!this.hasPictures) await this.showColours(state.at === undefined);
    else if (shown === null || state.beside) this.showPictures();
    else this.view.showFirst(shown, FIRST_BYTES - this.store.counts.bytes);
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
      this.overtake();
      const [x, y] = toMetres(lonlat, this.view.crs);
      const cell = cellAt(this.field.levels[0].grid, x, y);
      this.view.mark(letter, lonlat);
      if (cell === null) {
        this.marks.delete(letter);
        this.dropScores();
        element("found").replaceChildren(rows([[letter, `${degrees(lonlat)}: outside the grid`]]));
        return;
      }
      const [row, col] = cell;
      this.marks.set(letter, { lonlat, row, col });
      this.words = "";
      if (hasWords(this.field, select("compare").value)) element("phrases").textContent = "";
      await this.describe(letter, lonlat, row, col);
      this.remember();
      if (scores) await this.compareMarks();
    });
  }

  private async describe(letter: string, lonlat: number[], row: number, col: number) {
    const codes = await this.newest(this.reader.ask("statuses", { row, col }));
    const { grid } = this.field.levels[0];
    const entries: [string, string][] = [
      [letter, degrees(lonlat)],
      ["cell", `row ${row}, column ${col}; centre ${degrees(toDegrees(centre(grid, row, col), grid.crs))}`],
      ...Object.entries(codes).map(([name, code]): [string, string] => [name, STATUSES[code]]),
    ];
    const modality = select("compare").value;
    if (codes[modality] === VALID && hasWords(this.field, modality)) {
      const vector = await this.newest(this.reader.ask("vector", { modality, row, col }));
      if (vector !== null) {
        const { phrases } = await this.newest(this.reader.ask("nearest", { modality, vector, count: PHRASES }));
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
      const vector = await this.newest(this.reader.ask("vector", { modality, row, col }));
      if (vector === null) {
        this.dropScores();
        throw new StoreError(
          `${letter} has no ${modality} vector (see its status): click a cell that has one.`,
        );
      }
      vectors.push(unit(vector));
    }
    if (vectors.length === 0) return;
    const weights = vectors.length === 2 ? [1, -1] : [1];
    const what = vectors.length === 2 ? "Red is nearer to A, blue to B" : `Cosine with the cell of ${[...this.marks.keys()][0]}`;
    await this.score({ vectors, weights }, what);
  }

  async search(words: string): Promise<void> {
    await this.run(async () => {
      this.overtake();
      const modality = select("compare").value;
      if (this.field.hasConcepts && !hasWords(this.field, modality)) {
        throw new StoreError(
          `Words have ${this.field.bands} numbers and ${modality} vectors ` +
            `${this.field.widths[modality]}: choose another modality under Vectors.`,
        );
      }
      const found = await this.newest(this.reader.ask("words", { words, modality }));
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
    const budget = this.budget();
    const modality = select("compare").value;
    const view = this.view.shown();
    const scored = await this.newest(this.reader.ask("score", { modality, query, budget, view }));
    const best = await this.exactBest(modality, query, scored.whole ?? scored.detail);
    this.scores.show({ what, scored, kind: query.weights.length > 1 ? "diverging" : "rising", best });
  }

  /** What may be read, as it is chosen. */
  budget(): Budget {
    const [{ value, dataset }] = select("budget").selectedOptions;
    return { bytes: Number(value), most: Number(dataset.most ?? value) };
  }

  /** The best cells by all numbers of their vectors, if they are mapped by fewer. */
  private async exactBest(modality: string, query: Query, scores: Scores | null) {
    if (scores === null || scores.directions === null) return undefined;
    const { factor } = scores;
    const likely = this.scores.bestOf(scores, CANDIDATES);
    const rowcol = likely.map((one) => one.rowcol);
    const exact = await this.newest(this.reader.ask("exact", { modality, query, factor, rowcol }));
    return [...exact.keys()]
      .map((cell) => ({ ...likely[cell], score: exact[cell] }))
      .sort((a, b) => b.score - a.score)
      .slice(0, BEST);
  }

  /** Scores on the map. */
  get scored(): Scored | null {
    return this.scores.shown?.scored ?? null;
  }

  private async compareAnew(): Promise<void> {
    this.remember();
    if (this.labels.areMapped) await this.labels.fit();
    else if (this.words !== "") await this.search(this.words);
    else {
      this.overtake();
      await this.run(() => this.compareMarks());
    }
  }

  /** Take scores away that are of no place any more; a map of labels stays. */
  private dropScores(): void {
    if (!this.labels.areMapped) this.scores.clear();
  }

  private clear(): void {
    for (const letter of ["A", "B"]) this.forget(letter);
    this.words = "";
    this.overtake();
    this.scores.clear();
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
      say("Type a longitude and then a latitude, in degrees, such as -122.33, 47.61.");
      return;
    }
    const letter = (event.submitter as HTMLButtonElement | null)?.value ?? "A";
    void this.look(letter, lonlat);
  }

  /** Show the picture that is chosen, of a store that holds none. */
  private async showColours(fits = false): Promise<void> {
    await this.run(async () => {
      const modality = select("show").value;
      const asked = { modality, budget: this.budget() };
      const colours = modality === "" ? null : await this.reader.ask("colours", asked);
      if (modality !== select("show").value) return;
      this.view.showColours(colours);
      if (fits && colours) this.view.fitTo(colours);
    });
    this.remember();
  }

  private showPictures(): void {
    if (!this.hasPictures) return void this.showColours();
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

  /** Wait for an answer; give the task up if another has overtaken it by then. */
  async newest<T>(asked: Promise<T>): Promise<T> {
    const { turn } = this;
    const answer = await asked;
    if (turn !== this.turn) throw new Overtaken();
    return answer;
  }

  /** Let what is asked from now on take the place of what waits for an answer. */
  overtake(): void {
    this.turn += 1;
  }

  /** Run a task and show what goes wrong. */
  async run(task: () => Promise<unknown>): Promise<void> {
    say(null);
    this.busy += 1;
    document.body.setAttribute("aria-busy", "true");
    try {
      await task();
    } catch (error) {
      if (!(error instanceof Overtaken)) say(error instanceof Error ? error.message : String(error));
    } finally {
      this.busy -= 1;
      if (this.busy === 0) document.body.removeAttribute("aria-busy");
      this.tellCounts();
    }
  }

  private whyNoWords(): string {
    if (!this.field.hasConcepts) return "This store has no concepts to search.";
    return "This store's concepts cannot be compared with its vectors, which have other numbers.";
  }

  /** The modality that is compared by default: where words can be searched, as `Field.search` has it. */
  private comparedFirst(): string {
    const { modalities, hasConcepts, hasFusedPhrases } = this.field;
    if (modalities.includes(FUSED) && (hasFusedPhrases || !hasConcepts)) return FUSED;
    const searchable = modalities.filter((name) => hasWords(this.field, name));
    const fitting = searchable.length > 0 ? searchable : modalities;
    return fitting.includes("aerial") ? "aerial" : fitting[0];
  }
}
