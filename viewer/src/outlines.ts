/** Coasts (Natural Earth) and borders of the states (US Census Bureau), drawn from TopoJSON. */

import Feature from "ol/Feature.js";
import MultiLineString from "ol/geom/MultiLineString.js";
import { transform } from "ol/proj.js";
import VectorLayer from "ol/layer/Vector.js";
import VectorSource from "ol/source/Vector.js";
import Stroke from "ol/style/Stroke.js";
import Style from "ol/style/Style.js";
import states from "us-atlas/states-10m.json";
import land from "world-atlas/land-50m.json";
import { CENTRAL_MERIDIANS } from "./projections";

interface Topology {
  arcs: number[][][];
  transform: { scale: number[]; translate: number[] };
}
type Line = number[][];

const MERCATOR_LIMIT = 85;

/** Lines of longitude and latitude: TopoJSON stores differences of integers. */
function lines({ arcs, transform: { scale, translate } }: Topology): Line[] {
  return arcs.map((arc) => {
    let x = 0;
    let y = 0;
    return arc.map(([dx, dy]) => {
      x += dx;
      y += dy;
      return [x * scale[0] + translate[0], y * scale[1] + translate[1]];
    });
  });
}

/** Arcs that two states share: the others are coast and the nation's border. */
function shared(topology: Topology & { objects: { states: unknown } }): Line[] {
  const uses = new Map<number, number>();
  const count = (value: unknown): void => {
    if (typeof value === "number") {
      const arc = value < 0 ? ~value : value;
      uses.set(arc, (uses.get(arc) ?? 0) + 1);
    } else if (Array.isArray(value)) value.forEach(count);
  };
  const { geometries } = topology.objects.states as { geometries: { arcs?: unknown }[] };
  for (const geometry of geometries) count(geometry.arcs);
  return lines(topology).filter((_, arc) => (uses.get(arc) ?? 0) > 1);
}

/** Cut lines where they jump across the map's seam, or follow the cut of the data at 180 degrees. */
function cut(line: Line, meridian: number): Line[] {
  const pieces: Line[] = [[]];
  const from = (lon: number) => ((((lon - meridian + 180) % 360) + 360) % 360) - 180;
  line.forEach((point, number) => {
    const before = line[number - 1];
    const jumps = before !== undefined && Math.abs(from(point[0]) - from(before[0])) > 180;
    const along = before !== undefined && [before, point].every(([lon]) => Math.abs(lon) > 179.99);
    if (jumps || along) pieces.push([]);
    if (Math.abs(point[1]) < MERCATOR_LIMIT) pieces[pieces.length - 1].push(point);
  });
  return pieces.filter((piece) => piece.length > 1);
}

export function outlines(): VectorLayer {
  const style = (color: string, width: number) =>
    new Style({ stroke: new Stroke({ color, width }) });
  const styles = { coast: style("#1d2733", 1), states: style("#1d273388", 0.7) };
  return new VectorLayer({
    source: new VectorSource(),
    style: (feature) => styles[feature.get("kind") as "coast" | "states"],
    zIndex: 10,
  });
}

/** Lay the outlines anew in the CRS of the view. */
export function drawOutlines(layer: VectorLayer, crs: string): void {
  const meridian = CENTRAL_MERIDIANS[crs] ?? 0;
  const drawn = (kind: string, all: Line[]) =>
    new Feature({
      kind,
      geometry: new MultiLineString(
        all
          .flatMap((line) => cut(line, meridian))
          .map((line) => line.map((point) => transform(point, "EPSG:4326", crs))),
      ),
    });
  const source = layer.getSource()!;
  source.clear();
  source.addFeature(drawn("coast", lines(land as unknown as Topology)));
  source.addFeature(drawn("states", shared(states as never)));
}
