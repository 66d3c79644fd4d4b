/**
 * The plots of the report: Observable Plot, drawn into SVG when the page is built. Each has a text for who cannot see
 * it, and its values as a table. Colours are those of the page, so that they follow light, dark and paper.
 */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { table } from './elements.js';
import { Html, html, nothing, type HtmlValue } from './html.js';
import { numberText } from './text.js';

/** Colours of the page's series, in order; a line has another dash as well, so that colour alone tells nothing. */
const COLOURS = ['var(--c1)', 'var(--c2)', 'var(--c3)', 'var(--c4)'];
const DASHES = ['none', '6 4', '2 3', '8 3 2 3'];

/** A plot on the page. */
export interface PlotFigure {
  title: string;
  caption: HtmlValue;
  /** What the plot shows, for who cannot see it. */
  label: string;
  svg: Html;
  legend?: Html;
  table: Html;
  wide?: boolean;
}

/** A plot with its title, caption and table. */
export function plotFigure({ title, caption, label, svg, legend, table: values, wide }: PlotFigure): Html {
  const image = new Html(svg.markup.replace(/^<svg/, html`<svg role="img" aria-label="${label}"`.markup));
  return html`<figure${wide ? html` class="wide"` : nothing}><h3>${title}</h3>
${legend ?? nothing}${wide ? html`<div class="scroll" tabindex="0">${image}</div>` : image}
<figcaption>${caption}</figcaption>
<details class="table"><summary>${title} as a table</summary>${values}</details></figure>`;
}

/** Their types are those of a browser, which a server's code does not load. */
const parsed: (markup: string) => { document: unknown } = parseHTML;
const plotted: (options: Plot.PlotOptions & { document: unknown }) => { outerHTML: string } = Plot.plot;

/** Draws a plot as SVG text. */
function draw(options: Plot.PlotOptions): Html {
  const { document } = parsed('<!doctype html><html><body></body></html>');
  const drawn = plotted({
    width: 440,
    height: 260,
    marginLeft: 54,
    marginBottom: 42,
    marginTop: 24,
    marginRight: 16,
    ...options,
    document,
  });
  // The style of Plot names fonts and colours, and the page has its own. The image has one name, not one per group.
  const svg = drawn.outerHTML.replaceAll(
    /<style>[^]*?<\/style>| (class|aria-label|aria-hidden|font-size|font-family)="[^"]*"/g,
    '',
  );
  return new Html(svg);
}

export interface Series {
  name: string;
  points: readonly { x: number; y: number; title?: string }[];
  /** A level and no course: a line without dots. */
  level?: boolean;
}

/** Lines over whole numbers, such as rounds, with a legend where there are several. */
export function linePlot(
  title: string,
  caption: HtmlValue,
  { x, y, log = false }: { x: string; y: string; log?: boolean },
  series: readonly Series[],
): PlotFigure {
  const drawn = series.filter(({ points }) => points.length > 0);
  const xs = [...new Set(drawn.flatMap(({ points }) => points.map((point) => point.x)))].sort((a, b) => a - b);
  const marks = drawn.flatMap(({ name, points, level }, at) => {
    const stroke = COLOURS[at % COLOURS.length]!;
    const titleOf = (point: { x: number; y: number }): string =>
      `${name}, ${x} ${numberText(point.x)}: ${numberText(point.y)}`;
    return [
      Plot.lineY(points, { x: 'x', y: 'y', stroke, strokeWidth: 2, strokeDasharray: DASHES[at % DASHES.length]! }),
      ...(level || points.length > 60
        ? []
        : [Plot.dot(points, { x: 'x', y: 'y', fill: stroke, r: 3.5, title: titleOf })]),
    ];
  });
  return {
    title,
    caption,
    label: `${title}. ${drawn.map(({ name, points }) => courseText(name, points)).join(' ')}`,
    svg: draw({
      x: { label: x, ...(log ? { type: 'log', base: 2 } : {}), ticks: xs.length <= 8 ? xs : 6, tickFormat: numberText },
      y: { label: y, grid: true, ticks: 5, tickFormat: numberText, nice: true },
      marks,
    }),
    ...(drawn.length > 1
      ? {
          legend: legendOf(
            drawn.map(({ name }) => name),
            'line',
          ),
        }
      : {}),
    table: table(
      [`#${x}`, ...drawn.map(({ name }) => `#${name}`)],
      xs.map((at) => ({
        cells: [
          numberText(at),
          ...drawn.map(({ points }) => {
            const point = points.find((each) => each.x === at);
            return point === undefined ? '–' : numberText(point.y);
          }),
        ],
      })),
    ),
  };
}

