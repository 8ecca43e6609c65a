/** The Equal Earth family of CRS, which proj4 and OpenLayers do not know by code. */

import { get as getProjection, transform } from "ol/proj.js";
import { register } from "ol/proj/proj4.js";
import proj4 from "proj4";
import { StoreError } from "./http_store";

export const CENTRAL_MERIDIANS: Record<string, number> = {
  "EPSG:8857": 0,
  "EPSG:8858": -90,
  "EPSG:8859": 150,
};
export const MERCATOR = "EPSG:3857";
const DEGREES = "EPSG:4326";
/** Half the length of the equator in Equal Earth, in metres (pyproj). */
const HALF_WIDTH_M = 17243959.06;
const HALF_HEIGHT_M = 8392927.6;

export function registerProjections(): void {
  for (const [code, meridian] of Object.entries(CENTRAL_MERIDIANS)) {
    proj4.defs(code, `+proj=eqearth +lon_0=${meridian} +datum=WGS84 +units=m +no_defs`);
  }
  register(proj4);
  for (const code of Object.keys(CENTRAL_MERIDIANS)) {
    const projection = getProjection(code)!;
    projection.setExtent([-HALF_WIDTH_M, -HALF_HEIGHT_M, HALF_WIDTH_M, HALF_HEIGHT_M]);
    projection.setWorldExtent([-180, -90, 180, 90]);
  }
}

export function checkCrs(crs: string): void {
  if (!(crs in CENTRAL_MERIDIANS)) {
    throw new StoreError(`The field's CRS is ${crs}; this page draws EPSG:8857, 8858 and 8859.`);
  }
}

export function toMetres(lonlat: number[], crs: string): number[] {
  return transform(lonlat, DEGREES, crs);
}

export function toDegrees(xy: number[], crs: string): number[] {
  return transform(xy, crs, DEGREES);
}
