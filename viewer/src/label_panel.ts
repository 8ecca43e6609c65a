/** The controls of labels: points with a class or a number, the map of them, and what comes next. */

import { bestCells } from "./best_cells";
import { element, input, say, select } from "./elements";
import type { Label } from "./label_files";
import { readLabels, toCsv, toGeoJson } from "./label_files";
import type { LabelsFitted } from "./messages";
import type { Page } from "./page";

const SUGGESTIONS = 8;
const CELLS_APART = 4;

export class LabelPanel {
  labels: Label[] = [];
  fitted: LabelsFitted | null = null;

  constructor(private readonly page: Page) {}

  listen(): void {
    element("label-form").onsubmit = (event) => {
      event.preventDefault();
      const mark = this.page.markOf("A");
      if (mark === null) say("Set A first: click the map, or type a longitude and latitude.");
      else this.add(mark);
    };
    element("label-undo").onclick = () => this.set(this.labels.slice(0, -1));
    element("label-clear").onclick = () => this.set([]);
    element("label-fit").onclick = () => void this.fit();
    select("label-show").onchange = () => this.show();
    input("label-file").onchange = () => void this.readFile();
    element("label-csv").onclick = () => save("labels.csv", toCsv(this.labels), "text/csv");
    element("label-geojson").onclick = () =>
      save("labels.geojson", toGeoJson(this.labels), "application/geo+json");
    element("label-png").onclick = () => void this.page.view.picture().then((blob) => save("map.png", blob));
  }

  /** Whether a click labels a cell. */
  get clicks(): boolean {
    return input("label-clicks").checked;
  }

  add(lonlat: number[]): void {
    const label = input("label-name").value.trim();
    if (label === "") say("Type a label first: a class, such as forest, or a number.");
    else this.set([...this.labels, { lonlat, label }]);
  }

  set(labels: Label[]): void {
    this.labels = labels;
    const counts = new Map<string, number>();
    for (const { label } of labels) counts.set(label, (counts.get(label) ?? 0) + 1);
    const listed = [...counts].map(([label, count]) => `${label} ${count}`);
    element("label-counts").textContent = listed.length > 0 ? listed.join(", ") : "no labels yet";
    this.page.view.markLabels(labels, [...counts.keys()].sort());
  }

  private async readFile(): Promise<void> {
    const [file] = input("label-file").files ?? [];
    if (file === undefined) return;
    await this.page.run(async () => this.set([...this.labels, ...readLabels(file.name, await file.text())]));
    input("label-file").value = "";
  }

  async fit(): Promise<void> {
    await this.page.run(async () => {
      this.fitted = await this.page.fitLabels(this.labels);
      const { used, labels, score, classes } = this.fitted;
      const judged =
        score === null
          ? "too few to judge: 20 labels in 5 blocks of 300 km are the least"
          : `${score.kind} ${score.value.toFixed(2)} in unseen blocks (${score.baseline.toFixed(2)} by guessing)`;
      element("label-score").textContent =
        `${used} of ${labels} labels have a vector; ${judged}.` +
        (classes.length > 0 ? ` Classes from dark to bright: ${classes.join(", ")}.` : "");
      element("label-result").hidden = false;
      element("label-python").textContent = this.python();
      this.show();
      this.suggest();
    });
  }

  private show(): void {
    if (this.fitted === null) return;
    const uncertain = select("label-show").value === "uncertainty";
    const { values, uncertainty } = this.fitted;
    this.page.showScores(uncertain ? uncertainty : values, false, uncertain ? "Uncertainty" : "Value");
  }

  private suggest(): void {
    const { field, view } = this.page;
    const scores = this.fitted!.uncertainty.whole ?? this.fitted!.uncertainty.detail;
    if (scores === null) return element("label-next").replaceChildren();
    const apart_m = CELLS_APART * field.levels[0].grid.resolution_m * scores.factor;
    const items = bestCells(field, scores, SUGGESTIONS, apart_m).map(({ lonlat, score }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = `± ${score.toPrecision(3)} at ${lonlat.map((one) => one.toFixed(3)).join(", ")}`;
      button.onclick = () => view.flyTo(lonlat);
      const item = document.createElement("li");
      item.append(button);
      return item;
    });
    element("label-next").replaceChildren(...items);
  }

  private python(): string {
    const store = JSON.stringify(this.page.field.url);
    const modality = JSON.stringify(select("compare").value);
    return [
      "import pandas as pd",
      "from unigeo import client",
      "",
      `field = client.open_field(${store})`,
      `labels = field.label(pd.read_csv("labels.csv"), "label", ${modality})`,
      "labels.map(), labels.suggest()",
    ].join("\n");
  }
}

function save(name: string, content: string | Blob, type?: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], type === undefined ? {} : { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