/** The course of a series in a sentence. */
function courseText(name: string, points: Series['points']): string {
  const [first, last] = [points[0]!, points.at(-1)!];
  return points.length === 1
    ? `${name}: ${numberText(first.y)}.`
    : `${name}: from ${numberText(first.y)} to ${numberText(last.y)}.`;
}

function legendOf(names: readonly string[], how: 'line' | 'box'): Html {
  return html`<ul class="legend" aria-hidden="true">${names.map((name, at) => {
    const colour = COLOURS[at % COLOURS.length]!;
    const sign =
      how === 'line'
        ? html`<line x1="0" x2="26" y1="5" y2="5" stroke="${colour}" stroke-width="2.5" stroke-dasharray="${
            DASHES[at % DASHES.length]!
          }"></line>`
        : html`<rect width="14" height="10" fill="${colour}"></rect>`;
    return html`<li><svg width="${how === 'line' ? 26 : 14}" height="10">${sign}</svg> ${name}</li>`;
  })}</ul>`;
}

/** Columns over bins of one axis, each with its count above it. */
export function histogram(
  title: string,
  caption: HtmlValue,
  labels: { x: string; y: string },
  bins: readonly { from: number; to: number; count: number }[],
): PlotFigure {
  const total = bins.reduce((sum, { count }) => sum + count, 0);
  return {
    title,
    caption,
    label: `${title}. ${bins
      .filter(({ count }) => count > 0)
      .map(({ from, to, count }) => `${numberText(from)} to ${numberText(to)}: ${count}`)
      .join('; ')}. ${total} in all.`,
    svg: draw({
      x: { label: labels.x, ticks: [0, 0.2, 0.4, 0.6, 0.8, 1] },
      y: { label: labels.y, grid: true, ticks: 5, nice: true, tickFormat: numberText },
      marks: [
        Plot.rectY(bins, {
          x1: 'from',
          x2: 'to',
          y: 'count',
          fill: COLOURS[0]!,
          inset: 1,
          title: ({ from, to, count }: (typeof bins)[number]) => `${numberText(from)} to ${numberText(to)}: ${count}`,
        }),
        Plot.text(
          bins.filter(({ count }) => count > 0),
          {
            x: ({ from, to }: (typeof bins)[number]) => (from + to) / 2,
            y: 'count',
            text: ({ count }: (typeof bins)[number]) => numberText(count),
            dy: -8,
            fill: 'var(--ink)',
          },
        ),
        Plot.ruleY([0]),
      ],
    }),
    table: table(
      [labels.x, `#${labels.y}`],
      bins.map(({ from, to, count }) => ({
        cells: [`${numberText(from)} to ${numberText(to)}`, numberText(count)],
      })),
    ),
  };
}

/** Predicted against observed rates, with the diagonal of perfect calibration. A dot's area grows with its count. */
export function calibrationPlot(
  title: string,
  caption: HtmlValue,
  points: readonly { predicted: number; observed: number; count: number }[],
): PlotFigure {
  const most = Math.max(...points.map(({ count }) => count));
  const text = ({ predicted, observed, count }: (typeof points)[number]): string =>
    `predicted ${numberText(predicted)}, observed ${numberText(observed)}, ${count} pairs`;
  return {
    title,
    caption,
    label: `${title}. ${points.map(text).join('; ')}.`,
    svg: draw({
      width: 400,
      height: 360,
      x: { label: 'predicted probability', domain: [0, 1], ticks: 5 },
      y: { label: 'observed share', domain: [0, 1], ticks: 5, grid: true },
      marks: [
        Plot.line(
          [
            [0, 0],
            [1, 1],
          ],
          { stroke: 'var(--soft)', strokeDasharray: '5 5' },
        ),
        Plot.dot(points, {
          x: 'predicted',
          y: 'observed',
          r: ({ count }: (typeof points)[number]) => 3 + 8 * Math.sqrt(count / most),
          fill: COLOURS[0]!,
          stroke: 'var(--page)',
          title: text,
        }),
      ],
      r: { type: 'identity' },
    }),
    table: table(
      ['#predicted', '#observed', '#pairs'],
      points.map(({ predicted, observed, count }) => ({
        cells: [numberText(predicted), numberText(observed), numberText(count)],
      })),
    ),
  };
}

