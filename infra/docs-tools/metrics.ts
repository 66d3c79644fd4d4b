/** `npm run docs:metrics`: writes docs/reference/metrics.md and spans.md from the tables of metrics and spans. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { METRICS } from '../../activities/metrics.js';
import { LONGEST_TEXT, SPANS } from '../../activities/runtime/spans.js';
import { root } from '../setup/paths.mjs';

/** The generated files. */
export const METRICS_FILE = 'docs/reference/metrics.md';
export const SPANS_FILE = 'docs/reference/spans.md';

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

/** The text of the page of spans. */
export function spansPage(): string {
  const listed = (names: readonly string[]): string => names.map((name) => `\`${name}\``).join(', ');
  const rows = Object.entries(SPANS).map(
    ([name, { of, below, attributes, about }]) =>
      `| \`${name}:<${of}>\` | ${listed(below)} | ${listed(attributes)} | ${about} |`,
  );
  return `<!-- Written by \`npm run docs:metrics\` from activities/runtime/spans.ts: change that table and not this file. -->

# Spans

A worker process sends these spans to an OpenTelemetry collector, by OTLP over HTTP, where \`ACECODER_OTLP\` is set.
[Production](../how-to/production.md#how-do-i-see-traces) says how to switch them on.

One trace holds an experiment: its stages, their activities, and each request to a Python process.
Whoever starts the experiment with a client that sends traces owns the trace, and its span is the parent of \`RunWorkflow\`.
Otherwise the trace begins with the workflow.

| span | parent | attributes | meaning |
|---|---|---|---|
${rows.join('\n')}

No span holds a text of an error, a prompt, a program or a configuration.
Texts have at most ${LONGEST_TEXT} characters, and a process sends no other attribute than these.

- \`temporalWorkflowId\`, \`run_id\` and \`temporalActivityId\` are those of Temporal.
- \`acecoder.attempt\` is the number of the attempt, from 1.
- \`acecoder.failure\` is the class of a failure: [a class of the package](failures.md), \`Cancelled\`, or the name of an error.
- \`acecoder.process\` is the name of the process, as its log file has it: \`runtime\`, \`vllm\` or \`sandbox\`, with the device.
- \`acecoder.waited_ms\` and \`acecoder.ran_ms\` come from the Python process: milliseconds before and in the operation.

Each process is a resource with \`service.name\` \`acecoder-temporal\`, its version, and a random \`service.instance.id\`.
`;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [file, page] of [
    [METRICS_FILE, metricsPage()],
    [SPANS_FILE, spansPage()],
  ] as const) {
    writeFileSync(join(root, file), page);
    console.log(file);
  }
}
