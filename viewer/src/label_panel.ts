/** The controls of labels: points and polygons with a class or a number, their map, and what comes next. */

import { bestCells } from "./best_cells";
import { classColour, cssOf, diverging, rangeOf, rising } from "./colours";
import { addOptions, cellButtons, element, input, save, say, select } from "./elements";
import { StoreError } from "./http_store";
import { asPoints, labelledCells } from "./label_cells";
import type { LabelledCell } from "./label_cells";
import type { LabelsFitted } from "./messages";
import type { Page } from "./page";
import { evenly } from "./polygon_cells";
import { drawScatter } from "./scatter";
import { short, valuesOf } from "./label_values";
import { columnOfLabels, labelsOf, readTable, toCsv, toGeoJson } from "./table_files";
import { isMissing } from "./table_types";
import type { Label, Table } from "./table_types";

const SUGGESTIONS = 8;
/** Labelled cells that are fitted; the time grows with their cube. */
const MOST_LABELS = 1000;
/** Labels that are drawn: a million would take minutes. */
const MOST_DRAWN = 5000;
const MOST_LISTED = 8;
const NO_NUMBER = "#b0b8c0"; // of labels that took no part

export class LabelPanel {
  labels: Label[] = [];
  private values = valuesOf([], false);
  fitted: LabelsFitted | null = null;
  private table: Table | null = null;
  /** The cells that were fitted, and whose residuals are known. */
  private cells: LabelledCell[] = [];

  constructor(private readonly page: Page) {}

  listen(): void {
    element("label-form").onsubmit = (event) => {
      event.preventDefault();
      const mark = this.page.markOf("A");
      if (mark === null) say("Set A first: click the map, or type a longitude and latitude.");
      else this.add({ lonlat: mark });
    };
    element("label-undo").onclick = () => this.set(this.labels.slice(0, -1));
    element("label-clear").onclick = () => this.removeAll();
    element("label-fit").onclick = () => void this.fit();
    select("label-show").onchange = () => this.show();
    select("label-colour").onchange = () => this.paint();
    select("label-column").onchange = () => this.takeColumn();
    input("label-as-classes").onchange = () => this.set(this.labels);
    for (const id of ["scatter-x", "scatter-y"]) select(id).onchange = () => this.paint();
    input("label-file").onchange = () => void this.readFile(input("label-file").files?.[0]);
    this.takeDrops();
    input("label-polygons").onchange = () =>
      this.page.view.drawPolygons(input("label-polygons").checked, (rings) =>
        this.add({ lonlat: rings[0][0], rings }),
      );
    element("label-csv").onclick = () =>
      void this.page.run(async () => {
        const points = asPoints(this.page.field.levels[0].grid, this.labels);
        save("labels.csv", toCsv(points), "text/csv");
      });
    element("label-geojson").onclick = () =>
      save("labels.geojson", toGeoJson(this.labels), "application/geo+json");
  }

  /** Whether a click labels a cell. */
  get clicks(): boolean {
    return input("label-clicks").checked;
  }

  /** Whether the map shows numbers of these labels. */
  get areMapped(): boolean {
    return this.fitted !== null && this.page.scores.shown?.others !== undefined;
  }

  /** Whether a click is a corner of a polygon. */
  get draws(): boolean {
    return input("label-polygons").checked;
  }

  add(shape: { lonlat: number[]; rings?: number[][][] }): void {
    const label = input("label-name").value.trim();
    if (isMissing(label)) say("Type a label first: a class, such as forest, or a number.");
    else this.set([...this.labels, { ...shape, label }], true);
  }

  /** Take labels; what was fitted stays, with what to label next, where they are only more. */
  set(labels: Label[], areMore = false): void {
    this.labels = labels;
    this.values = valuesOf(labels.map(({ label }) => label), input("label-as-classes").checked);
    if (!areMore) {
      if (this.areMapped) this.page.scores.clear(); // of other labels than these
      this.cells = [];
      this.fitted = null;
      select("label-colour").value = "label";
      element("label-result").hidden = true;
    }
    element("label-classes").hidden = !this.values.isUnclear;
    element("label-counts").textContent = this.listed();
    this.paint();
  }

  private removeAll(): void {
    this.table = null;
    element("label-columns").hidden = true;
    this.set([]);
  }