/** Values with their intervals, one below the other, between two limits around 0. */
export function intervalPlot(
  title: string,
  caption: HtmlValue,
  { x, limit }: { x: string; limit: number },
  rows: readonly { name: string; value: number; interval: readonly [number, number] }[],
): PlotFigure {
  const text = ({ name, value, interval: [low, high] }: (typeof rows)[number]): string =>
    `${name}: ${numberText(value)}, ${numberText(low)} to ${numberText(high)}`;
  return {
    title,
    caption,
    label: `${title}. ${rows.map(text).join('; ')}.`,
    svg: draw({
      marginLeft: 90,
      height: 60 + 22 * rows.length,
      x: { label: x, grid: true, ticks: 5, nice: true },
      y: { label: null, domain: rows.map(({ name }) => name) },
      marks: [
        Plot.ruleX([-limit, limit], { stroke: 'var(--soft)', strokeDasharray: '5 5' }),
        Plot.ruleX([0], { stroke: 'var(--soft)' }),
        Plot.link(rows, {
          x1: ({ interval }: (typeof rows)[number]) => interval[0],
          x2: ({ interval }: (typeof rows)[number]) => interval[1],
          y1: 'name',
          y2: 'name',
          stroke: COLOURS[0]!,
          strokeWidth: 2,
        }),
        Plot.dot(rows, { x: 'value', y: 'name', r: 4, fill: COLOURS[0]!, title: text }),
      ],
    }),
    table: table(
      ['', `#${x}`, '#from', '#to'],
      rows.map(({ name, value, interval: [low, high] }) => ({
        cells: [name, numberText(value), numberText(low), numberText(high)],
      })),
    ),
  };
}

/** Rows of spans on one axis of time, in seconds. Each kind has its own height within a row. */
export function timePlot(
  title: string,
  caption: HtmlValue,
  rows: readonly { name: string; spans: readonly { kind: string; from: number; to: number }[] }[],
): PlotFigure {
  const kinds = [...new Set(rows.flatMap(({ spans }) => spans.map(({ kind }) => kind)))];
  const spans = rows.flatMap(({ name, spans: own }) => own.map((span) => ({ name, ...span })));
  const [lane, gap] = [10, 8];
  const row = kinds.length * lane + gap;
  return {
    title,
    caption,
    wide: true,
    label: `${title}. ${kinds
      .map((kind) => {
        const sum = spans.filter((span) => span.kind === kind).reduce((all, { from, to }) => all + to - from, 0);
        return `${kind}: ${numberText(Math.round(sum))} s in all`;
      })
      .join('; ')}.`,
    svg: draw({
      width: 820,
      height: rows.length * row + 70,
      marginLeft: 84,
      x: { label: 'seconds since the first round began', grid: true, ticks: 7, tickFormat: numberText },
      y: { label: null, domain: rows.map(({ name }) => name), padding: 0 },
      marks: kinds.map((kind, at) =>
        Plot.barX(
          spans.filter((span) => span.kind === kind),
          {
            x1: 'from',
            x2: 'to',
            y: 'name',
            fill: COLOURS[at % COLOURS.length]!,
            insetTop: gap / 2 + at * lane,
            insetBottom: gap / 2 + (kinds.length - 1 - at) * lane,
            title: ({ name, from, to }: (typeof spans)[number]) =>
              `${name}, ${kind}: ${numberText(from)} to ${numberText(to)} s`,
          },
        ),
      ),
    }),
    legend: legendOf(kinds, 'box'),
    table: table(
      ['round', 'step', '#from, s', '#to, s'],
      spans.map(({ name, kind, from, to }) => ({
        cells: [name, kind, numberText(Math.round(from * 10) / 10), numberText(Math.round(to * 10) / 10)],
      })),
    ),
  };
}
