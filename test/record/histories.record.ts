/** Histories of every workflow in its main forms, as fixtures of the replay test. */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { WorkflowHandle } from '@temporalio/client';
import { expect, inject, it } from 'vitest';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import { runTemporalCli } from '../../infra/stack/embedded-stack.js';
import { home, root } from '../../infra/setup/paths.mjs';
import { STAGES, type ArtifactRef, type StageName } from '../../workflows/contract/index.js';
import { fakeEndpoint, fakeSeeds } from '../fixtures/fake-endpoint.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { programsFile } from '../fixtures/programs.js';
import { artifactStore, startWorkflow, statusWhere, sweepPruned } from '../fixtures/harness.js';
import { NEXT } from '../replay/histories.js';

type Micro = Record<string, unknown> & { stages: Record<StageName, Record<string, unknown>> };

const micro = (): Micro => {
  const { stages, ...experiment } = microExperiment('micro', inject('seeds'), inject('model'));
  const hardening = { maximumTests: 4, inputs: 100, mutants: 20, shardSize: 8 };
  const rewardModelCard = { split: 'train', questions: 6, samples: 4, mutants: 2, shardSize: 3 };
  const { reinforcement, ...others } = stages as Record<string, object>;
  // Nothing of this model is good enough for a gate that asks for something.
  const gated = { ...reinforcement, rewardModelGate: { accuracy: 0, shift: 1000 } };
  return {
    ...experiment,
    stages: { ...others, hardening, rewardModelCard, reinforcement: gated },
    onFailure: 'park',
  } as never;
};

/** What names this machine, and what stands for it; the longer path first. */
const MACHINE: [string, string][] = [
  [inject('stack').home, '/home/user/stack'],
  [home(), '/home/user/.acecoder'],
  [root, '/home/user/acecoder-temporal'],
  [tmpdir(), '/home/user/tmp'],
  [hostname(), 'host'],
];

/**
 * A history without anything that names the machine that it was recorded on; payloads stay, for the replay reads them.
 */
function sanitise(value: unknown, key = ''): unknown {
  if (typeof value === 'string') {
    if (key === 'identity') return 'worker@host';
    if (key === 'stackTrace') return '';
    if (key === 'data')
      return Buffer.from(withoutMachine(Buffer.from(value, 'base64').toString('utf8'))).toString('base64');
    return withoutMachine(value);
  }
  if (Array.isArray(value)) return value.map((item) => sanitise(item));
  if (typeof value === 'object' && value !== null)
    return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, sanitise(member, name)]));
  return value;
}

function withoutMachine(text: string): string {
  // Sticky queues are named by process and host.
  return MACHINE.reduce((replaced, [from, to]) => replaced.replaceAll(from, to), text).replace(
    /^\d+@host-[0-9a-f]+$/,
    '1@host',
  );
}

async function cli(...args: string[]): Promise<string> {
  const { stdout, stderr, code } = await runTemporalCli(inject('stack'), args);
  if (code !== 0) throw new Error(`temporal ${args.join(' ')}: ${stderr}`);
  return stdout;
}

/** Writes the history of a run, the newest one unless told. */
async function record(name: string, workflowId: string, runId?: string): Promise<void> {
  const history = await cli(
    'workflow',
    'show',
    '--workflow-id',
    workflowId,
    ...(runId ? ['--run-id', runId] : []),
    '--output',
    'json',
  );
  writeFileSync(join(NEXT, `${name}.json.gz`), gzipSync(JSON.stringify(sanitise(JSON.parse(history))), { level: 9 }));
}

/** Artifacts of the finished experiment, by stage. */
let artifacts: Record<StageName, ArtifactRef>;

it('an empty folder', () => {
  rmSync(NEXT, { recursive: true, force: true });
  mkdirSync(NEXT, { recursive: true });
});

it('an experiment that is paused, resumed and finishes, and its stages', async () => {
  const handle = await startWorkflow('experiment', micro(), { id: 'micro' });
  await statusWhere(handle, ({ stages }) => stages.some(({ name, progress }) => name === 'sampling' && progress));
  await handle.signal('pause');
  await statusWhere(handle, ({ state }) => state === 'paused');
  await handle.signal('resume');
  const { stages } = (await handle.result()) as { stages: { name: StageName; artifact: ArtifactRef }[] };
  artifacts = Object.fromEntries(stages.map(({ name, artifact }) => [name, artifact])) as never;
  await record('experiment-paused', 'micro');
  for (const stage of STAGES) await record(stage, `micro/${stage}`);
});

it('an experiment that forks another one at a round', async () => {
  const patch = { stages: { reinforcement: { reward: { rewardModelWeight: 0.5 } } } };
  const input = { name: 'forked', fork: { of: 'micro', from: 'reinforcement.round.2', patch } };
  await (await startWorkflow('experiment', input, { id: 'forked' })).result();
  await record('experiment-forked', 'forked');
});

