/** Charts as inline SVG in the colours of the page. Every mark has a `<title>` with its values as text. */
import { html, type Html } from './html.js';

/** A short text of a number: whole numbers in full, others with three significant digits. */
export function numberText(value: number): string {
  if (Number.isInteger(value)) return String(value);
  const magnitude = Math.abs(value);
  return magnitude >= 0.001 && magnitude < 1e6 ? String(Number(value.toPrecision(3))) : value.toExponential(2);
}

/** Round tick values (1, 2 or 5 times a power of ten apart) that enclose the range from `low` to `high`. */
export function ticks(low: number, high: number, about = 5): number[] {
  const [from, to] =
    low === high ? [low - Math.max(1, Math.abs(low)) / 2, high + Math.max(1, Math.abs(high)) / 2] : [low, high];
  const rough = (to - from) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 5].find((factor) => factor * power >= rough) ?? 10);
  const first = Math.floor(from / step + 1e-9);
  const last = Math.ceil(to / step - 1e-9);
  // toPrecision takes off the rounding error of index times step.
  return Array.from({ length: last - first + 1 }, (_, index) => Number(((first + index) * step).toPrecision(12)));
}

interface Frame {
  width: number;
  height: number;
  x: { ticks: number[]; label: string; text?: (tick: number) => string };
  y: { ticks: number[]; label: string; text?: (tick: number) => string };
}

const MARGIN = { top: 16, right: 18, bottom: 48, left: 62 };

/** Axes with labels and grid lines; `marks` draws into them with functions from values to positions. */
function plot(
  name: string,
  frame: Frame,
  marks: (x: (value: number) => number, y: (value: number) => number) => Html,
): Html {
  const { width, height } = frame;
  const scale = (axis: Frame['x'], start: number, end: number) => (value: number) => {
    const [low, high] = [axis.ticks[0] as number, axis.ticks[axis.ticks.length - 1] as number];
    return Math.round((start + ((value - low) / (high - low)) * (end - start)) * 100) / 100;
  };
  const [left, right, top, bottom] = [MARGIN.left, width - MARGIN.right, MARGIN.top, height - MARGIN.bottom];
  const [x, y] = [scale(frame.x, left, right), scale(frame.y, bottom, top)];
  const text = (axis: Frame['x'], tick: number): string => (axis.text ?? numberText)(tick);
  const grid = frame.y.ticks.map(
    (tick) => html`<line class="grid" x1="${left}" x2="${right}" y1="${y(tick)}" y2="${y(tick)}"/>
<text x="${left - 8}" y="${y(tick) + 4}" text-anchor="end">${text(frame.y, tick)}</text>
`,
  );
  const marksOfX = frame.x.ticks.map(
    (tick) => html`<line class="axis" x1="${x(tick)}" x2="${x(tick)}" y1="${bottom}" y2="${bottom + 4}"/>
<text x="${x(tick)}" y="${bottom + 18}" text-anchor="middle">${text(frame.x, tick)}</text>
`,
  );
  const turned = `translate(14 ${(top + bottom) / 2}) rotate(-90)`;
  return html`<svg viewBox="0 0 ${width} ${height}" style="max-width:${width}px" role="img" aria-label="${name}">
${grid}${marksOfX}<line class="axis" x1="${left}" x2="${right}" y1="${bottom}" y2="${bottom}"/>
<text class="label" x="${(left + right) / 2}" y="${height - 8}" text-anchor="middle">${frame.x.label}</text>
<text class="label" transform="${turned}" text-anchor="middle">${frame.y.label}</text>
${marks(x, y)}</svg>`;
}

export interface Bin {
  from: number;
  to: number;
  count: number;
}

/** Columns over bins of one axis, each with its count above it. */
export function histogram(name: string, labels: { x: string; y: string }, bins: readonly Bin[]): Html {
  const edges = [...new Set(bins.flatMap(({ from, to }) => [from, to]))].sort((a, b) => a - b);
  const counts = ticks(0, Math.max(1, ...bins.map(({ count }) => count)), 4).filter(Number.isInteger);
  return plot(
    name,
    { width: 640, height: 260, x: { ticks: edges, label: labels.x }, y: { ticks: counts, label: labels.y } },
    (x, y) =>
      html`${bins.map(({ from, to, count }) => {
        const [left, width] = [x(from) + 1, Math.max(1, x(to) - x(from) - 2)];
        return html`<g><title>${numberText(from)} to ${numberText(to)}: ${count}</title>
<rect class="bar" x="${left}" y="${y(count)}" width="${width}" height="${y(0) - y(count)}"/>
<text class="value" x="${left + width / 2}" y="${y(count) - 4}" text-anchor="middle">${count}</text></g>
`;
      })}`,
  );
}

