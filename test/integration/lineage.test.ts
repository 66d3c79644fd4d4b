/** A fork at a round, and traces of every figure, on real servers and the micro experiment. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { WorkflowNotFoundError, type WorkflowHandle } from '@temporalio/client';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import { named } from '../../activities/lineage/target.js';
import { Tracer, type Step } from '../../activities/lineage/trace.js';
import {
  MESSAGES,
  Summary,
  type ArtifactRef,
  type ExperimentStatus,
  type Frontier,
  type StageName,
  type StageResult,
} from '../../workflows/contract/index.js';
import type { SweepResult } from '../../workflows/sweep.js';
import {
  artifactStore,
  failureOf,
  queryOf,
  startWorkflow,
  statusWhere,
  sweepPruned,
  temporalClient,
  updateOf,
} from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';

interface Result {
  report: ArtifactRef;
  html: string;
  summary: string;
  stages: { name: StageName; artifact: ArtifactRef; reused: boolean }[];
  frontier?: Frontier;
}

const summaryOf = ({ summary }: Result): Summary => Summary.parse(JSON.parse(readFileSync(summary, 'utf8')));
const artifact = ({ stages }: Result, stage: StageName): ArtifactRef =>
  stages.find(({ name }) => name === stage)!.artifact;

let base: WorkflowHandle;
let made: Result;
beforeAll(async () => {
  base = await startWorkflow('experiment', microExperiment('lineage', inject('seeds'), inject('model')));
  made = (await base.result()) as Result;
}, 600_000);

const fork = (from: string, patch: object, of = base.workflowId): object => ({
  name: 'fork',
  fork: { of, from, patch },
});
const heavier = { stages: { reinforcement: { reward: { rewardModelWeight: 0.5 } } } };

describe('a fork at a round with another reward weight', { timeout: 600_000 }, () => {
  let handle: WorkflowHandle;
  let forked: Result;
  beforeAll(async () => {
    handle = await startWorkflow('experiment', fork('reinforcement.round.2', heavier));
    forked = (await handle.result()) as Result;
  }, 600_000);

  it('reuses every earlier stage, all of the earlier round, and rollouts and verdicts of that round', () => {
    const { stages, differences } = forked.frontier!;
    expect(differences).toEqual([{ field: 'stages.reinforcement.reward.rewardModelWeight', was: 0.2, is: 0.5 }]);
    expect(stages.filter(({ reused }) => reused).map(({ name }) => name)).toEqual(
      made.stages.map(({ name }) => name).filter((name) => name !== 'reinforcement' && name !== 'evaluation'),
    );
    const { steps, because } = stages.find(({ name }) => name === 'reinforcement')!;
    const all = { reused: 2, made: 0 };
    const half = { reused: 1, made: 1, madeFrom: 2 };
    expect(steps).toEqual({ plan: all, rollouts: all, judge: all, score: all, reward: half, update: half });
    expect(because).toEqual(['stages.reinforcement.reward.rewardModelWeight']);
    expect(stages.find(({ name }) => name === 'evaluation')?.because).toEqual(['reinforcement']);
  });

  it('has the earlier policy under its key, and the same rollouts in the round of the fork', async () => {
    const store = artifactStore();
    const [was, is] = await Promise.all(
      [made, forked].map((result) => roundsOf(store, artifact(result, 'reinforcement'))),
    );
    expect(is!.get(1)).toEqual(was!.get(1));
    expect(is!.get(2)?.key).not.toBe(was!.get(2)?.key);
    const inputs = await Promise.all([was!, is!].map(async (rounds) => (await store.manifest(rounds.get(2)!)).inputs));
    expect(inputs[1]!['rollouts']).toEqual(inputs[0]!['rollouts']);
    expect(inputs[1]!['rewards']).not.toEqual(inputs[0]!['rewards']);
  });

  it('starts no stage that it takes over, and tells the frontier in its status and summary', async () => {
    const { workflow } = await temporalClient();
    await expect(workflow.getHandle(`${handle.workflowId}/sampling`).describe()).rejects.toThrow(WorkflowNotFoundError);
    expect((await queryOf<ExperimentStatus>(handle, 'status')).frontier).toEqual(forked.frontier);
    expect(summaryOf(forked).fork).toEqual(forked.frontier);
  });

  it('is reported with its frontier, at its end and by the command', async () => {
    const target = mkdtempSync(join(tmpdir(), 'fork-report-'));
    const page = (path: string): string => readFileSync(path, 'utf8').replaceAll(/<[^>]*>/g, ' ');
    await command('report', handle.workflowId, target);
    for (const path of [forked.html, join(target, 'report.html')])
      expect(page(path)).toMatch(
        /of\s+\S+\s+from reinforcement\.round\.2; reused: synthesis, .*; made again: reinforcement, evaluation\./,
      );
    rmSync(target, { recursive: true });
  });

  it('can be forked itself, by the key of its report', async () => {
    const again = await startWorkflow(
      'experiment',
      fork('evaluation', { stages: { evaluation: { samples: 3, bestOf: [2] } } }, forked.report.key),
    );
    const { frontier, ...result } = (await again.result()) as Result;
    expect(frontier?.of).toBe(handle.workflowId);
    expect(artifact(result, 'reinforcement')).toEqual(artifact(forked, 'reinforcement'));
    expect(frontier?.stages.filter(({ reused }) => !reused).map(({ name }) => name)).toEqual(['evaluation']);
  });
});

describe('a fork without RL', { timeout: 600_000 }, () => {
  it('evaluates what it has, and reuses all before it', async () => {
    const handle = await startWorkflow('experiment', fork('evaluation', { stages: { reinforcement: null } }));
    const result = (await handle.result()) as Result;
    expect(result.stages.map(({ name }) => name)).toEqual(
      made.stages.map(({ name }) => name).filter((name) => name !== 'reinforcement'),
    );
    const { evaluation, reinforcement } = summaryOf(result);
    expect(new Set(evaluation.map(({ policy }) => policy))).toEqual(new Set(['initial', 'fineTuned']));
    expect(reinforcement.rounds).toEqual([]);
    const { workflow } = await temporalClient();
    const rl = workflow.getHandle(`${handle.workflowId}/reinforcement`).describe();
    await expect(rl).rejects.toThrow(WorkflowNotFoundError);
  });
});

describe('a fork of an experiment that is parked', { timeout: 600_000 }, () => {
  it('asks its workflow, and goes on with what is done', async () => {
    const micro = microExperiment('parked', inject('seeds'), inject('model')) as { stages: Record<string, object> };
    const reinforcement = { ...micro.stages['reinforcement'], promptsPerRound: 9999 };
    const input = { ...micro, onFailure: 'park', stages: { ...micro.stages, reinforcement } };
    const parked = await startWorkflow('experiment', input);
    await statusWhere(parked, ({ state }) => state === 'parked');
    const patch = { stages: { reinforcement: { promptsPerRound: 4 } } };
    const { type, message } = await failureOf(
      await startWorkflow(
        'experiment',
        fork('evaluation', { stages: { evaluation: { samples: 5 } } }, parked.workflowId),
      ),
    );
    expect([type, message]).toEqual(['InvalidExperiment', expect.stringContaining('has not done reinforcement')]);
    const handle = await startWorkflow('experiment', fork('reinforcement', patch, parked.workflowId));
    const { frontier, ...result } = (await handle.result()) as Result;
    await updateOf(parked, MESSAGES.abandon, { reason: 'tested' });
    expect(frontier?.differences).toEqual([{ field: 'stages.reinforcement.promptsPerRound', was: 9999, is: 4 }]);
    // The patched settings are those of the first experiment, whose results the store has.
    expect(artifact(result, 'evaluation')).toEqual(artifact(made, 'evaluation'));
    expect(frontier?.stages.filter(({ reused }) => !reused)).toEqual([]);
  });
});

describe('settings that change from a round on', { timeout: 600_000 }, () => {
  it('leave the rounds before as they are, and make their pruned policies again', async () => {
    const store = artifactStore();
    const inputs = {
      questions: artifact(made, 'filtering'),
      policy: (await store.manifest([...(await roundsOf(store, artifact(made, 'reinforcement'))).values()][0]!)).inputs[
        'policy'
      ],
    };
    const { stages } = microExperiment('x', '', '') as { stages: Record<string, object> };
    const config = { ...stages['reinforcement'], rounds: 3, reward: {}, execution: { keepRounds: 1 } };
    const first = await startWorkflow('reinforcement', { inputs, config });
    const before = await roundsOf(store, ((await first.result()) as StageResult).ref);
    expect(await sweepPruned(store, [...before.values()])).toBeGreaterThan(0);
    const changes = [{ fromRound: 3, settings: { reward: { testsWeight: 0.5 } } }];
    const second = await startWorkflow('reinforcement', { inputs, config: { ...config, changes } });
    const { ref, steps } = (await second.result()) as StageResult;
    const after = await roundsOf(store, ref);
    expect([after.get(1), after.get(2)]).toEqual([before.get(1), before.get(2)]);
    expect(after.get(3)).not.toEqual(before.get(3));
    const all = { reused: 3, made: 0 };
    const last = { reused: 2, made: 1, madeFrom: 3 };
    expect(steps).toEqual({ plan: all, rollouts: all, judge: all, reward: last, update: last });
  });
});

describe('a fork that cannot be', { timeout: 120_000 }, () => {
  it.each<[string, () => object, RegExp]>([
    ['of an unknown id', () => fork('evaluation', heavier, 'no-such-run'), /neither the store nor the Temporal server/],
    ['of another artifact', () => fork('evaluation', heavier, artifact(made, 'preferences').key), /is of kind 'pairs'/],
    ['that changes nothing', () => fork('reinforcement.round.2', { stages: {} }), /changes no result/],
    [
      'that patches an earlier stage',
      () => fork('evaluation', heavier),
      /decides reinforcement, which is before evaluation; fork from 'reinforcement'/,
    ],
  ])('%s ends at once with one mistake', async (_, input, sentence) => {
    const { type, message } = await failureOf(await startWorkflow('experiment', input()));
    expect(type).toBe('InvalidExperiment');
    expect(message).toMatch(/^the input of experiment has 1 mistake\n/);
    expect(message).toMatch(sentence);
  });
});

describe('a sweep', { timeout: 600_000 }, () => {
  const start = (grid: object): Promise<WorkflowHandle> =>
    startWorkflow('sweep', { name: 'cell', base: microExperiment('x', inject('seeds'), inject('model')), grid });

  it('runs every cell, and each stage that cells share once', async () => {
    const sweep = await start({
      'stages.reinforcement.reward.rewardModelWeight': [0.2, 0.5],
      'stages.evaluation.samples': [4, 5],
    });
    const { rows } = (await sweep.result()) as SweepResult;
    expect(rows.map(({ name, state, forkOf, from }) => [name, state, forkOf, from])).toEqual([
      ['cell-1', 'done', undefined, undefined],
      ['cell-2', 'done', 'cell-1', 'evaluation'],
      ['cell-3', 'done', 'cell-1', 'reinforcement'],
      ['cell-4', 'done', 'cell-3', 'evaluation'],
    ]);
    const policies = await Promise.all(
      rows.map(async ({ report }) => (await artifactStore().manifest(report!)).inputs['reinforcement']),
    );
    expect([policies[1], policies[3]]).toEqual([policies[0], policies[2]]);
    expect(policies[2]).not.toEqual(policies[0]);
    expect(rows.map(({ passAt1 }) => Object.keys(passAt1!))).toEqual(rows.map(() => Object.keys(rows[0]!.passAt1!)));
    const { workflow } = await temporalClient();
    for (const { workflowId, forkOf, from } of rows.filter((row) => row.forkOf !== undefined)) {
      const ran = workflow.getHandle(`${workflowId}/reinforcement`).describe();
      if (from === 'evaluation') await expect(ran, forkOf).rejects.toThrow(WorkflowNotFoundError);
      else expect((await ran).status.name).toBe('COMPLETED');
    }
  });

  it('with a wrong value is refused before a cell runs', async () => {
    const { type, message } = await failureOf(await start({ 'stages.rewardModel.epochs': [1, -1] }));
    expect(type).toBe('InvalidExperiment');
    expect(message).toMatch(/^the input of sweep has 1 mistake\ngrid\.stages\.rewardModel\.epochs: /);
  });
});

describe('a trace', { timeout: 120_000 }, () => {
  const flat = (steps: readonly Step[]): Step[] => steps.flatMap((step) => [step, ...flat(step.next)]);

  it('of every figure of the report leads to a seed, each step by its key', async () => {
    const store = artifactStore();
    const { experiment } = await named(store, new Tracer(store, { rows: 1, depth: 1 }), { what: made.report.key });
    const { figures } = experiment!;
    const page = JSON.parse(readFileSync(join(dirname(made.summary), 'figures.json'), 'utf8')) as { id: string }[];
    expect(figures.map(({ id }) => id)).toEqual(expect.arrayContaining(page.map(({ id }) => id)));
    const targets = figures.map(({ id, artifact: key, rows }) => ({ id, key, where: rows }));
    // Figures of the same rows have the same trace.
    const distinct = new Map(targets.map(({ id, ...target }) => [JSON.stringify(target), { id, target }]));
    for (const { id, target } of distinct.values()) {
      const steps = flat(await new Tracer(store, { rows: 1, depth: Infinity }).back(target));
      expect(steps.filter(({ kind, row }) => kind === 'seeds' && row !== undefined).length, id).toBeGreaterThan(0);
      for (const { artifact: key, code } of steps) {
        expect(await store.findManifest(key), key).toBeDefined();
        expect(code.version, `${code.stage} of ${id}`).not.toBeNull();
      }
    }
  });

  it('is what the command prints, back and forward', async () => {
    const of = (await base.describe()).workflowId;
    const back = await trace(of, 'evaluation.heldOut.trained.greedy');
    expect(back).toMatch(/^evaluation\.heldOut\.trained\.greedy = [\d.]+, of /);
    for (const what of [
      'policy of round 2',
      'reward of round 2',
      'verdict of round 2',
      'rollout of round 2',
      'test case',
      'seed',
    ])
      expect(back).toContain(what);
    const seed = /seed (\S+):/.exec(back)![1]!;
    const forward = await trace(of, seed, '--forward');
    for (const what of ['question', 'policy of round 1', 'evaluation sample']) expect(forward).toContain(what);
    expect(forward).toMatch(/It looked at \d+ manifests\.$/m);
    const question = /question (q-[0-9a-f]{20}): train/.exec(back)![1]!;
    expect(await trace(of, `${question}#1`, '--forward')).toMatch(/program.*test 1: \d+ /);
  });

  it.each([
    [['no-such-run'], 'the store holds no result of workflow "no-such-run"'],
    [['evaluation.heldOut.trained.greedy'], 'which experiment? This store holds results of '],
    [['artifacts/pairs/none.json'], 'this store holds no artifact artifacts/pairs/none.json'],
    [['evaluation.none', '--experiment', 'BASE'], 'has no figure evaluation.none; it has evaluation.heldOut.'],
  ])('of %j says what is wrong in one sentence', async (words, sentence) => {
    await expect(trace(...words.map((word) => (word === 'BASE' ? base.workflowId : word)))).rejects.toThrow(sentence);
  });
});

const trace = (...words: string[]): Promise<string> => command('trace', ...words);

/** What a command prints. @throws Error with what it says where it fails. */
async function command(name: 'report' | 'trace', ...words: string[]): Promise<string> {
  const script = fileURLToPath(new URL(`../../infra/commands/${name}.ts`, import.meta.url));
  const child = spawn(process.execPath, ['--import', 'tsx', script, ...words], {
    env: { ...process.env, ...inject('environment') },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const [[code], out, error] = await Promise.all([once(child, 'exit'), text(child.stdout), text(child.stderr)]);
  if (code !== 0) throw new Error(error);
  return out;
}
