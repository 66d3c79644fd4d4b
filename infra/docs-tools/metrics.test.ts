/** Metrics and spans are documented, and rules and dashboards name none that does not exist. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import { describe, expect, it } from 'vitest';
import { METRICS } from '../../activities/metrics.js';
import { root } from '../setup/paths.mjs';
import { METRICS_FILE, metricsPage, scrapedName, SPANS_FILE, spansPage } from './metrics.js';

const read = (path: string): string => readFileSync(join(root, path), 'utf8');

interface Rules {
  groups: { rules: { alert: string; expr: string; annotations: Record<string, string> }[] }[];
}
interface Dashboard {
  panels: { title: string; targets: { expr: string }[] }[];
}
const alerts = (parse(read('infra/deploy/prometheus/acecoder-rules.yaml')) as Rules).groups.flatMap(
  ({ rules }) => rules,
);
const { panels } = JSON.parse(read('infra/deploy/grafana/acecoder.json')) as Dashboard;

/** Names and labels that a scrape has. Temporal's own are those that the rules use. */
const NAMES = new Set([
  ...Object.values(METRICS).flatMap((metric) => {
    const name = scrapedName(metric);
    return metric.kind === 'histogram' ? [`${name}_bucket`, `${name}_sum`, `${name}_count`] : [name];
  }),
  'temporal_num_pollers',
  'temporal_worker_task_slots_used',
  'temporal_activity_schedule_to_start_latency_seconds_bucket',
]);

it(`${METRICS_FILE} is up to date: npm run docs:metrics`, () => {
  expect(read(METRICS_FILE)).toBe(metricsPage());
});

it(`${SPANS_FILE} is up to date: npm run docs:metrics`, () => {
  expect(read(SPANS_FILE)).toBe(spansPage());
});

describe('names in expressions', () => {
  const expressions = [
    ...alerts.map(({ alert, expr }) => [alert, expr] as const),
    ...panels.flatMap(({ title, targets }) => targets.map(({ expr }) => [title, expr] as const)),
  ];

  it.each(expressions)('%s', (_, expr) => {
    const named = [...expr.matchAll(/\b(?:acecoder|temporal)_[a-z_]+/g)].map(([name]) => name);
    expect(named.length).toBeGreaterThan(0);
    expect(named.filter((name) => !NAMES.has(name))).toEqual([]);
  });

  it('every metric of the table is in a rule or on the dashboard', () => {
    const text = expressions.map(([, expr]) => expr).join('\n');
    expect(Object.values(METRICS).filter((metric) => !text.includes(scrapedName(metric)))).toEqual([]);
  });
});

it('every alert says what it is and what to do', () => {
  for (const { alert, annotations } of alerts)
    expect(Object.keys(annotations), alert).toEqual(expect.arrayContaining(['summary', 'action']));
});