it('a sweep of two cells', async () => {
  const input = { name: 'cells', base: micro(), grid: { 'stages.evaluation.samples': [4, 5] } };
  await (await startWorkflow('sweep', input, { id: 'sweep' })).result();
  await record('sweep', 'sweep');
});

it('an experiment that is reset after its end', async () => {
  const { stages } = await statusWhere(
    await startWorkflow('experiment', micro(), { id: 'reset' }),
    ({ state }) => state === 'done',
  );
  await record('experiment-reused', 'reset');
  await record('preferences-reused', 'reset/preferences');
  const { resetEventId, resetRunId } = stages[4]!;
  // An experiment of this length has gone on as a new run, and the event may be in the one before.
  const run = resetRunId === undefined ? [] : ['--run-id', resetRunId];
  await cli(
    ...['workflow', 'reset', '--workflow-id', 'reset', ...run],
    ...['--event-id', String(resetEventId), '--reason', 'record'],
  );
  await cli('workflow', 'result', '--workflow-id', 'reset');
  await record('experiment-reset', 'reset');
});

it('an experiment that parks and is retried', async () => {
  const experiment = micro();
  experiment.stages.reinforcement = { ...experiment.stages.reinforcement, promptsPerRound: 1000 };
  const handle = await startWorkflow('experiment', experiment, { id: 'parked' });
  await statusWhere(handle, ({ state }) => state === 'parked');
  await record('experiment-parked', 'parked');
  await record('reinforcement-failed', 'parked/reinforcement');
  await handle.executeUpdate('retryStage', {
    args: [
      { stage: 'reinforcement', semantics: { promptsPerRound: 4 }, allowRepeat: true, execution: { microBatch: 4 } },
    ],
  });
  await handle.result();
  await record('experiment-retried', 'parked');
});

it('experiments that are abandoned, cancelled and invalid', async () => {
  const end = async (name: string, work: (handle: WorkflowHandle) => Promise<unknown>): Promise<void> => {
    const handle = await startWorkflow('experiment', micro(), { id: name });
    await handle.signal('pause');
    await statusWhere(handle, ({ state }) => state === 'paused');
    await work(handle);
    await expect(handle.result()).rejects.toThrow();
    await record(`experiment-${name}`, name);
  };
  await end('abandoned', (handle) => handle.executeUpdate('abandon', { args: [{ reason: 'record' }] }));
  await end('cancelled', (handle) => handle.cancel());
  await expect((await startWorkflow('experiment', { name: 'invalid' }, { id: 'invalid' })).result()).rejects.toThrow();
  await record('experiment-invalid', 'invalid');
});

it('a training that is paused', async () => {
  const { inputs } = await artifactStore().manifest(artifacts.rewardModel);
  const handle = await startWorkflow(
    'rewardModel',
    {
      inputs: { pairs: artifacts.preferences, backbone: inputs['backbone'] },
      config: { ...micro().stages.rewardModel, salt: 'paused' },
    },
    { id: 'training' },
  );
  await expect
    .poll(
      async () =>
        (await handle.describe()).raw.pendingActivities?.some(({ heartbeatDetails }) => heartbeatDetails) ?? false,
      { timeout: 60_000 },
    )
    .toBe(true);
  await handle.signal('pause');
  await expect
    .poll(async () => (await handle.describe()).raw.pendingActivities?.length ?? 0, { timeout: 60_000 })
    .toBe(0);
  await handle.signal('resume');
  await handle.result();
  await record('rewardModel-paused', 'training');
});

it('RL rounds of which one was pruned and is made again', async () => {
  const { inputs } = await artifactStore().manifest(artifacts.reinforcement);
  const { rewardModelGate: _gate, ...reinforcement } = micro().stages.reinforcement;
  const start = (id: string, rounds: number) =>
    startWorkflow(
      'reinforcement',
      {
        inputs: { questions: artifacts.filtering, policy: inputs['reference'] },
        config: { ...reinforcement, reward: {}, seed: 7, rounds, execution: { keepRounds: 1 } },
      },
      { id },
    );
  const { ref } = (await (await start('longer', 3)).result()) as { ref: ArtifactRef };
  const rounds = [...(await roundsOf(artifactStore(), ref)).values()];
  await sweepPruned(artifactStore(), rounds.slice(0, -1));
  await (await start('shorter', 1)).result();
  await record('reinforcement-pruned', 'shorter');
});

it('RL rounds that draw groups without signal again', async () => {
  const { inputs } = await artifactStore().manifest(artifacts.reinforcement);
  const { filtering: questions, sampling: programs } = artifacts;
  const { rewardModelGate: _gate, ...reinforcement } = micro().stages.reinforcement;
  const config = {
    ...reinforcement,
    ...{ promptsPerRound: 3, samplesPerPrompt: 2, seed: 43, reward: {} },
    curriculum: { redraw: { budget: 2, draws: 2 } },
  };
  const handle = await startWorkflow(
    'reinforcement',
    { inputs: { questions, programs, policy: inputs['reference'] }, config },
    { id: 'redrawn' },
  );
  await handle.result();
  await record('reinforcement-redrawn', 'redrawn');
});