  /** What the labels are, in a line. */
  private listed(): string {
    const { texts, numbers } = this.values;
    if (texts.length === 0) return "no labels yet";
    const drawn = texts.length > MOST_DRAWN ? `; ${MOST_DRAWN} of them are drawn` : "";
    if (numbers) {
      const [low, high] = rangeOf(numbers, false, 0);
      return `${numbers.length} numbers from ${low} to ${high}${drawn}`;
    }
    const counts = new Map<string, number>();
    for (const text of texts) counts.set(text, (counts.get(text) ?? 0) + 1);
    const said = [...counts].slice(0, MOST_LISTED).map(([label, count]) => `${short(label)} ${count}`);
    if (counts.size > MOST_LISTED) said.push(`and ${counts.size - MOST_LISTED} more`);
    return said.join(", ") + drawn;
  }

  /** Read a file by dropping it anywhere on the page. */
  private takeDrops(): void {
    document.body.addEventListener("dragover", (event) => event.preventDefault());
    document.body.addEventListener("drop", (event) => {
      event.preventDefault();
      void this.readFile(event.dataTransfer?.files[0]);
    });
  }

  private async readFile(file: File | undefined): Promise<void> {
    if (file === undefined) return;
    await this.page.run(async () => {
      const table = readTable(file.name, await file.arrayBuffer());
      this.table = table;
      addOptions(select("label-column"), table.columns);
      select("label-column").value = columnOfLabels(table);
      element("label-columns").hidden = table.columns.length < 2;
      const labels = labelsOf(table, columnOfLabels(table));
      if (labels.length === 0) throw new StoreError(`${file.name} has no label in any row.`);
      // A table of labels is added to those that are there; one of many columns takes their place.
      this.set(table.columns.length < 2 ? [...this.labels, ...labels] : labels);
    });
    input("label-file").value = "";
  }

  private takeColumn(): void {
    if (this.table !== null) this.set(labelsOf(this.table, select("label-column").value));
  }

  async fit(): Promise<void> {
    await this.page.run(async () => {
      if (this.labels.length === 0) {
        throw new StoreError("There are no labels yet: click cells, draw polygons, or read a file of them.");
      }
      const { texts, numbers, fault } = this.values;
      if (fault !== null) throw new StoreError(fault);
      this.page.overtake();
      const { field, reader, view } = this.page;
      const every = labelledCells(field.levels[0].grid, this.labels);
      const cells = evenly(every, MOST_LABELS);
      if (cells.length === 0) {
        throw new StoreError(
          this.labels.some(({ rings }) => rings)
            ? "No label lies on the field: a polygon labels the cells whose centre it holds. Draw larger ones."
            : `None of the ${this.labels.length} labels lies on the field: longitude comes first, in degrees.`,
        );
      }
      const fitted = await this.page.newest(
        reader.ask("fit", {
          modality: select("compare").value,
          rowcol: cells.map(({ cell }) => cell),
          blocks: cells.map(({ block }) => block),
          labels: numbers
            ? cells.map(({ label }) => numbers[label])
            : cells.map(({ label }) => texts[label]),
          budget: this.page.budget(),
          view: view.shown(),
        }),
      );
      this.fitted = fitted;
      this.cells = fitted.used.map((cell) => cells[cell]);
      element("label-score").textContent = this.judged(every.length, cells.length);
      element("label-result").hidden = false;
      element("label-python").textContent = this.python();
      element("label-share").hidden = fitted.shares === null;
      if (fitted.shares === null && select("label-show").value === "share") {
        select("label-show").value = "value";
      }
      element("scatter-box").hidden = fitted.directions === null;
      this.show();
      this.suggest();
      this.paint();
    });
  }

  private judged(every: number, tried: number): string {
    const { used, score, residuals } = this.fitted!;
    const part = new Set(this.cells.map(({ label }) => label));
    const off = this.labels.length - part.size;
    const spread = Math.sqrt(residuals.reduce((sum, one) => sum + one * one, 0) / residuals.length);
    const said = [
      `${used.length} of ${tried} labelled cells have a vector and a label`,
      tried < every ? `fitted are ${tried} of ${every} cells, in even steps` : "",
      off > 0 && tried === every ? `${off} labels take no part` : "",
      score === null
        ? "too few to judge: 20 labels in 5 blocks of 300 km are the least"
        : `${score.kind} ${score.value.toFixed(2)} in unseen blocks (${score.baseline.toFixed(2)} by guessing)`,
      `residuals ${score === null ? "of the labels that were fitted" : "in unseen blocks"} have a root ` +
        `mean square of ${spread.toPrecision(3)}`,
    ];
    return `${said.filter(Boolean).join("; ")}.`;
  }

