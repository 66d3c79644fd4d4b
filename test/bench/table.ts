/** What every bench prints: a table for people, and with `--json` one object on the last line (design, section 9). */
import { existsSync } from 'node:fs';
import { availableParallelism, cpus, totalmem } from 'node:os';

export interface Measure {
  name: string;
  value: number;
  unit: string;
  /** The bar, and on which side of it the value must be; absent where a value is only told. */
  bar?: number;
  at?: 'least' | 'most';
  /** How the value came about, where the name does not say. */
  note?: string;
}

export function met({ value, bar, at = 'least' }: Measure): boolean | undefined {
  if (bar === undefined) return undefined;
  return at === 'least' ? value >= bar : value <= bar;
}

/** Prints the measures; the exit code of the process is 1 when a bar is not met. */
export function report(bench: string, measures: readonly Measure[], json: boolean): void {
  const rows = measures.map((measure) => {
    const { name, value, unit, bar, at = 'least', note = '' } = measure;
    const verdict = met(measure);
    return [
      name,
      `${round(value)} ${unit}`,
      bar === undefined ? '' : `at ${at} ${bar} ${unit}`,
      verdict === undefined ? '' : verdict ? 'met' : 'NOT MET',
      note,
    ];
  });
  const head = ['measure', 'value', 'bar', '', ''];
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]!.length)));
  for (const row of [head, ...rows])
    console.log(
      row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join('  ')
        .trimEnd(),
    );
  if (measures.some((measure) => met(measure) === false)) process.exitCode = 1;
  if (!json) return;
  console.log(
    JSON.stringify({
      bench,
      machine: { cores: availableParallelism(), cpu: cpus()[0]?.model ?? '', memoryBytes: totalmem() },
      results: measures.map((measure) => ({
        ...measure,
        ...(met(measure) === undefined ? {} : { met: met(measure) }),
      })),
    }),
  );
}

/** A part of a bench: the data of others that it reads, which may not be there, and what measures it. */
export interface BenchPart {
  needs: readonly string[];
  run: () => Promise<void>;
}

/**
 * Runs the parts that `--only` names, or all, and reports what they measured. A part whose data are not there is told
 * and left out. `--help`, and a part that does not exist, run nothing; the exit code is 2 for the latter.
 */
export async function reportParts(
  bench: string,
  parts: Readonly<Record<string, BenchPart>>,
  measures: readonly Measure[],
  {
    help,
    values: { only, json, help: asked },
  }: { help: string; values: { only?: string[] | undefined; json: boolean; help: boolean } },
): Promise<void> {
  const unknown = only?.find((name) => !Object.hasOwn(parts, name));
  if (asked) return console.log(help);
  if (unknown !== undefined) {
    console.error(`there is no part ${unknown}; parts are ${Object.keys(parts).join(', ')}`);
    process.exitCode = 2;
    return;
  }
  for (const [name, { needs, run }] of Object.entries(parts)) {
    if (only && !only.includes(name)) continue;
    const missing = needs.find((path) => !existsSync(path));
    if (missing === undefined) await run();
    else console.log(`${name}: NOT MEASURED, because ${missing} is not there`);
  }
  report(bench, measures, json);
}

function round(value: number): string {
  return Math.abs(value) >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
