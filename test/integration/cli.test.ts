/** Everything an experiment needs, by the real Temporal CLI. What a person copies from details runs as it stands. */
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { delimiter, dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { Client as ObjectStore } from 'minio';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { objectKeys } from '../../activities/artifacts/keys.js';
import { stackEnvironment } from '../../infra/stack/embedded-stack.js';
import { temporal as temporalPath } from '../../infra/setup/paths.mjs';
import {
  type ArtifactRef,
  type ExperimentStatus,
  type StageName,
  type StageResult,
  type StageStatus,
} from '../../workflows/contract/index.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { artifactStore, SHARED_QUEUE, temporalCli, workerProcess } from '../fixtures/harness.js';
import { HeldRuntime } from '../fixtures/held-runtime.js';
import { until } from '../fixtures/until.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-cli-'));

/** The queue of this file's worker, whose runtime the tests hold: an experiment ends no sooner than they are ready. */
const QUEUE = 'by-cli';
const runtime = new HeldRuntime(join(folder, 'runtime'));
let worker: ReturnType<typeof workerProcess>;
beforeAll(() => {
  worker = workerProcess(QUEUE, { ...inject('environment'), ACECODER_PYTHON: runtime.python });
});
afterAll(async () => {
  await worker.stop();
  rmSync(folder, { recursive: true, force: true });
});

const temporalJson = async <T>(...args: string[]): Promise<T> =>
  JSON.parse(await temporalCli(...args, '--output', 'json')) as T;

