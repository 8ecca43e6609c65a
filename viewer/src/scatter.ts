/** A scatter plot of labels: main directions of their vectors, values and residuals. */

const MARGIN = 8;
const NEAR = 8;

export interface Dot {
  x: number;
  y: number;
  colour: string;
  lonlat: number[];
}

/** Draw dots, and call back with the location of one that is clicked. */
export function drawScatter(
  canvas: HTMLCanvasElement,
  dots: Dot[],
  onPick: (lonlat: number[]) => void,
): void {
  const context = canvas.getContext("2d")!;
  context.clearRect(0, 0, canvas.width, canvas.height);
  const known = dots.filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y));
  const scale = (values: number[], length: number) => {
    const low = values.reduce((least, value) => Math.min(least, value), Infinity);
    const high = values.reduce((most, value) => Math.max(most, value), -Infinity);
    return (value: number) => MARGIN + ((length - 2 * MARGIN) * (value - low)) / (high - low || 1);
  };
  const across = scale(known.map(({ x }) => x), canvas.width);
  const up = scale(known.map(({ y }) => y), canvas.height);
  const placed = known.map((dot) => ({ ...dot, left: across(dot.x), top: canvas.height - up(dot.y) }));
  for (const { left, top, colour } of placed) {
    context.fillStyle = colour;
    context.beginPath();
    context.arc(left, top, 3, 0, 2 * Math.PI);
    context.fill();
  }
  canvas.onclick = ({ offsetX, offsetY }) => {
    const x = (offsetX * canvas.width) / canvas.clientWidth;
    const y = (offsetY * canvas.height) / canvas.clientHeight;
    const far = (dot: { left: number; top: number }) => Math.hypot(dot.left - x, dot.top - y);
    const nearest = placed.sort((a, b) => far(a) - far(b))[0];
    if (nearest && far(nearest) <= NEAR) onPick(nearest.lonlat);
  };
}
