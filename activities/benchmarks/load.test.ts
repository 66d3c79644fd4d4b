/** Rows of benchmarks: those of a slice alone are kept, and no more than a worker holds. */
import { describe, expect, it } from 'vitest';
import { EvaluationConfig, type ArtifactRef, type TaskRow } from '../../workflows/contract/index.js';
import { problem } from '../../test/fixtures/livecodebench.js';
import type { Settings } from '../runtime/settings.js';
import type { Task } from './benchmark.js';
import { loadBenchmarks, taskOfRow } from './load.js';

const private_test_cases = '[]';
const rows = (...given: object[]): TaskRow[] => given as TaskRow[];

const data = { key: 'artifacts/tasks/a.json', kind: 'tasks', digest: 'd'.repeat(64), rows: 1, bytes: 1 };
const asked = (slice: object) =>
  EvaluationConfig.parse({ benchmarks: [{ kind: 'livecodebench', data, ...slice }] }).benchmarks[0]!;

async function loaded(given: readonly TaskRow[], slice: object = {}): Promise<readonly Task[]> {
  const [benchmark] = await loadBenchmarks([asked(slice)], {
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
  return benchmark!.tasks;
}

const tasksOf = async (given: readonly TaskRow[], slice: object): Promise<string[]> =>
  (await loaded(given, slice)).map(({ id }) => id);

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

  it('are read one by one where they are large, and large tests stay in them', async () => {
    const inputs = Array.from({ length: 8 }, (_, at) => `${at} `.repeat(10_000));
    const large = (id: string) =>
      problem(id, {
        private_test_cases: JSON.stringify(
          inputs.map((input) => ({ input, output: input.slice(0, 3), testtype: 'stdin' })),
        ),
      }) as TaskRow;
    const [first, second] = await loaded(rows(large('a'), problem('b', { private_test_cases })));
    // The public test, and as many private ones as are small together.
    expect([first!.tests.length, first!.more]).toEqual([4, 5]);
    expect(second).not.toHaveProperty('more');
    const whole = taskOfRow(asked({ every: 7, offset: 3 }), large('a'));
    expect(whole.tests).toHaveLength(9);
    expect(whole.tests.slice(0, 4)).toEqual(first!.tests);
    expect(whole).not.toHaveProperty('more');
  });

  it('that are there twice are refused', async () => {
    const given = rows(...['a', 'b', 'a'].map((id) => problem(id, { private_test_cases })));
    await expect(tasksOf(given, {})).rejects.toThrow('task a is there twice');
    expect(await tasksOf(given, { every: 2, offset: 1 })).toEqual(['b']);
    await expect(tasksOf(given, { every: 9, offset: 5 })).rejects.toThrow('its slice holds no task');
  });

  it('without a date are told by their own schema', async () => {
    const given = rows(problem('undated', { contest_date: 'soon', private_test_cases }));
    await expect(tasksOf(given, { from: '2024-08-01' })).rejects.toThrow('contest_date');
  });
});
