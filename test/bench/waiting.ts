/**
 * How long a device waits in RL rounds, synchronous and asynchronous: a fake device, everything else real.
 *
 * A round samples for 6 s, runs programs for about 4 s on two cores, and trains for 6 s; the device's own log says when it
 * worked.
 */
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { deviceWaiting, manifestsOfRounds, timeLine } from '../../activities/reinforcement/timeline.js';
import type { FilteredQuestionRow, RoundStep, StageResult } from '../../workflows/contract/index.js';
import { workerProcess } from '../fixtures/harness.js';
import type { Surroundings } from './surroundings.js';
import type { Measure } from './table.js';

const QUESTIONS = 8;
const SAMPLES = 4;
const WAITING_BAR = 0.05;

/** Measures of `rounds` rounds in each mode, one after the other on the same worker. */
export async function waiting({ client, store, environment, home }: Surroundings, rounds: number): Promise<Measure[]> {
  const model = join(home, 'fake-model');
  mkdirSync(model, { recursive: true });
  writeFileSync(join(model, 'config.json'), '{"fake": true}');
  const questions = join(home, 'waiting-questions.jsonl');
  const row = (index: number): FilteredQuestionRow => ({
    id: `q-${index}`, seedId: `s-${index}`, source: 'bench', question: `Return n, in way ${index}.`, entryPoint: 'answer', reference: '', split: 'train',
    tests: ['assert answer(1) == 1', 'assert answer(2) == 2'],
  });
  writeFileSync(questions, Array.from({ length: QUESTIONS }, (_, index) => `${JSON.stringify(row(index))}\n`).join(''));
  const logs = join(environment['ACECODER_HOME']!, 'logs');
  const worked = (): RoundStep[] => readdirSync(logs).filter((name) => name.startsWith('runtime')).flatMap((name) => readFileSync(join(logs, name), 'utf8').split('\n'))
    .filter((line) => line.startsWith('{"op"')).map((line) => JSON.parse(line) as { op: RoundStep['step']; from: number; to: number }).map(({ op, from, to }) => ({ step: op, from, to }));

  const queue = 'waiting';
  const workers = workerProcess(queue, {
    ...environment, ACECODER_SANDBOX_PYTHON: environment['ACECODER_PYTHON']!, ACECODER_PYTHON: fileURLToPath(new URL('../fixtures/fake-device.py', import.meta.url)),
  });
  try {
    const measures: Measure[] = [];
    // Another seed gives other programs: equal ones would have their verdicts already.
    for (const mode of ['synchronous', 'asynchronous'] as const) {
      const before = worked().length;
      const config = {
        rounds, promptsPerRound: QUESTIONS, samplesPerPrompt: SAMPLES, limits: { cpuSecondsPerTest: 2, cpuSecondsPerProgram: 4 }, seed: mode === 'synchronous' ? 1 : 2,
        ...(mode === 'asynchronous' ? { asynchronous: {} } : {}),
      };
      const result = await client.workflow.execute('reinforcement', {
        taskQueue: queue, workflowId: `waiting-${mode}-${Date.now()}`,
        args: [{ inputs: { questions: { kind: 'filteredQuestions', path: questions }, policy: { kind: 'folder', path: model } }, config }],
      }) as StageResult;
      const onDevice = worked().slice(before);
      const own = deviceWaiting([onDevice]);
      const steps = timeLine(result.rounds!, await manifestsOfRounds(result.rounds!, (ref) => store.manifest(ref)));
      const judging = steps.flat().filter(({ step }) => step === 'judging').map(({ from, to }) => to - from);
      measures.push(
        { name: `${mode}: waiting of the device`, value: own, unit: '', ...(mode === 'asynchronous' ? { bar: WAITING_BAR, at: 'most' } : {}), note: `${rounds} rounds; by its artifacts ${deviceWaiting(steps).toFixed(3)}; ${gaps(onDevice)}` },
        { name: `${mode}: seconds a round`, value: Math.max(...steps.flat().map(({ to }) => to)) / rounds, unit: 's', note: `programs ran ${(judging.reduce((sum, seconds) => sum + seconds, 0) / judging.length).toFixed(1)} s a round` },
      );
    }
    return measures;
  } finally {
    await workers.stop();
  }
}

/** Mean time between two steps of the device, by what they are. */
function gaps(steps: readonly RoundStep[]): string {
  const seconds = new Map<string, number[]>();
  for (const [at, { step, from }] of steps.entries()) {
    const before = steps[at - 1];
    if (!before) continue;
    const name = `${before.step} to ${step}`;
    seconds.set(name, [...(seconds.get(name) ?? []), from - before.to]);
  }
  return [...seconds].map(([name, all]) => `${all.length} times ${name} ${(all.reduce((sum, each) => sum + each, 0) / all.length).toFixed(2)} s`).join(', ');
}