  private show(): void {
    if (this.fitted === null) return;
    const { values, uncertainty, shares, classes } = this.fitted;
    const { classes: kinds } = this.values;
    const others = [
      { name: "value", scored: values },
      { name: "uncertainty", scored: uncertainty },
      ...(shares ? [{ name: "share", scored: shares }] : []),
    ];
    const wanted = select("label-show").value;
    const shown = others.find(({ name }) => name === wanted)!;
    const named = classes.map((name) => ({ name, colour: kinds.indexOf(name) }));
    const ofClasses = wanted === "value" && classes.length > 0;
    const value = ofClasses ? "Likeliest class" : "Value";
    const what = { value, uncertainty: "Uncertainty", share: "Share of the likeliest class" };
    this.page.scores.show({
      what: what[wanted as keyof typeof what],
      scored: shown.scored,
      kind: ofClasses ? "classes" : "rising",
      classes: ofClasses ? named : undefined,
      others: others.filter((one) => one !== shown),
    });
  }

  /** Colour the labels on the map and in the scatter plot. */
  private paint(): void {
    const { texts, numbers, classes } = this.values;
    const residuals = this.residuals();
    const asked = select("label-colour").value === "residual" && residuals !== null;
    const values = asked ? residuals : numbers;
    const range = rangeOf(values ?? [], asked, 0);
    const scale = asked ? diverging(range) : rising(range);
    const ofClass = new Map(classes.map((text, number) => [text, classColour(number)]));
    const colours = texts.map((text, label) => {
      if (values === null) return ofClass.get(text)!;
      return Number.isNaN(values[label]) ? NO_NUMBER : cssOf(scale, values[label]);
    });
    const drawn = evenly([...this.labels.keys()], MOST_DRAWN);
    this.page.view.markLabels(
      drawn.map((number) => ({ ...this.labels[number], number, colour: colours[number] })),
    );
    this.scatter(colours);
  }

  /** Mean residual of each label's cells, NaN where a label took no part; null before a fit. */
  private residuals(): number[] | null {
    if (this.fitted === null) return null;
    const sums = this.labels.map(() => [0, 0]);
    this.cells.forEach(({ label }, at) => {
      sums[label][0] += this.fitted!.residuals[at];
      sums[label][1] += 1;
    });
    return sums.map(([sum, count]) => (count > 0 ? sum / count : NaN));
  }

  private scatter(colours: string[]): void {
    const directions = this.fitted?.directions;
    if (!directions) return;
    const { texts, numbers } = this.values;
    const along = (axis: string, at: number) => {
      const { label } = this.cells[at];
      if (axis === "residual") return this.fitted!.residuals[at];
      if (axis === "label") {
        return numbers?.[label] ?? this.fitted!.classes.indexOf(texts[label]);
      }
      return directions[at][Number(axis)];
    };
    const [x, y] = ["scatter-x", "scatter-y"].map((id) => select(id).value);
    const dots = this.cells.map(({ label }, at) => ({
      x: along(x, at),
      y: along(y, at),
      colour: colours[label],
      lonlat: this.labels[label].lonlat,
    }));
    drawScatter(element<HTMLCanvasElement>("scatter"), dots, (lonlat) => this.page.view.flyTo(lonlat));
  }

  private suggest(): void {
    const { field, view } = this.page;
    const scores = this.fitted!.uncertainty.whole ?? this.fitted!.uncertainty.detail;
    if (scores === null) return element("label-next").replaceChildren();
    // Half the distance of as many points spread evenly over the cells, as `Labelled.suggest` has it.
    const cells = scores.values.reduce((sum, one) => sum + Number(!Number.isNaN(one)), 0);
    const apart_m = (Math.sqrt(cells / SUGGESTIONS) / 2) * field.levels[0].grid.resolution_m * scores.factor;
    const next = bestCells(field, scores, SUGGESTIONS, apart_m);
    const said = (score: number) => `± ${score.toPrecision(3)}`;
    element("label-next").replaceChildren(...cellButtons(next, said, (lonlat) => view.flyTo(lonlat)));
  }

  private python(): string {
    const store = JSON.stringify(this.page.field.source);
    const modality = JSON.stringify(select("compare").value);
    const task = this.values.numbers === null && this.values.isUnclear ? ', task="classification"' : "";
    const file = this.labels.some(({ rings }) => rings) ? "labels.geojson" : "labels.csv";
    return [
      "from unigeo import client",
      "",
      `field = client.open_field(${store})`,
      `labels = field.label("${file}", "label", ${modality}${task})  # saved above`,
      "labels.map(), labels.suggest()",
    ].join("\n");
  }
}
