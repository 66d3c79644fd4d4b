/**
 * How long a device waits in RL rounds, synchronous and asynchronous: a fake device or this host's own, and everything
 * else real.
 *
 * A round of the fake device samples for 6 s, runs programs for about 4 s, and trains for 6 s. The device's own log
 * says when it worked. A real one samples and trains a model of random weights.
 */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import { deviceWaiting, manifestsOfRounds, timeLine } from '../../activities/report/timeline.js';
import { root, venvPython } from '../../infra/setup/paths.mjs';
import type { FilteredQuestionRow, RoundStep, StageResult } from '../../workflows/contract/index.js';
import { startWorker } from '../fixtures/start-worker.js';
import type { Surroundings } from './surroundings.js';
import type { Measure } from './table.js';

const WAITING_BAR = 0.05;

/** What stands for the model runtime, on which policy, and how large a round is. */
const DEVICES = {
  fake: {
    runtime: 'fake_device.py',
    questions: 8,
    samples: 4,
    config: {},
    model: (folder: string, bytes = 0): void => {
      mkdirSync(folder);
      writeFileSync(join(folder, 'config.json'), JSON.stringify({ fake: true, bytes }));
    },
  },
  // About as long on an H100 as a round of the fake device, in a model of 0.14 billion parameters.
  cuda: {
    runtime: 'timed_device.py',
    questions: 16,
    samples: 8,
    config: {
      maxNewTokens: 192,
      topP: 1,
      algorithm: { name: 'grpo', epochs: 3, batchSize: 32 },
      execution: { maxRows: 128, microBatch: 16 },
    },
    model: (folder: string): void => {
      const code =
        'import sys, pathlib, shutil; from runtime.bench.throughput import random_model; ' +
        'shutil.move(random_model("0.14", pathlib.Path(sys.argv[1] + "-made")), sys.argv[1])';
      const { status } = spawnSync(venvPython(), ['-c', code, folder], {
        stdio: 'inherit',
        env: { ...process.env, PYTHONPATH: join(root, 'workers') },
      });
      if (status !== 0) throw new Error('The model of random weights could not be made; see above.');
    },
  },
} as const;
export type WaitingDevice = keyof typeof DEVICES;
export const WAITING_DEVICES = Object.keys(DEVICES) as WaitingDevice[];

/** What rounds are compared: settings by a name. */
type Modes = Readonly<Record<string, { config: object; bar?: number }>>;

/** How long the device waits in synchronous and in asynchronous rounds. */
export function waiting(surroundings: Surroundings, rounds: number, device: WaitingDevice): Promise<Measure[]> {
  return compared(surroundings, rounds, device, {
    synchronous: { config: {} },
    asynchronous: { config: { asynchronous: {} }, bar: WAITING_BAR },
  });
}

/** Bytes of the fake device's policies in {@link ahead}; their optimizer's state has twice as many. */
const LARGE_POLICY = 256 * 1024 * 1024;

/** What it wins that the next round is sampled while its policy is on its way to the store. */
export async function ahead(surroundings: Surroundings, rounds: number): Promise<Measure[]> {
  const modes = {
    'sampled once it is stored': { config: { execution: { aheadBytes: null } } },
    'sampled ahead': { config: {} },
  };
  const measures = await compared(surroundings, rounds, 'fake', modes, LARGE_POLICY);
  const [waits, samples] = measures.filter(({ unit }) => unit === 's').map(({ value }) => value) as [number, number];
  return [
    ...measures,
    {
      ...{
        name: 'a round that is sampled ahead, to one that is not',
        value: samples / waits,
        unit: '',
        bar: 1,
        at: 'most',
      },
      note: `policies of ${LARGE_POLICY / 2 ** 20} MiB, with three times as much to store`,
    },
  ];
}