it('RL rounds with repair turns', async () => {
  const { inputs } = await artifactStore().manifest(artifacts.reinforcement);
  const { rewardModelGate: _gate, ...reinforcement } = micro().stages.reinforcement;
  const handle = await startWorkflow(
    'reinforcement',
    {
      inputs: { questions: artifacts.filtering, policy: inputs['reference'] },
      config: { ...reinforcement, rounds: 1, seed: 47, reward: {}, repair: { turns: 3 } },
    },
    { id: 'repaired' },
  );
  await handle.result();
  await record('reinforcement-repaired', 'repaired');
});

it('RL rounds that are sampled while their policies are on their way to the store', async () => {
  const { inputs } = await artifactStore().manifest(artifacts.reinforcement);
  const { rewardModelGate: _gate, ...reinforcement } = micro().stages.reinforcement;
  const handle = await startWorkflow(
    'reinforcement',
    {
      inputs: { questions: artifacts.filtering, policy: inputs['reference'] },
      config: { ...reinforcement, seed: 53, reward: {}, execution: { aheadBytes: 1 } },
    },
    { id: 'ahead' },
  );
  await handle.result();
  await record('reinforcement-ahead', 'ahead');
});

it('a stage that continues as new', async () => {
  const handle = await startWorkflow(
    'synthesis',
    {
      inputs: { seeds: { kind: 'seeds', path: inject('seeds') } },
      config: { decontaminate: [], shardSize: 1, execution: { window: 2 } },
    },
    { id: 'continued' },
  );
  const first = (await handle.describe()).runId;
  await handle.result();
  expect((await handle.describe()).runId, 'the run that the stage ended in').not.toBe(first);
  await record('synthesis-continued', 'continued', first);
  await record('synthesis-continuation', 'continued');
});

it('an export of pairs', async () => {
  const pairs = (await (
    await startWorkflow('preferences', {
      inputs: { programs: { kind: 'programs', path: programsFile(inject('stack').home) } },
      config: {},
    })
  ).result()) as { ref: unknown };
  await (
    await startWorkflow(
      'datasetExport',
      { format: 'aceCodePair300K', name: 'micro', inputs: { pairs: pairs.ref } },
      { id: 'datasetExport' },
    )
  ).result();
  await record('datasetExport', 'datasetExport');
});

it('a re-verification under other limits', async () => {
  const { sampling: programs, reinforcement: policy } = artifacts;
  const limits = { cpuSecondsPerTest: 2, cpuSecondsPerProgram: 6 };
  await (await startWorkflow('reverify', { inputs: { programs, policy }, limits }, { id: 'reverify' })).result();
  await record('reverify', 'reverify');
});

it('a comparison of an experiment with the evaluation that it reused', async () => {
  await (await startWorkflow('compare', { of: ['micro', artifacts.evaluation.key] }, { id: 'compare' })).result();
  await record('compare', 'compare');
});

it('a teacher behind an endpoint, whose budget is too small at first', async () => {
  const endpoint = await fakeEndpoint();
  const seeds = join(inject('stack').home, 'fake-seeds.jsonl');
  writeFileSync(seeds, fakeSeeds(12));
  const start = (id: string, budgetUsd: number) =>
    startWorkflow(
      'synthesis',
      {
        inputs: { seeds: { kind: 'seeds', path: seeds } },
        config: {
          teacher: { kind: 'openai', model: 'fake' },
          decontaminate: [],
          shardSize: 4,
          execution: {
            window: 2,
            budgetUsd,
            endpoint: { baseUrl: endpoint.url, keyVariable: null, prices: { input: 1, output: 2 } },
          },
        },
      },
      { id },
    );
  await expect((await start('overBudget', 0.025)).result()).rejects.toThrow();
  await record('synthesis-overBudget', 'overBudget');
  await (await start('paid', 1)).result();
  await record('synthesis-paid', 'paid');
  await endpoint.close();
});

it('a preview', async () => {
  const experiment = microExperiment('micro', inject('seeds'), inject('model'));
  await (await startWorkflow('preview', experiment, { id: 'preview' })).result();
  await record('preview', 'preview');
});

it('refreshes of a data set, and garbage collection', async () => {
  for (const name of ['datasetRefresh', 'datasetRefresh-unchanged']) {
    await (
      await startWorkflow(
        'datasetRefresh',
        { name: 'micro', seeds: { kind: 'seeds', path: inject('seeds') }, synthesis: { decontaminate: [] } },
        { id: name },
      )
    ).result();
    await record(name, name);
  }
  await (await startWorkflow('garbageCollection', {}, { id: 'garbageCollection' })).result();
  await record('garbageCollection', 'garbageCollection');
});
