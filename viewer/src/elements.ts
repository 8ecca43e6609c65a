/** The controls of the page by their names in index.html. */

export function element<T extends HTMLElement = HTMLElement>(id: string): T {
  return document.getElementById(id) as T;
}

export function input(id: string): HTMLInputElement {
  return element<HTMLInputElement>(id);
}

export function select(id: string): HTMLSelectElement {
  return element<HTMLSelectElement>(id);
}

export function addOptions(target: HTMLSelectElement, values: string[], none?: string): void {
  const options = values.map((value) => new Option(value, value));
  target.replaceChildren(...(none === undefined ? [] : [new Option(none, "")]), ...options);
}

export function say(message: string | null): void {
  const target = element("message");
  target.hidden = message === null;
  target.textContent = message ?? "";
}

/** A table of two columns, the first of which names the row. */
export function rows(entries: [string, string][]): HTMLTableElement {
  const table = document.createElement("table");
  for (const [name, value] of entries) {
    const row = table.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = name;
    row.append(head);
    row.insertCell().textContent = value;
  }
  return table;
}

export function megabytes(bytes: number): string {
  return bytes < 1e5 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(2)} MB`;
}

/** Degrees with so many digits that a metre shows. */
export function degrees(lonlat: number[]): string {
  return lonlat.map((number) => number.toFixed(5)).join(", ");
}

/** Items of a list, each a button that leads to a cell. */
export function cellButtons(
  cells: { lonlat: number[]; score: number }[],
  said: (score: number) => string,
  onPick: (lonlat: number[]) => void,
): HTMLLIElement[] {
  return cells.map(({ lonlat, score }) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = `${said(score)} at ${lonlat.map((one) => one.toFixed(3)).join(", ")}`;
    button.onclick = () => onPick(lonlat);
    const item = document.createElement("li");
    item.append(button);
    return item;
  });
}

/** Offer content as a file. */
export function save(name: string, content: string | Blob, type?: string): void {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([content], type === undefined ? {} : { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
