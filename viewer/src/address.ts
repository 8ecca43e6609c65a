/** The state of a view in the address behind `#`, so that it can be sent. */

export interface State {
  /** Longitude and latitude of the centre, in degrees. */
  at?: number[];
  /** Metres of a pixel. */
  res?: number;
  show?: string;
  beside?: string;
  compare?: string;
  mercator?: boolean;
  a?: number[];
  b?: number[];
  words?: string;
}

const POINTS = ["at", "a", "b"] as const;
const TEXTS = ["show", "beside", "compare", "words"] as const;

export function readState(hash: string): State {
  const said = new URLSearchParams(hash.replace(/^#/, ""));
  const state: State = {};
  for (const name of POINTS) {
    const point = (said.get(name) ?? "").split(",").map(Number);
    const [lon, lat] = point;
    if (said.has(name) && point.length === 2 && Math.abs(lon) <= 360 && Math.abs(lat) <= 90) {
      state[name] = point;
    }
  }
  for (const name of TEXTS) if (said.get(name)) state[name] = said.get(name)!;
  const resolution = Number(said.get("res"));
  if (resolution > 0 && Number.isFinite(resolution)) state.res = resolution;
  if (said.get("mercator") === "1") state.mercator = true;
  return state;
}

export function writeState(state: State): string {
  const said = new URLSearchParams();
  for (const name of POINTS) {
    if (state[name]) said.set(name, state[name].map((number) => number.toFixed(5)).join(","));
  }
  if (state.res) said.set("res", state.res.toPrecision(5));
  for (const name of TEXTS) if (state[name]) said.set(name, state[name]);
  if (state.mercator) said.set("mercator", "1");
  return `#${said.toString().replaceAll("%2C", ",")}`;
}