/** Measures of `rounds` rounds in each mode, one after the other on the same worker. */
async function compared(
  { client, store, environment, home }: Surroundings,
  rounds: number,
  name: WaitingDevice,
  modes: Modes,
  policyBytes?: number,
): Promise<Measure[]> {
  const device = DEVICES[name];
  const folder = mkdtempSync(join(home, 'waiting-'));
  const model = join(folder, 'policy');
  device.model(model, policyBytes);
  const questions = join(folder, 'questions.jsonl');
  const row = (index: number): FilteredQuestionRow => ({
    id: `q-${index}`,
    seedId: `s-${index}`,
    source: 'bench',
    question: `Return n, in way ${index}.`,
    entryPoint: 'answer',
    reference: '',
    split: 'train',
    tests: ['assert answer(1) == 1', 'assert answer(2) == 2'],
  });
  writeFileSync(
    questions,
    Array.from({ length: device.questions }, (_, index) => `${JSON.stringify(row(index))}\n`).join(''),
  );
  const logs = join(environment['ACECODER_HOME']!, 'logs');
  const worked = (): RoundStep[] =>
    readdirSync(logs)
      .filter((name) => name.startsWith('runtime'))
      .flatMap((name) => readFileSync(join(logs, name), 'utf8').split('\n'))
      .filter((line) => line.startsWith('{"op"'))
      .map((line) => JSON.parse(line) as { op: RoundStep['step']; from: number; to: number })
      .map(({ op, from, to }) => ({ step: op, from, to }));

  const queue = basename(folder);
  const workers = startWorker(queue, {
    ...environment,
    ACECODER_SANDBOX_PYTHON: environment['ACECODER_PYTHON']!,
    ACECODER_PYTHON: fileURLToPath(new URL(`../fixtures/${device.runtime}`, import.meta.url)),
    // The script's own first line looks for its interpreter there.
    PATH: `${dirname(venvPython())}${delimiter}${environment['PATH'] ?? ''}`,
  });
  try {
    const measures: Measure[] = [];
    // Another seed gives other programs: equal ones would have their verdicts already.
    for (const [seed, [mode, { config: more, bar }]] of Object.entries(modes).entries()) {
      const before = worked().length;
      const config = {
        ...device.config,
        rounds,
        promptsPerRound: device.questions,
        samplesPerPrompt: device.samples,
        limits: { cpuSecondsPerTest: 2, cpuSecondsPerProgram: 4 },
        seed: seed + 1,
        ...more,
      };
      const result = (await client.workflow.execute('reinforcement', {
        taskQueue: queue,
        workflowId: `waiting-${seed}-${Date.now()}`,
        args: [
          {
            inputs: {
              questions: { kind: 'filteredQuestions', path: questions },
              policy: { kind: 'folder', path: model },
            },
            config,
          },
        ],
      })) as StageResult;
      const onDevice = worked().slice(before);
      const own = deviceWaiting([onDevice]);
      const policies = [...(await roundsOf(store, result.ref)).values()];
      const steps = timeLine(policies, await manifestsOfRounds(policies, (ref) => store.manifest(ref)));
      const judging = steps
        .flat()
        .filter(({ step }) => step === 'judging')
        .map(({ from, to }) => to - from);
      measures.push(
        {
          name: `${mode}: waiting of the device`,
          value: own,
          unit: '',
          ...(bar === undefined ? {} : { bar, at: 'most' }),
          note:
            `${name} device, ${rounds} rounds; by its artifacts ${deviceWaiting(steps).toFixed(3)}; ` + gaps(onDevice),
        },
        {
          name: `${mode}: seconds a round`,
          value: Math.max(...steps.flat().map(({ to }) => to)) / rounds,
          unit: 's',
          note: `programs ran ${(sum(judging) / judging.length).toFixed(1)} s per round`,
        },
      );
    }
    return measures;
  } finally {
    await workers.stop();
  }
}

/** Mean time between two steps of the device, by what they are. */
const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

function gaps(steps: readonly RoundStep[]): string {
  const seconds = new Map<string, number[]>();
  for (const [at, { step, from }] of steps.entries()) {
    const before = steps[at - 1];
    if (!before) continue;
    const name = `${before.step} to ${step}`;
    seconds.set(name, [...(seconds.get(name) ?? []), from - before.to]);
  }
  return [...seconds]
    .map(
      ([name, all]) =>
        `${all.length} times ${name} ${(all.reduce((sum, each) => sum + each, 0) / all.length).toFixed(2)} s`,
    )
    .join(', ');
}