/** Predicted against observed rates, with the diagonal of perfect calibration. A dot's area grows with its count. */
export function calibrationPlot(
  name: string,
  labels: { x: string; y: string },
  points: readonly { predicted: number; observed: number; count: number }[],
): Html {
  const axis = { ticks: [0, 0.2, 0.4, 0.6, 0.8, 1] };
  const largest = Math.max(...points.map(({ count }) => count));
  return plot(
    name,
    { width: 420, height: 380, x: { ...axis, label: labels.x }, y: { ...axis, label: labels.y } },
    (x, y) => {
      const dots = points.map(({ predicted, observed, count }) => {
        const radius = numberText(3 + 7 * Math.sqrt(count / largest));
        const title = `predicted ${numberText(predicted)}, observed ${numberText(observed)}, ${count} pairs`;
        const centre = html`cx="${x(predicted)}" cy="${y(observed)}"`;
        return html`<circle class="dot" ${centre} r="${radius}"><title>${title}</title></circle>
`;
      });
      return html`<line class="reference" x1="${x(0)}" y1="${y(0)}" x2="${x(1)}" y2="${y(1)}">
<title>perfect calibration</title></line>
${dots}`;
    },
  );
}

/** One line over whole-numbered steps. Up to 40 points have a visible dot. */
export function lineChart(
  name: string,
  labels: { x: string; y: string },
  points: readonly { x: number; y: number }[],
): Html {
  const xs = points.map((point) => point.x);
  const ys = points.map((point) => point.y);
  const xTicks = ticks(Math.min(...xs), Math.max(...xs), 6).filter(Number.isInteger);
  const frame = {
    width: 420,
    height: 240,
    x: {
      ticks: xTicks.length > 1 ? xTicks : [(xs[0] as number) - 1, xs[0] as number, (xs[0] as number) + 1],
      label: labels.x,
    },
    y: { ticks: ticks(Math.min(...ys), Math.max(...ys), 4), label: labels.y },
  };
  const look = points.length <= 40 ? 'dot' : 'hidden';
  return plot(name, frame, (x, y) => {
    const corners = points.map((point) => `${x(point.x)},${y(point.y)}`).join(' ');
    const dots = points.map((point) => {
      const title = `${labels.x} ${point.x}: ${numberText(point.y)}`;
      return html`<circle class="${look}" cx="${x(point.x)}" cy="${y(point.y)}" r="4"><title>${title}</title></circle>
`;
    });
    return html`<polyline class="line" points="${corners}"/>
${dots}`;
  });
}

/** Rows of spans on one axis of time, in seconds. Each kind has its own height within a row. */
export function timeChart(
  name: string,
  label: string,
  rows: readonly { name: string; spans: readonly { kind: string; from: number; to: number }[] }[],
): Html {
  const kinds = [...new Set(rows.flatMap(({ spans }) => spans.map(({ kind }) => kind)))];
  const axis = ticks(0, Math.max(1, ...rows.flatMap(({ spans }) => spans.map(({ to }) => to))), 6);
  const [width, left, lane] = [860, 90, 9];
  const row = kinds.length * lane + 8;
  const bottom = rows.length * row + 24;
  const x = (seconds: number): number =>
    Math.round((left + (seconds / axis[axis.length - 1]!) * (width - left - 18)) * 100) / 100;
  const legend = kinds.map(
    (kind, at) => html`<rect class="span${at}" x="${left + at * 110}" y="4" width="12" height="12"/>
<text x="${left + at * 110 + 18}" y="14">${kind}</text>
`,
  );
  const grid = axis.map(
    (tick) => html`<line class="grid" x1="${x(tick)}" x2="${x(tick)}" y1="24" y2="${bottom}"/>
<text x="${x(tick)}" y="${bottom + 16}" text-anchor="middle">${numberText(tick)}</text>
`,
  );
  const lines = rows.map(({ name: title, spans }, index) => {
    const top = 24 + index * row;
    const bars = spans.map(({ kind, from, to }) => {
      const at = kinds.indexOf(kind);
      const length = Math.max(1, Math.round((x(to) - x(from)) * 100) / 100);
      const said = `${title}, ${kind}: ${numberText(from)} to ${numberText(to)} s`;
      const place = html`x="${x(from)}" y="${top + 4 + at * lane}" width="${length}" height="${lane - 1}"`;
      return html`<rect class="span${at}" ${place}><title>${said}</title></rect>`;
    });
    return html`<text x="${left - 8}" y="${top + row / 2 + 4}" text-anchor="end">${title}</text>${bars}
`;
  });
  return html`<svg viewBox="0 0 ${width} ${bottom + 48}" style="max-width:${width}px" role="img" aria-label="${name}">
${legend}${grid}${lines}
<text class="label" x="${(left + width) / 2}" y="${bottom + 40}" text-anchor="middle">${label}</text></svg>`;
}
