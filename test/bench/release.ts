/**
 * What a release of LiveCodeBench costs that is as large as published ones: a part of `npm run bench:evaluation`.
 *
 * The problems are made up and their number and size are those of releases 5 and 6 together: 331 problems hold 1.5 GB
 * of tests. Each has one recorded program, which reads its input and adds it up; every fifth one is wrong on its last
 * test alone. The stage runs as users start it, on a stack of its own.
 */
import { createWriteStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { StageResult } from '../../workflows/contract/index.js';
import { problem } from '../fixtures/livecodebench.js';
import { realSurroundings } from './real-surroundings.js';
import { processTree } from './stage-overhead.js';
import type { Measure } from './table.js';

const SIZE = { problems: 331, tests: 15, characters: 300_000 };
const QUEUE = 'release';

/** Numbers in [0, 1e6) from a seed (a linear congruential generator), so that texts compress as digits do. */
function* numbersOf(seed: number): Generator<number> {
  for (let state = seed; ;) {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    yield state % 1_000_000;
  }
}

function testsOf(at: number): string {
  const numbers = numbersOf(at);
  return JSON.stringify(
    Array.from({ length: SIZE.tests }, () => {
      const given: number[] = [];
      for (let characters = 0; characters < SIZE.characters; characters += 7)
        given.push(numbers.next().value as number);
      const sum = given.reduce((total, each) => total + each, 0);
      return { input: `${given.join(' ')}\n`, output: `${sum}\n`, testtype: 'stdin' };
    }),
  );
}

const isWrong = (at: number): boolean => at % 5 === 4;

/** A program that is right, or one that is wrong on its last test alone, which it knows by the sum. */
function programOf(at: number): string {
  const sums = (JSON.parse(testsOf(at)) as { output: string }[]).map(({ output }) => Number(output));
  const last = sums.at(-1)!;
  return isWrong(at)
    ? `total = sum(map(int, input().split()))\nprint(total + (total == ${last}))`
    : 'print(sum(map(int, input().split())))';
}

/** The most memory that a process has held, in MiB. */
function peakMiB(pid: number): number {
  try {
    return Number(/VmHWM:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
  } catch {
    return 0;
  }
}

/** The rows of the bench. */
export async function releaseMeasures(): Promise<Measure[]> {
  const folder = mkdtempSync(join(tmpdir(), 'acecoder-bench-release-'));
  try {
    const release = join(folder, 'release.jsonl');
    let characters = 0;
    await pipeline(
      Readable.from(
        (function* () {
          for (let at = 0; at < SIZE.problems; at += 1) {
            const tests = testsOf(at);
            characters += tests.length;
            yield `${JSON.stringify(problem(`p${at}`, { private_test_cases: tests }))}\n`;
          }
        })(),
      ),
      createWriteStream(release),
    );
    const samples = join(folder, 'samples.jsonl');
    writeFileSync(
      samples,
      Array.from({ length: SIZE.problems }, (_, at) =>
        JSON.stringify({ question_id: `p${at}`, code_list: [programOf(at)] }),
      ).join('\n'),
    );
    const { client, servers, ended, close } = await realSurroundings(join(folder, 'home'), QUEUE);
    const peaks = new Map<number, number>();
    const timer = setInterval(() => {
      for (const pid of processTree(process.pid))
        if (!servers.includes(pid)) peaks.set(pid, Math.max(peaks.get(pid) ?? 0, peakMiB(pid)));
    }, 1_000);
    try {
      const start = performance.now();
      const { metrics } = (await Promise.race([
        client.workflow.execute('evaluation', {
          taskQueue: QUEUE,
          workflowId: 'release',
          args: [
            {
              inputs: { samples: { given: { kind: 'benchmarkSamples', path: samples } } },
              config: {
                benchmarks: [{ kind: 'livecodebench', data: { kind: 'tasks', path: release } }],
                sampler: { kind: 'recorded' },
              },
            },
          ],
        }),
        ended,
      ])) as StageResult;
      const seconds = (performance.now() - start) / 1000;
      const [{ greedy }] = metrics['results'] as [{ greedy: number }];
      const wrong = Array.from({ length: SIZE.problems }, (_, at) => at).filter(isWrong).length;
      const name = `release of ${SIZE.problems} problems with ${(characters / 1e9).toFixed(2)} GB of tests`;
      return [
        {
          name: `${name}: verdicts as they should be`,
          value: Math.round(greedy * SIZE.problems),
          unit: `of ${SIZE.problems}`,
          bar: SIZE.problems - wrong,
          note: `${wrong} programs are wrong on one test`,
        },
        {
          name: `${name}: the largest process`,
          value: Math.max(...peaks.values()),
          unit: 'MiB',
          bar: 2_048,
          at: 'most',
        },
        { name: `${name}: import, plan and verdicts`, value: seconds, unit: 's' },
      ];
    } finally {
      clearInterval(timer);
      await close();
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
