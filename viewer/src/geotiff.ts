/**
 * Writes a map as GeoTIFF: float32 bands, without a compressor, in an Equal Earth CRS by its EPSG code.
 *
 * Sources: Adobe, "TIFF Revision 6.0" (1992); OGC 19-008r4, "GeoTIFF" 1.1; GDAL's tags 42112, 42113.
 */

export interface Band {
  name: string;
  values: Float32Array;
}

export interface Raster {
  width: number;
  height: number;
  bands: Band[];
  /** Such as EPSG:8858. */
  crs: string;
  /** Easting and northing of the north-west corner. */
  origin: [number, number];
  pixel_m: number;
  /** Name and value of what else is said of the whole file. */
  tags: [string, string][];
  copyright: string;
}

const ASCII = 2;
const SHORT = 3;
const LONG = 4;
const DOUBLE = 12;
const SIZES: Record<number, number> = { [ASCII]: 1, [SHORT]: 2, [LONG]: 4, [DOUBLE]: 8 };
const HEADER_BYTES = 8;
const ENTRY_BYTES = 12;

type Entry = [tag: number, type: number, values: number[]];

export function geotiffOf(raster: Raster): Uint8Array<ArrayBuffer> {
  const { width, height, bands, origin, pixel_m } = raster;
  const bandBytes = 4 * width * height;
  const all = (value: number) => bands.map(() => value);
  // Pixel is area; a projected CRS by its code; metres. Each key: its number, 0, 1, its value.
  const keys = [[1024, 1], [1025, 1], [3072, Number(raster.crs.replace("EPSG:", ""))], [3076, 9001]];
  const entries: Entry[] = [
    [256, LONG, [width]],
    [257, LONG, [height]],
    [258, SHORT, all(32)],
    [259, SHORT, [1]], // no compressor
    [262, SHORT, [1]], // black is zero
    [273, LONG, bands.map((_, band) => band * bandBytes)], // moved behind the header below
    [277, SHORT, [bands.length]],
    [278, LONG, [height]], // one strip for each band
    [279, LONG, all(bandBytes)],
    [284, SHORT, [2]], // band by band
    ...(bands.length > 1 ? ([[338, SHORT, bands.slice(1).map(() => 0)]] as Entry[]) : []),
    [339, SHORT, all(3)], // floating point
    [33432, ASCII, text(raster.copyright)],
    [33550, DOUBLE, [pixel_m, pixel_m, 0]],
    [33922, DOUBLE, [0, 0, 0, ...origin, 0]],
    [34735, SHORT, [1, 1, 0, keys.length, ...keys.flatMap(([key, value]) => [key, 0, 1, value])]],
    [42112, ASCII, text(metadataOf(raster))],
    [42113, ASCII, text("nan")],
  ];
  const directoryBytes = 2 + ENTRY_BYTES * entries.length + 4;
  const longer = entries.map(([, type, values]) => padded(SIZES[type] * values.length));
  const behind = longer.reduce((sum, bytes) => sum + (bytes > 4 ? bytes : 0), 0); // up to 4 fit an entry
  const firstPixel = HEADER_BYTES + directoryBytes + behind;
  const strips = entries.find(([tag]) => tag === 273)!;
  strips[2] = strips[2].map((offset) => offset + padded(firstPixel));

  const file = new Uint8Array(padded(firstPixel) + bands.length * bandBytes);
  const view = new DataView(file.buffer);
  file.set([0x49, 0x49, 42, 0, HEADER_BYTES]); // little-endian
  view.setUint16(HEADER_BYTES, entries.length, true);
  let free = HEADER_BYTES + directoryBytes;
  entries.forEach(([tag, type, values], number) => {
    const at = HEADER_BYTES + 2 + ENTRY_BYTES * number;
    view.setUint16(at, tag, true);
    view.setUint16(at + 2, type, true);
    view.setUint32(at + 4, values.length, true);
    let target = at + 8;
    if (longer[number] > 4) {
      view.setUint32(target, free, true);
      target = free;
      free += longer[number];
    }
    values.forEach((value, k) => put(view, target + k * SIZES[type], type, value));
  });
  bands.forEach(({ values }, band) =>
    values.forEach((value, k) => view.setFloat32(strips[2][band] + 4 * k, value, true)),
  );
  return file;
}

/** A multiple of four bytes, so that offsets are even and floats aligned. */
function padded(bytes: number): number {
  return 4 * Math.ceil(bytes / 4);
}

function put(view: DataView, at: number, type: number, value: number): void {
  if (type === ASCII) view.setUint8(at, value);
  else if (type === SHORT) view.setUint16(at, value, true);
  else if (type === LONG) view.setUint32(at, value, true);
  else view.setFloat64(at, value, true);
}

/** UTF-8 with a zero at its end. */
function text(said: string): number[] {
  return [...new TextEncoder().encode(said), 0];
}

/** GDAL's metadata: names of the bands, and items of the whole file. */
function metadataOf({ bands, tags }: Raster): string {
  const escaped = (said: string) =>
    said.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;").replaceAll('"', "&quot;");
  const items = [
    ...bands.map(
      ({ name }, band) =>
        `<Item name="DESCRIPTION" sample="${band}" role="description">${escaped(name)}</Item>`,
    ),
    ...tags.map(([name, value]) => `<Item name="${escaped(name)}">${escaped(value)}</Item>`),
  ];
  return `<GDALMetadata>${items.join("")}</GDALMetadata>`;
}