/** Runs a command as a person types it: in a shell that finds `temporal` on its path. */
async function shell(command: string): Promise<{ output: string; code: number }> {
  const { PATH, ...environment } = stackEnvironment(inject('stack')) as NodeJS.ProcessEnv;
  const child = spawn('bash', ['-c', `${command} 2>&1`], {
    env: { ...environment, PATH: [dirname(temporalPath()), PATH].join(delimiter) },
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [output] = await Promise.all([text(child.stdout), once(child, 'close')]);
  return { output, code: child.exitCode ?? 1 };
}

async function run(command: string): Promise<string> {
  const { output, code } = await shell(command);
  if (code !== 0) throw new Error(`${command}: exit code ${code}\n${output}`);
  return output;
}

type Micro = Record<string, unknown> & { stages: Record<StageName, Record<string, unknown>> };

/** Arguments that start a micro experiment from a file, under its name as workflow id, on the worker of this file. */
function startOf(name: string, change: (experiment: Micro) => void = () => undefined): string[] {
  const experiment = {
    ...microExperiment(name, inject('seeds'), inject('model')),
    onFailure: 'park',
  } as unknown as Micro;
  change(experiment);
  const file = join(folder, `${name}.json`);
  writeFileSync(file, JSON.stringify(experiment));
  return ['--type', 'experiment', '--task-queue', QUEUE, '--workflow-id', name, '--input-file', file];
}

async function start(...experiment: Parameters<typeof startOf>): Promise<void> {
  await temporalCli('workflow', 'start', ...startOf(...experiment));
}

async function status(workflowId: string): Promise<ExperimentStatus> {
  const {
    queryResult: [result],
  } = await temporalJson<{ queryResult: [ExperimentStatus] }>(
    'workflow',
    'query',
    '--workflow-id',
    workflowId,
    '--type',
    'status',
  );
  return result;
}

const stageOf = ({ stages }: ExperimentStatus, name: StageName): StageStatus =>
  stages.find((stage) => stage.name === name)!;

const details = async (workflowId: string): Promise<string> =>
  (
    await temporalJson<{ queryResult: [{ currentDetails: string }] }>(
      'workflow',
      'metadata',
      '--workflow-id',
      workflowId,
    )
  ).queryResult[0].currentDetails;

const resetCommand = async (workflowId: string, stage: StageName): Promise<string> =>
  new RegExp(`^- ${stage}: \`(.*)\`$`, 'm').exec(await details(workflowId))![1]!;

const listed = async (query: string): Promise<{ workflowId: string; status: string }[]> =>
  (
    await temporalJson<{ execution: { workflowId: string }; status: string }[]>('workflow', 'list', '--query', query)
  ).map(({ execution: { workflowId }, status: state }) => ({
    workflowId,
    status: state.replace('WORKFLOW_EXECUTION_STATUS_', ''),
  }));

/** How the runs of a stage of an experiment ended, or that one runs, newest first. The list is behind the runs. */
const runsOf = async (workflowId: string, stage: StageName): Promise<string[]> =>
  (await listed(`WorkflowId = '${workflowId}/${stage}'`)).map(({ status: state }) => state);

async function described(workflowId: string): Promise<string> {
  const { workflowExecutionInfo } = await temporalJson<{ workflowExecutionInfo: { status: string } }>(
    'workflow',
    'describe',
    '--workflow-id',
    workflowId,
  );
  return workflowExecutionInfo.status.replace('WORKFLOW_EXECUTION_STATUS_', '');
}

/** What the newest run of a workflow was started with. */
async function inputOf(workflowId: string): Promise<unknown> {
  const {
    events: [started],
  } = await temporalJson<{
    events: { workflowExecutionStartedEventAttributes: { input: { payloads: { data: string }[] } } }[];
  }>('workflow', 'show', '--workflow-id', workflowId);
  return JSON.parse(
    Buffer.from(started!.workflowExecutionStartedEventAttributes.input.payloads[0]!.data, 'base64').toString(),
  );
}

async function finished(workflowId: string): Promise<Record<StageName, ArtifactRef>> {
  await until(
    () => described(workflowId),
    (state) => state !== 'RUNNING',
  );
  const { status: state, result } = await temporalJson<{
    status: string;
    result: { stages: { name: StageName; artifact: ArtifactRef }[] };
  }>('workflow', 'result', '--workflow-id', workflowId);
  expect(state).toBe('COMPLETED');
  return Object.fromEntries(result.stages.map(({ name, artifact }) => [name, artifact])) as Record<
    StageName,
    ArtifactRef
  >;
}

/** `npm run follow` on the run's stack, with its output and exit code. */
async function follow(...args: string[]): Promise<{ output: string; code: number }> {
  const script = fileURLToPath(new URL('../../infra/commands/follow.ts', import.meta.url));
  return shell(`${process.execPath} --import tsx ${script} ${args.join(' ')}`);
}

/** Replaces a blob by other bytes, in the store and out of the worker's cache; the returned function puts it back. */
async function corrupt(sha256: string): Promise<() => Promise<void>> {
  const { home, s3 } = inject('stack');
  const { hostname, port } = new URL(s3.endpoint);
  const store = new ObjectStore({
    endPoint: hostname,
    port: Number(port),
    useSSL: false,
    region: 'us-east-1',
    accessKey: s3.accessKey,
    secretKey: s3.secretKey,
  });
  const key = objectKeys.blob(sha256);
  const chunks: Buffer[] = [];
  for await (const chunk of await store.getObject(s3.bucket, key)) chunks.push(chunk as Buffer);
  await store.putObject(s3.bucket, key, 'not what its name says');
  rmSync(join(home, 'cache', 'blobs', sha256));
  return async () => {
    await store.putObject(s3.bucket, key, Buffer.concat(chunks));
  };
}

describe('an experiment by Temporal CLI', () => {
  const id = 'by-hand';
  let broken: string;
  let restore: () => Promise<void>;
  let artifacts: Record<StageName, ArtifactRef>;

  it('starts from a file, and is found by its search attributes', async () => {
    runtime.hold('sample');
    // A seed of its own makes artifacts of its own: one of them is broken below.
    await start(id, ({ stages }) => {
      stages.synthesis = { ...stages.synthesis, teacher: { kind: 'offline', seed: 7 } };
    });
    await until(
      () => listed(`AceCoderExperiment = '${id}' AND AceCoderState = 'running'`),
      (found) => found.some(({ workflowId }) => workflowId === id),
    );
    expect(await described(id)).toBe('RUNNING');
    expect(await details(id)).toContain(`**${id}**: running`);
  });

  it('pauses by a signal, its stage too, and goes on by another', async () => {
    await until(
      () => status(id),
      (now) => stageOf(now, 'sampling').progress !== undefined,
    );
    await runtime.held('sample');
    await temporalCli('workflow', 'signal', '--workflow-id', id, '--name', 'pause');
    const paused = await until(
      () => status(id),
      ({ state, stages }) => state === 'paused' && stages.some((stage) => stage.state === 'paused'),
    );
    const name = paused.stages.find(({ state }) => state === 'paused')!.name;
    const child = await until(
      () => status(`${id}/${name}`) as unknown as Promise<{ state: string }>,
      ({ state }) => state === 'paused',
    );
    expect(child.state).toBe('paused');
    expect(stageOf(paused, 'reinforcement').state).toBe('waiting');

    const { files } = await artifactStore().manifest(stageOf(paused, 'filtering').artifact!);
    broken = files.find((file) => file.name.startsWith('rows'))!.sha256;
    restore = await corrupt(broken);

    const [, resume] = /To go on:\n\n`(.*)`/.exec(await details(id))!;
    await run(resume!);
    await until(
      () => status(id),
      ({ state }) => state === 'running',
    );
    runtime.release('sample');
  });

  it('parks where a stage fails for good, and says why and what to type', async () => {
    const parked = await until(
      () => status(id),
      ({ state }) => state === 'parked',
    );
    expect(stageOf(parked, 'reinforcement').failure).toMatchObject({
      type: 'ArtifactCorrupt',
      message: expect.stringContaining(broken) as string,
    });
    expect(await details(id)).toContain(`**reinforcement is parked**: ArtifactCorrupt: blob ${broken} of rows.jsonl`);
    await until(
      () => listed(`AceCoderState = 'parked' AND AceCoderStage = 'reinforcement'`),
      (found) => found.some(({ workflowId }) => workflowId === id),
    );
    const { output, code } = await follow(id);
    expect(code).toBe(1);
    expect(output).toContain('The experiment is parked: stage reinforcement: ArtifactCorrupt');
    expect(output).toContain(stageOf(parked, 'reinforcement').failure!.advice);
  });

  it('runs the stage again by the command it prints, with a patch of its execution', async () => {
    await restore();
    const [, printed] = /To run it again:\n\n`(.*)`/.exec(await details(id))!;
    expect(await run(printed!.replace(`"}'`, `", "execution": {"microBatch": 4}}'`))).toContain(
      'finished work is taken from the store',
    );
    artifacts = await finished(id);
    await expect.poll(() => runsOf(id, 'reinforcement')).toEqual(['COMPLETED', 'FAILED']);
    await expect.poll(() => runsOf(id, 'sampling')).toEqual(['COMPLETED']);
    expect(await inputOf(`${id}/reinforcement`)).toMatchObject({ config: { execution: { microBatch: 4 } } });
    await until(
      () => listed(`AceCoderExperiment = '${id}' AND AceCoderState = 'done' AND AceCoderPassAt1 >= 0`),
      (found) => found.length === 1,
    );
  });

  it('is followed line by line to its end', async () => {
    const { output, code } = await follow(id);
    expect(output).toMatch(/^sampling +done {2}\d+ s {2}.*programs \d+/m);
    expect(output.trimEnd().split('\n').at(-1)).toMatch(/^Report: .*report\.html$/);
    expect(code).toBe(0);
    expect(await follow('no-such-workflow')).toEqual({
      code: 1,
      output:
        'There is no workflow no-such-workflow in namespace default; temporal workflow list shows what there is.\n',
    });
  });

  it('goes back to a stage after its end by the command it prints', async () => {
    await run(await resetCommand(id, 'reinforcement'));
    expect(await finished(id)).toEqual(artifacts);
    await expect.poll(() => runsOf(id, 'rewardModel')).toEqual(['COMPLETED']);
    await expect.poll(() => runsOf(id, 'reinforcement')).toEqual(['COMPLETED', 'COMPLETED', 'FAILED']);
    await expect.poll(() => runsOf(id, 'evaluation')).toEqual(['COMPLETED', 'COMPLETED']);
  });

  it('gives its references to a stage that is started alone', async () => {
    const input = JSON.stringify({
      inputs: { programs: artifacts.sampling },
      config: { minimumBest: 0.5, minimumGap: 0.1 },
    });
    const { result } = await temporalJson<{ result: StageResult }>(
      'workflow',
      'execute',
      '--type',
      'preferences',
      '--task-queue',
      SHARED_QUEUE,
      '--workflow-id',
      'alone',
      '--input',
      input,
    );
    expect(result.reused).toBe(false);
    expect(result.ref.rows).toBeGreaterThan(artifacts.preferences.rows!);
    // What it left out stands between, by reason.
    expect((await details('alone')).split('\n\n').at(0)).toBe('**preferences**: done');
    expect((await details('alone')).split('\n\n').at(-1)).toBe(`\`${result.ref.key}\``);
  });
});

// The second test goes on with the experiment of the first, and releases what that holds.
describe('going back while the experiment runs', { tags: 'long' }, () => {
  const id = 'back';

  it('cancels a stage that was started after that point, and starts it again', async () => {
    runtime.hold('sample');
    await start(id, ({ stages }) => {
      stages.sampling = { ...stages.sampling, seed: 8 };
    });
    await until(
      () => status(id),
      (now) => stageOf(now, 'sampling').progress !== undefined,
    );
    await runtime.held('sample');
    await run(await resetCommand(id, 'filtering'));
    await until(
      () => runsOf(id, 'sampling'),
      (runs) => runs.length === 2,
    );
    await expect.poll(async () => (await runsOf(id, 'sampling'))[1]).toBe('CANCELED');
    await expect.poll(() => runsOf(id, 'filtering')).toEqual(['COMPLETED', 'COMPLETED']);
    await expect.poll(() => runsOf(id, 'synthesis')).toEqual(['COMPLETED']);
  });

  it('keeps a stage that was started before that point', async () => {
    runtime.hold('trainRewardModel');
    runtime.release('sample');
    await until(
      () => status(id),
      (now) => stageOf(now, 'rewardModel').state === 'running' && stageOf(now, 'rewardModel').progress !== undefined,
    );
    await runtime.held('trainRewardModel');
    await temporalCli('workflow', 'reset', '--workflow-id', id, '--type', 'LastWorkflowTask', '--reason', 'test');
    runtime.release('trainRewardModel');
    const asked = Object.keys((microExperiment('', '', '') as { stages: object }).stages);
    expect(Object.keys(await finished(id)).sort()).toEqual(asked.sort());
    for (const stage of ['rewardModel', 'reinforcement'] as const)
      await expect.poll(() => runsOf(id, stage)).toEqual(['COMPLETED']);
  });
});

describe('ending an experiment by hand', () => {
  it('cancels one that is paused before its first stage', async () => {
    await temporalCli('workflow', 'signal-with-start', '--signal-name', 'pause', ...startOf('cancelled-by-hand'));
    // At its first stage: looking up and recording come before it and run on, and set search attributes.
    await until(
      () => status('cancelled-by-hand'),
      (now) => stageOf(now, 'synthesis').state === 'paused',
    );
    await temporalCli('workflow', 'cancel', '--workflow-id', 'cancelled-by-hand');
    await until(
      () => described('cancelled-by-hand'),
      (state) => state === 'CANCELED',
    );
    expect((await status('cancelled-by-hand')).state).toBe('cancelled');
    await until(
      () => listed(`AceCoderState = 'cancelled'`),
      (found) => found.some(({ workflowId }) => workflowId === 'cancelled-by-hand'),
    );
  });

  it('goes on after an abandonment by the command it prints', async () => {
    runtime.hold('sample');
    await start('abandoned-by-hand', ({ stages }) => {
      stages.sampling = { ...stages.sampling, seed: 10 };
    });
    await until(
      () => status('abandoned-by-hand'),
      (now) => stageOf(now, 'synthesis').resetEventId !== undefined,
    );
    await temporalCli(
      'workflow',
      'update',
      'execute',
      '--workflow-id',
      'abandoned-by-hand',
      '--name',
      'abandon',
      '--input',
      '{"reason": "a better idea"}',
    );
    await until(
      () => described('abandoned-by-hand'),
      (state) => state === 'FAILED',
    );
    await temporalCli('workflow', 'describe', '--workflow-id', 'abandoned-by-hand');
    await run(await resetCommand('abandoned-by-hand', 'synthesis'));
    expect(
      (
        await until(
          () => status('abandoned-by-hand'),
          (now) => stageOf(now, 'synthesis').state === 'done',
        )
      ).state,
    ).not.toBe('abandoned');
    await temporalCli('workflow', 'cancel', '--workflow-id', 'abandoned-by-hand');
    runtime.release('sample');
  });

  it('parks a stage that somebody cancelled', async () => {
    runtime.hold('sample');
    await start('child-cancelled', ({ stages }) => {
      stages.sampling = { ...stages.sampling, seed: 9 };
    });
    await until(
      () => status('child-cancelled'),
      (now) => stageOf(now, 'sampling').progress !== undefined,
    );
    await runtime.held('sample');
    await temporalCli('workflow', 'cancel', '--workflow-id', 'child-cancelled/sampling');
    const parked = await until(
      () => status('child-cancelled'),
      ({ state }) => state === 'parked',
    );
    expect(stageOf(parked, 'sampling').failure?.message).toBe('somebody cancelled child-cancelled/sampling');
    await temporalCli('workflow', 'cancel', '--workflow-id', 'child-cancelled');
    await until(
      () => described('child-cancelled'),
      (state) => state === 'CANCELED',
    );
    runtime.release('sample');
  });
});

describe('a nightly refresh', () => {
  const schedule = (command: string, ...args: string[]): Promise<string> =>
    temporalCli('schedule', command, '--schedule-id', 'by-cli', ...args);
  const paused = async (): Promise<boolean> =>
    (JSON.parse(await schedule('describe', '--output', 'json')) as { schedule: { state: { paused?: boolean } } })
      .schedule.state.paused ?? false;

  it('is created, triggered, paused, unpaused and back-filled', async () => {
    await schedule(
      'create',
      '--cron',
      '0 2 * * *',
      '--time-zone',
      'UTC',
      '--overlap-policy',
      'Skip',
      '--type',
      'datasetRefresh',
      '--task-queue',
      SHARED_QUEUE,
      '--workflow-id',
      'refresh',
      '--input',
      JSON.stringify({
        name: 'by-cli',
        seeds: { kind: 'seeds', path: inject('seeds') },
        synthesis: { decontaminate: [] },
      }),
    );
    await schedule('trigger');
    const runs = await until(
      () => listed(`TemporalScheduledById = 'by-cli'`),
      ([first]) => first?.status === 'COMPLETED',
    );
    const { result } = await temporalJson<{ result: { version: number; added: number } }>(
      'workflow',
      'result',
      '--workflow-id',
      runs[0]!.workflowId,
    );
    expect(result).toMatchObject({ version: 1 });
    expect(result.added).toBeGreaterThan(0);
    await schedule('toggle', '--pause', '--reason', 'holidays');
    expect(await paused()).toBe(true);
    await schedule('toggle', '--unpause', '--reason', 'back');
    expect(await paused()).toBe(false);
    // Three nights that were missed: buffered, so that they run one after the other and none is skipped.
    await schedule(
      'backfill',
      '--overlap-policy',
      'BufferAll',
      '--start-time',
      '2026-01-01T00:00:00Z',
      '--end-time',
      '2026-01-04T00:00:00Z',
    );
    const nights = await until(
      () => listed(`TemporalScheduledById = 'by-cli'`),
      (found) => found.length === 4 && found.every(({ status }) => status === 'COMPLETED'),
    );
    const versions = await Promise.all(
      nights.map(
        async ({ workflowId }) =>
          (
            await temporalJson<{ result: { version: number; added: number } }>(
              'workflow',
              'result',
              '--workflow-id',
              workflowId,
            )
          ).result,
      ),
    );
    expect(versions.map(({ version }) => version)).toEqual([1, 1, 1, 1]);
    expect(versions.filter(({ added }) => added > 0)).toHaveLength(1);
    await schedule('delete');
  });

  it('that failed pauses a schedule that was told so, with the reason', async () => {
    const create = [
      'schedule',
      'create',
      '--schedule-id',
      'pausing',
      '--cron',
      '0 2 * * *',
      '--pause-on-failure',
      '--type',
      'datasetRefresh',
      '--task-queue',
      SHARED_QUEUE,
      '--workflow-id',
      'refresh-pausing',
      '--input',
      JSON.stringify({ name: 'pausing', seeds: { kind: 'seeds', path: '/nowhere/seeds.jsonl' } }),
    ];
    await temporalCli(...create);
    await temporalCli('schedule', 'trigger', '--schedule-id', 'pausing');
    const state = await until(
      async () =>
        (
          JSON.parse(await temporalCli('schedule', 'describe', '--schedule-id', 'pausing', '--output', 'json')) as {
            schedule: { state: { paused?: boolean; notes?: string } };
          }
        ).schedule.state,
      ({ paused: now }) => now === true,
    );
    expect(state.notes).toMatch(/fail/i);
    await temporalCli('schedule', 'delete', '--schedule-id', 'pausing');
  });
});
