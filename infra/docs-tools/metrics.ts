/** `npm run docs:metrics`: writes docs/reference/metrics.md from the table of metrics. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { METRICS } from '../../activities/metrics.js';
import { root } from '../setup/paths.mjs';

/** The generated file. */
export const METRICS_FILE = 'docs/reference/metrics.md';

type Metric = (typeof METRICS)[keyof typeof METRICS];

/**
 * The name under which Prometheus has a metric.
 *
 * @example
 * scrapedName(METRICS.rows); // 'acecoder_rows_total'
 */
export function scrapedName({ kind, name, unit }: Metric): string {
  if (kind === 'counter') return `${name}_total`;
  return kind === 'histogram' ? `${name}_${unit}` : name;
}

/** The text of the page. */
export function metricsPage(): string {
  const rows = Object.values<Metric>(METRICS).map((metric) => {
    const labels = metric.labels.map((label) => `\`${label}\``).join(', ') || 'none';
    return `| \`${scrapedName(metric)}\` | ${metric.kind} | ${metric.unit} | ${labels} | ${metric.about} |`;
  });
  return `<!-- Written by \`npm run docs:metrics\` from activities/metrics.ts: change that table and not this file. -->

# Metrics

A worker process tells these to Prometheus or to an OpenTelemetry collector, next to [the SDK's own](https://docs.temporal.io/references/sdk-metrics).
[Production](../how-to/production.md#how-do-i-watch-it) says how to switch them on.

The names are those that Prometheus has.
OpenTelemetry leaves \`_total\` and the unit of a histogram away.
Every sample also has the label \`service_name\`.
Labels have few values, so that the number of time series does not grow with the number of experiments.

| name | kind | unit | labels | meaning |
|---|---|---|---|---|
${rows.join('\n')}

\`activity\` is the type of an activity, such as \`sampling.judge\`.
\`class\` is [a class of failure](failures.md), \`Cancelled\`, or \`Unknown\`.
\`condition\` is one that \`/readyz\` tells.
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(join(root, METRICS_FILE), metricsPage());
  console.log(METRICS_FILE);
}
