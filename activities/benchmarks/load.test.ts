/** Rows of benchmarks: those of a slice alone are kept, and no more than a worker holds. */
import { describe, expect, it } from 'vitest';
import { EvaluationConfig, type ArtifactRef, type TaskRow } from '../../workflows/contract/index.js';
import { problem } from '../../test/fixtures/livecodebench.js';
import type { Settings } from '../runtime/settings.js';
import { loadBenchmarks } from './load.js';

const private_test_cases = '[]';
const rows = (...given: object[]): TaskRow[] => given as TaskRow[];

async function tasksOf(given: readonly TaskRow[], slice: object): Promise<string[]> {
  const data = { key: 'artifacts/tasks/a.json', kind: 'tasks', digest: 'd'.repeat(64), rows: 1, bytes: 1 };
  const { benchmarks } = EvaluationConfig.parse({ benchmarks: [{ kind: 'livecodebench', data, ...slice }] });
  const [loaded] = await loadBenchmarks(benchmarks, {
    settings: {} as Settings,
    store: {
      async *rowsOf() {
        yield* given as never[];
      },
      manifest: () => Promise.resolve({ metrics: {} } as never),
    },
    inputs: { 'benchmark:0': data as ArtifactRef },
    questions: () => Promise.resolve([]),
  });
  return loaded!.tasks.map(({ id }) => id);
}

describe('rows of a benchmark', () => {
  it('are those of its window of dates, of which every n-th is asked', async () => {
    const days = ['2024-07-31', '2024-08-01', '2024-08-02', '2024-08-03', '2024-08-04'];
    const given = rows(...days.map((day) => problem(day, { contest_date: `${day}T00:00:00`, private_test_cases })));
    expect(await tasksOf(given, { from: '2024-08-01', to: '2024-08-03' })).toEqual(days.slice(1, 4));
    expect(await tasksOf(given, { from: '2024-08-01', every: 2 })).toEqual(['2024-08-01', '2024-08-03']);
  });

  it('that are too large together are refused, and those outside of the window do not count', async () => {
    // One text in all rows: it is in memory once.
    const question_content = 'x'.repeat(100 * 2 ** 20);
    const given = rows(
      ...Array.from({ length: 6 }, (_, at) =>
        problem(`p${at}`, { question_content, private_test_cases, contest_date: `2024-08-0${at + 1}` }),
      ),
    );
    await expect(tasksOf(given, {})).rejects.toThrow(
      "benchmark 'livecodebench': its rows hold more than 512 MiB of text; ask a window of dates",
    );
    expect(await tasksOf(given, { from: '2024-08-06' })).toEqual(['p5']);
  });

  it('without a date are told by their own schema', async () => {
    const given = rows(problem('undated', { contest_date: 'soon', private_test_cases }));
    await expect(tasksOf(given, { from: '2024-08-01' })).rejects.toThrow('contest_date');
  });
});
