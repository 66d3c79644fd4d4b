/** The whole chain on a micro model, against the real server and the real store. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, describe, expect, inject, it } from 'vitest';
import type { WorkflowHandle } from '@temporalio/client';
import { root, venvPython } from '../../infra/setup/paths.mjs';
import { isTrainingState, objectKeys } from '../../activities/artifacts/keys.js';
import { digestsOf } from '../../activities/artifacts/produce.js';
import { keptArtifacts, prunedParts, roundsOf } from '../../activities/artifacts/pruning.js';
import { resultsOf } from '../../activities/artifacts/results.js';
import {
  PairRow,
  ProgramRow,
  RewardRow,
  RolloutRow,
  STAGES,
  Summary,
  type ArtifactRef,
  type ExperimentStatus,
  type ManifestFile,
  type StageName,
} from '../../workflows/contract/index.js';
import { checkModels, checkNoneTrainedAgain, checkStored, checkTrainings, trainingsOf } from '../chaos/checks.js';
import type { FaultName } from '../chaos/faults.js';
import { Budget, runExperiment } from '../chaos/run.js';
import { Site } from '../chaos/site.js';
import { fakeVllmPython } from '../fixtures/fake-vllm.js';
import { HeldRuntime } from '../fixtures/held-runtime.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import {
  artifactStore,
  breakingStore,
  failureOf,
  queryOf,
  requestsFor,
  startWorkflow,
  statusWhere,
  sweepPruned,
  temporalCli,
  temporalClient,
  workerProcess,
  updateOf,
} from '../fixtures/harness.js';
import { Random } from '../simulation/random.js';

interface Result {
  html: string;
  summary: string;
  stages: { name: StageName; artifact: ArtifactRef; reused: boolean }[];
}

const micro = (name: string): Record<string, unknown> & { stages: Record<StageName, Record<string, unknown>> } => {
  const { stages, ...experiment } = microExperiment(name, inject('seeds'), inject('model'));
  const hardening = { maximumTests: 4, inputs: 100, mutants: 20, shardSize: 8 };
  const rewardModelCard = { split: 'train', questions: 10, samples: 6, mutants: 3, shardSize: 5 };
  return { ...experiment, stages: { ...(stages as object), hardening, rewardModelCard } } as never;
};

const artifactsOf = ({ stages }: Result): Record<StageName, ArtifactRef> =>
  Object.fromEntries(stages.map(({ name, artifact }) => [name, artifact])) as never;

async function rowsOf<T>(
  ref: ArtifactRef,
  schema: Parameters<ReturnType<typeof artifactStore>['rowsOf']>[1],
): Promise<T[]> {
  const rows: unknown[] = [];
  for await (const row of artifactStore().rowsOf(ref, schema)) rows.push(row);
  return rows as T[];
}

/** The model that RL rounds started from: the reference of their first policy update. */
const startOf = async (rounds: ArtifactRef): Promise<ArtifactRef> =>
  (await artifactStore().manifest(rounds)).inputs['reference'] as unknown as ArtifactRef;

/** Keys of the stored checkpoints of a training, by the folder of one on its host. */
const checkpointsOf = (path: string | null) => async (): Promise<string[]> => {
  const stageKey = /\/checkpoints\/([^/]+)\//.exec(path!)![1]!;
  return (await artifactStore().list(objectKeys.checkpoints(stageKey))).map(({ key }) => key);
};

/** A worker process whose runtime the tests hold, for those that leave it alive. */
let held: (ReturnType<typeof workerProcess> & { runtime: HeldRuntime; queue: string }) | undefined;
function heldWorker(): NonNullable<typeof held> {
  const queue = 'held';
  const runtime = new HeldRuntime(join(inject('stack').home, queue));
  held ??= {
    ...workerProcess(queue, { ...inject('environment'), ACECODER_PYTHON: runtime.python }),
    runtime,
    queue,
  };
  return held;
}
afterAll(() => held?.stop());

/** The undisturbed run that the others are compared with. */
let startedFirst: Promise<WorkflowHandle> | undefined;
const firstRun = async (): Promise<Result> =>
  (await (startedFirst ??= startWorkflow('experiment', micro('first')))).result() as Promise<Result>;

describe('the whole chain', () => {
  it('runs from seeds to a report whose figures are those of its artifacts', async () => {
    const result = await firstRun();
    const summary = Summary.parse(JSON.parse(readFileSync(result.summary, 'utf8')));
    expect(summary.assertions.filter(({ ok }) => !ok)).toEqual([]);
    expect(summary.stages.map(({ name, state }) => [name, state])).toEqual(STAGES.map((name) => [name, 'done']));
    const recipe = Object.fromEntries(
      summary.recipe.map(({ stage, setting, value }) => [`${stage}: ${setting}`, value]),
    );
    expect(recipe).toMatchObject({
      'preferences: labels': 'rate',
      'preferences: minimumBest': 0.6,
      'rewardModel: epochs': 12,
      'rewardModel: questionWeighting': false,
      'reinforcement: reward.rewardModelWeight': 0.2,
      'reinforcement: algorithm.name': 'reinforce++',
      'reinforcement: algorithm.beta': 0.01,
    });
    expect(Object.keys(recipe).filter((name) => name.includes('execution'))).toEqual([]);
    expect(existsSync(result.html)).toBe(true);
    expect(readFileSync(result.html, 'utf8')).toContain(summary.stages[0]!.artifact.key);
    const { injected, dropped, droppedInjected } = summary.data.filterQuality!;
    expect(injected).toBeGreaterThan(0);
    expect(droppedInjected).toBeLessThanOrEqual(Math.min(injected, dropped));
    expect(
      summary.data.dropped
        .filter(({ stage, what }) => stage === 'filtering' && what === 'testCase')
        .reduce((sum, { count }) => sum + count, 0),
    ).toBe(dropped);
    for (const { folder } of summary.models) expect(existsSync(`${folder}/config.json`), folder).toBe(true);

    const artifacts = artifactsOf(result);
    const programs = await rowsOf<ProgramRow>(artifacts.sampling, ProgramRow);
    expect(programs).toHaveLength(summary.data.programs);
    const heldOut = new Set(programs.filter(({ split }) => split === 'heldOut').map(({ questionId }) => questionId));
    expect(heldOut.size).toBeGreaterThan(0);
    const pairs = await rowsOf<PairRow>(artifacts.preferences, PairRow);
    expect(pairs).toHaveLength(summary.data.pairs);
    expect(
      pairs.filter(({ questionId }) => heldOut.has(questionId)),
      'held-out questions among the training pairs',
    ).toEqual([]);
  });

  it('leaves its results in the store, and beside the cache of this host as links', async () => {
    const { stages, report, fetch, summary } = (await firstRun()) as Result & { report: ArtifactRef; fetch: string };
    const run = await startedFirst!;
    expect(fetch).toBe(`npm run fetch -- ${run.workflowId}`);
    const store = artifactStore();
    const { results } = await resultsOf(store, run.workflowId);
    expect(results).toEqual({ report, ...Object.fromEntries(stages.map(({ name, artifact }) => [name, artifact])) });
    const stored = (await store.manifest(report)).files;
    expect(stored.map(({ name }) => name)).toEqual([
      ...['experiment.json', 'figures.json', 'report.html', 'summary.json'],
      expect.stringMatching(/^tensorboard\/events\.out\.tfevents\.\d+\.acecoder$/) as string,
    ]);
    expect(readFileSync(await store.fetch(stored[3]!), 'utf8')).toBe(readFileSync(summary, 'utf8'));
    for (const { folder } of Summary.parse(JSON.parse(readFileSync(summary, 'utf8'))).models) {
      const { nlink, mode } = statSync(`${folder}/config.json`);
      expect(nlink).toBeGreaterThan(1);
      expect(mode & 0o222).toBe(0);
    }
    const { memo } = await run.describe();
    expect(memo).toMatchObject({ report: report.key, fetch });
    // A link opens the report without a key. No result and no memo holds one.
    expect(JSON.stringify([memo, await run.result()])).not.toContain('X-Amz-Signature');
    const { report: shown } = await queryOf<ExperimentStatus>(run, 'status');
    expect(await (await globalThis.fetch(shown!.link!.url)).text()).toContain(stages[0]!.artifact.key);
  });

  it('is reported by the command too, with the same figures, in a folder and on loopback', async () => {
    const { html } = await firstRun();
    const { workflowId } = await startedFirst!;
    const target = mkdtempSync(join(tmpdir(), 'report-command-'));
    const command = (...args: string[]) => commandOf('report', ...args);
    const commandOf = (name: string, ...args: string[]) =>
      spawn(process.execPath, ['--import', 'tsx', join(root, `infra/commands/${name}.ts`), workflowId, ...args], {
        cwd: root,
        env: { ...process.env, ...inject('environment') },
        stdio: ['ignore', 'pipe', 'pipe'],
      });
    const written = command(target);
    const said = text(written.stderr);
    expect(await once(written, 'exit'), await said).toEqual([0, null]);
    const figures = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8'));
    expect(figures(join(target, 'figures.json'))).toEqual(figures(join(dirname(html), 'figures.json')));
    expect(readdirSync(target).sort()).toEqual(['figures.json', 'report.html', 'summary.json', 'tensorboard']);
    const events = join(target, 'tensorboard', readdirSync(join(target, 'tensorboard'))[0]!);

    const tracked = commandOf('track', '--tensorboard', join(target, 'tracked'));
    const told = text(tracked.stderr);
    expect(await once(tracked, 'exit'), await told).toEqual([0, null]);
    expect(readFileSync(join(target, 'tracked/events.out.tfevents.0.acecoder'))).toEqual(readFileSync(events));
    expect(readFileSync(events, 'latin1')).toContain('reinforcement/reward');
    rmSync(target, { recursive: true });

    const watching = command('--watch');
    const ended = once(watching, 'exit');
    const address = await new Promise<string>((found, failed) => {
      let output = '';
      watching.stdout.on('data', (chunk: Buffer) => {
        output += chunk.toString();
        const [, url] = /(http:\S+)/.exec(output) ?? [];
        if (url) found(url);
      });
      watching.on('exit', () => failed(new Error(output)));
    });
    const page = await (await fetch(address)).text();
    expect(page).toContain('id="live"');
    expect(await (await fetch(new URL('version', address))).text()).toMatch(/^[0-9a-f]{16}$/);
    expect((await fetch(new URL('../../etc/passwd', address))).status).toBe(404);
    watching.kill('SIGINT');
    expect(await ended).toEqual([0, null]);
  });

  it('gives its models with cards, whose Python loads and uses them', async () => {
    await firstRun();
    const { workflowId } = await startedFirst!;
    const target = mkdtempSync(join(tmpdir(), 'models-'));
    const fetching = spawn(
      process.execPath,
      ['--import', 'tsx', join(root, 'infra/commands/fetch.ts'), workflowId, target, '--models'],
      { cwd: root, env: { ...process.env, ...inject('environment') }, stdio: ['ignore', 'ignore', 'pipe'] },
    );
    const said = text(fetching.stderr);
    expect(await once(fetching, 'exit'), await said).toEqual([0, null]);
    const names = readdirSync(join(target, 'models')).sort();
    expect(names).toEqual(['fineTuned', 'policy', 'rewardModel']);
    for (const name of names) {
      const folder = join(target, 'models', name);
      const card = readFileSync(join(folder, 'README.md'), 'utf8');
      expect(card).toMatch(/^---\nlibrary_name: transformers\n/);
      const [, code] = /```python\n([^]*?)\n```/.exec(card)!;
      const given = 'question = "Write double(n)."\nprogram = "def double(n):\\n    return 2 * n"\n';
      const python = spawn(
        venvPython(),
        ['-c', `${given}${code}\nprint(${name === 'rewardModel' ? 'score' : 'answer'})`],
        {
          cwd: folder,
          stdio: ['ignore', 'pipe', 'pipe'],
        },
      );
      const [told, wrong] = [text(python.stdout), text(python.stderr)];
      expect(await once(python, 'exit'), await wrong).toEqual([0, null]);
      expect((await told).trim()).not.toBe('');
    }
    rmSync(target, { recursive: true });
  });

  it('trains each round on exactly the planned rollouts less the recorded drops', async () => {
    const summary = Summary.parse(JSON.parse(readFileSync((await firstRun()).summary, 'utf8')));
    expect(summary.reinforcement.rounds.map(({ round }) => round)).toEqual([1, 2]);
    for (const { artifact, trained, rollouts: planned } of summary.reinforcement.rounds) {
      const { inputs } = await artifactStore().manifest(artifact);
      const rollouts = await rowsOf<RolloutRow>(inputs['rollouts'] as ArtifactRef, RolloutRow);
      const rewards = await rowsOf<RewardRow>(inputs['rewards'] as ArtifactRef, RewardRow);
      expect(rewards.map(({ id }) => id)).toEqual(rollouts.map(({ id }) => id));
      expect(rollouts).toHaveLength(planned);
      expect(rewards.filter(({ dropped }) => dropped === undefined)).toHaveLength(trained);
    }
  });

  it('samples asynchronous rounds one update behind, weighs them, and takes a new reference where asked', async () => {
    const { filtering, reinforcement } = artifactsOf(await firstRun());
    const store = artifactStore();
    const {
      inputs: { reference: base },
    } = (await store.manifest(reinforcement)) as unknown as { inputs: { reference: ArtifactRef } };
    const config = {
      ...micro('asynchronous').stages.reinforcement,
      rounds: 4,
      reward: {},
      asynchronous: {},
      referenceRefresh: 2,
    };
    const handle = await startWorkflow('reinforcement', { inputs: { questions: filtering, policy: base }, config });
    const { ref } = (await handle.result()) as { ref: ArtifactRef };
    const rounds = [...(await roundsOf(store, ref)).values()];
    const manifests = await Promise.all(rounds.map((round) => store.manifest(round)));
    const keyOf = (ref: unknown): string => (ref as ArtifactRef).key;
    const samplers = await Promise.all(
      manifests.map(async ({ inputs }) =>
        keyOf((await store.manifest(inputs['rollouts'] as unknown as ArtifactRef)).inputs['policy']),
      ),
    );
    const before = [base, ...rounds.slice(0, -1)].map(({ key }) => key);
    expect(
      manifests.map(({ inputs }) => keyOf(inputs['policy'])),
      'policies that were updated',
    ).toEqual(before);
    expect(samplers, 'policies that were sampled').toEqual([before[0], ...before.slice(0, -1)]);
    expect(
      manifests.map(({ inputs }) => keyOf(inputs['reference'])),
      'references',
    ).toEqual([before[0], before[0], before[2], before[2]]);
    const weights = manifests.map(({ metrics }) => metrics['importanceMean'] as number);
    expect(weights[0], 'a round that is sampled from the policy that it updates').toBeCloseTo(1, 3);
    for (const weight of weights.slice(1)) expect(Math.abs(weight - 1)).toBeLessThan(0.5);
    expect(new Set(weights).size).toBe(4);
    const rollouts = await rowsOf<RolloutRow>(manifests[1]!.inputs['rollouts'] as unknown as ArtifactRef, RolloutRow);
    expect(rollouts.every(({ logProbs, completionIds }) => logProbs?.length === completionIds.length)).toBe(true);
    expect(
      new Set(await requestsFor(handle, 'reinforcement.rollouts')).size,
      'workflow tasks that ask for rollouts: two samplings of one would reach a device in any order',
    ).toBe(4);
  });

  it('samples by another engine under a key of its own, and only where the worker has it', async () => {
    const { filtering, reinforcement } = artifactsOf(await firstRun());
    const policy = await startOf(reinforcement);
    const config = {
      ...micro('vllm').stages.sampling,
      samples: 2,
      maxNewTokens: 24,
      questions: { train: 3, heldOut: 1 },
    };
    const start = (engine: string, taskQueue?: string): Promise<WorkflowHandle> =>
      startWorkflow(
        'sampling',
        { inputs: { questions: filtering, policy }, config: { ...config, engine } },
        taskQueue ? { taskQueue } : {},
      );
    expect(await failureOf(await start('vllm'))).toMatchObject({
      type: 'InvalidExperiment',
      message: expect.stringContaining(
        'config.engine: the GPU worker has no vLLM: install it there with `npm run setup -- --vllm`',
      ),
    });
    const workers = workerProcess('vllm', {
      ...inject('environment'),
      ACECODER_VLLM_PYTHON: fakeVllmPython(inject('stack').home),
    });
    try {
      const { ref } = (await (await start('vllm', 'vllm')).result()) as { ref: ArtifactRef };
      const programs = await rowsOf<ProgramRow>(ref, ProgramRow);
      expect(programs).toHaveLength(8);
      const other = (await (await start('transformers')).result()) as { ref: ArtifactRef };
      expect(other.ref.key).not.toBe(ref.key);
      expect((await rowsOf<ProgramRow>(other.ref, ProgramRow)).map(({ questionId }) => questionId)).toEqual(
        programs.map(({ questionId }) => questionId),
      );
    } finally {
      await workers.stop();
    }
  });

  it('prunes rounds by number, answers an equal stage without them, and makes again what others need', async () => {
    const { filtering, reinforcement } = artifactsOf(await firstRun());
    const store = artifactStore();
    const policy = await startOf(reinforcement);
    const config = { ...micro('pruned').stages.reinforcement, reward: {}, seed: 7, execution: { keepRounds: 1 } };
    const run = async (rounds: number): Promise<{ ref: ArtifactRef; reused: boolean; handle: WorkflowHandle }> => {
      const handle = await startWorkflow('reinforcement', {
        inputs: { questions: filtering, policy },
        config: { ...config, rounds },
      });
      return { ...((await handle.result()) as { ref: ArtifactRef; reused: boolean }), handle };
    };
    const rounds = [...(await roundsOf(store, (await run(4)).ref)).values()];
    const [first, second, third, last] = rounds as [ArtifactRef, ArtifactRef, ArtifactRef, ArtifactRef];
    const partsOf = async ({ key }: ArtifactRef): Promise<string[]> => [...((await prunedParts(store)).get(key) ?? [])];
    expect(await Promise.all(rounds.map(partsOf))).toEqual([['all'], ['all'], ['all'], []]);
    // The rounds are young, so that their blobs still stand. They go as they do in half an hour.
    expect(await sweepPruned(store, [first, second, third])).toBeGreaterThan(3);
    await expect(artifactStore().materialise(last, { trainingState: true })).resolves.toBeTruthy();
    await expect(artifactStore().materialise(policy)).resolves.toBeTruthy();

    const again = await run(4);
    expect(again).toMatchObject({ ref: last, reused: true });
    const trainings = async (handle: WorkflowHandle): Promise<number> =>
      (await requestsFor(handle, 'reinforcement.update')).length;
    expect(await trainings(again.handle)).toBe(4);

    const evaluation = await startWorkflow('evaluation', {
      inputs: { policies: { second }, questions: filtering },
      config: micro('pruned').stages.evaluation,
    });
    const { type, message } = await failureOf(evaluation);
    expect(type).toBe('InvalidExperiment');
    expect(message).toMatch(
      new RegExp(
        'inputs\\.policies\\.second\\.key: .* was pruned at .* \\(round 2, ' +
          'reinforcement\\.execution\\.keepRounds 1\\); its manifest stays\\. ' +
          'Take a newer round, or start .* "rounds": 2, which makes it again',
      ),
    );

    const shorter = await run(2);
    expect(shorter).toMatchObject({ ref: second, reused: true });
    // Two look-ups, then the second round, which lacks the first one, then the first one, and the second one again.
    expect(await trainings(shorter.handle)).toBe(5);
    expect(await partsOf(second)).toEqual([]);
    const reader = artifactStore();
    expect(await reader.materialise(second)).toBeTruthy();
    expect(await keptArtifacts(store)).toContain(second.key);
  });

  it('trains rounds again whose optimizer state was on a host that is lost, and ends in the same bytes', async () => {
    const { filtering, reinforcement } = artifactsOf(await firstRun());
    const store = artifactStore();
    const policy = await startOf(reinforcement);
    const { algorithm, ...stage } = micro('states').stages.reinforcement;
    const input = (options: object, execution: object): object => ({
      inputs: { questions: filtering, policy },
      config: {
        ...stage,
        ...{ reward: {}, seed: 9, rounds: 4, algorithm: { ...(algorithm as object), ...options }, execution },
      },
    });
    const statesOf = async (ref: ArtifactRef): Promise<ManifestFile[]> =>
      (await store.manifest(ref)).files.filter(({ name }) => isTrainingState(name));
    const homes = [1, 2].map(() => mkdtempSync(join(tmpdir(), 'acecoder-host-')));
    const hostOf = (home: string) => workerProcess('states', { ...inject('environment'), ACECODER_HOME: home });
    let worker = hostOf(homes[0]!);
    try {
      const handle = await startWorkflow('reinforcement', input({}, { storeStateEvery: 3, keepRounds: 1 }), {
        taskQueue: 'states',
      });
      const updates = async (): Promise<number> => (await requestsFor(handle, 'reinforcement.update')).length;
      await expect.poll(updates).toBeGreaterThanOrEqual(3);
      await worker.kill();
      const before = await updates();
      rmSync(homes[0]!, { recursive: true, force: true });
      worker = hostOf(homes[1]!);
      const { ref } = (await handle.result()) as { ref: ArtifactRef };
      const [first, second, third, last] = [...(await roundsOf(store, ref)).values()];
      const isStored = async (round: ArtifactRef): Promise<boolean> =>
        !(await store.missingBlob(await statesOf(round), { fresh: false }));
      if (before === 3) {
        // The third round lacked the second one's state, and that the first one's: both asked twice, and two were made
        // again.
        expect(await updates()).toBe(4 + 2 + 2);
        expect(await Promise.all([first!, second!].map(isStored))).toEqual([true, true]);
      }
      expect(await Promise.all([third!, last!].map(isStored))).toEqual([true, true]);

      // Its default, written down, gives updates keys of their own, and leaves what they make untouched.
      const plain = await startWorkflow('reinforcement', input({ endWeight: 1 }, {}));
      const { ref: same } = (await plain.result()) as { ref: ArtifactRef };
      expect(same.key).not.toBe(ref.key);
      const digests = async (newest: ArtifactRef): Promise<string[]> =>
        [...(await roundsOf(store, newest)).values()].map(({ digest }) => digest);
      expect(await digests(ref)).toEqual(await digests(same));
    } finally {
      await worker.stop();
      for (const home of homes) rmSync(home, { recursive: true, force: true });
    }
  });

  it('keeps the optimizer state of rounds between two stored ones on the host', async () => {
    const { filtering, reinforcement } = artifactsOf(await firstRun());
    const store = artifactStore();
    const policy = await startOf(reinforcement);
    const config = { ...micro('sent').stages.reinforcement, reward: {}, seed: 11, rounds: 3 };
    const handle = await startWorkflow('reinforcement', {
      inputs: { questions: filtering, policy },
      config: { ...config, execution: { storeStateEvery: 2, keepRounds: null } },
    });
    const { ref } = (await handle.result()) as { ref: ArtifactRef };
    const isSent = await Promise.all(
      [...(await roundsOf(store, ref)).values()].map(async (round) => {
        const states = (await store.manifest(round)).files.filter(({ name }) => isTrainingState(name));
        expect(states.length).toBeGreaterThan(0);
        return !(await store.missingBlob(states, { fresh: false }));
      }),
    );
    expect(isSent).toEqual([false, true, true]);
    expect(await requestsFor(handle, 'reinforcement.update')).toHaveLength(3);
  });

  it('reuses every stage of an equal experiment, and says whose work it is', async () => {
    await firstRun();
    const handle = await startWorkflow('experiment', micro('again'));
    const result = (await handle.result()) as Result;
    expect(result.stages.map(({ reused }) => reused)).toEqual(STAGES.map(() => true));
    expect(artifactsOf(result)).toEqual(artifactsOf(await firstRun()));
  });

  it.each(['this host', 'the store'])(
    'makes the same reward model when its worker is killed in training, from the checkpoints of %s',
    async (source) => {
      const { rewardModel, preferences } = artifactsOf(await firstRun());
      const store = artifactStore();
      const { inputs } = await store.manifest(rewardModel);
      // A salt of its own gives the training a key of its own, and leaves what it makes untouched.
      const config = { ...micro('kill').stages.rewardModel, salt: `killed, ${source}` };
      const queue = `kill-${source.replace(' ', '-')}`;
      const runtime = new HeldRuntime(join(inject('stack').home, queue));
      const environment: Record<string, string> = { ...inject('environment'), ACECODER_PYTHON: runtime.python };
      const otherHome = mkdtempSync(join(tmpdir(), 'acecoder-other-host-'));
      let workers = workerProcess(queue, environment);
      try {
        runtime.hold('trainRewardModel');
        const handle = await startWorkflow(
          'rewardModel',
          { inputs: { pairs: preferences, backbone: inputs['backbone'] }, config },
          { taskQueue: queue },
        );
        const checkpoints = checkpointsOf(await runtime.held('trainRewardModel'));
        await expect.poll(checkpoints).not.toEqual([]);
        await workers.kill();
        runtime.release('trainRewardModel');
        // What the host has is all there is, or what the store has.
        if (source === 'this host') await store.remove(await checkpoints());
        const next = source === 'this host' ? environment : { ...environment, ACECODER_HOME: otherHome };
        workers = workerProcess(queue, next);
        const result = (await handle.result()) as { ref: ArtifactRef; reused: boolean };
        expect(result.ref.key).not.toBe(rewardModel.key);
        expect(result.ref.digest).toBe(rewardModel.digest);
        const { producer, stageKey } = await store.manifest(result.ref);
        expect(producer.attempt, 'the attempt that finished the training').toBeGreaterThan(1);
        expect(readFileSync(join(next['ACECODER_HOME']!, 'logs', `workers-${queue}.log`), 'utf8')).toMatch(
          new RegExp(`resuming from step [1-9]\\d*, of a checkpoint of ${source}`),
        );
        expect(await checkpoints()).toEqual([]);
        expect(existsSync(join(next['ACECODER_HOME']!, 'cache', 'checkpoints', stageKey))).toBe(false);
      } finally {
        await workers.stop();
        rmSync(otherHome, { recursive: true, force: true });
      }
    },
  );

  it('makes the same reward model at once when checkpoints cannot be stored, and says so meanwhile', async () => {
    const { rewardModel, preferences } = artifactsOf(await firstRun());
    const { inputs } = await artifactStore().manifest(rewardModel);
    const config = { ...micro('away').stages.rewardModel, salt: 'away' };
    const broken: string[] = [];
    const away = await breakingStore(
      ({ method, url }) => method === 'PUT' && url!.includes('/checkpoints/') && broken.push(url!) > 0,
    );
    const runtime = new HeldRuntime(join(inject('stack').home, 'away'));
    const workers = workerProcess('away', { ...away.environment, ACECODER_PYTHON: runtime.python });
    try {
      runtime.hold('trainRewardModel');
      const handle = await startWorkflow(
        'rewardModel',
        { inputs: { pairs: preferences, backbone: inputs['backbone'] }, config },
        { taskQueue: 'away' },
      );
      const messages = async (): Promise<string> =>
        JSON.stringify(
          ((await handle.describe()).raw.pendingActivities ?? []).flatMap(({ heartbeatDetails }) =>
            (heartbeatDetails?.payloads ?? []).map(({ data }) => JSON.parse(Buffer.from(data!).toString()) as unknown),
          ),
        );
      await expect
        .poll(messages)
        .toMatch(
          /the checkpoint of step \d+ is not stored: the store at http:\S+ \(ACECODER_S3_ENDPOINT\) does not answer/,
        );
      runtime.release('trainRewardModel');
      const { ref } = (await handle.result()) as { ref: ArtifactRef };
      expect(ref.digest).toBe(rewardModel.digest);
      expect(broken).not.toEqual([]);
      expect((await artifactStore().manifest(ref)).producer.attempt).toBe(1);
    } finally {
      await workers.stop();
      away.close();
    }
  });

  it('makes the same reward model when the training is paused at a checkpoint and resumed', async () => {
    const { rewardModel, preferences } = artifactsOf(await firstRun());
    const { inputs } = await artifactStore().manifest(rewardModel);
    const config = { ...micro('pause').stages.rewardModel, salt: 'paused' };
    const { runtime, queue: taskQueue } = heldWorker();
    runtime.hold('trainRewardModel');
    const handle = await startWorkflow(
      'rewardModel',
      { inputs: { pairs: preferences, backbone: inputs['backbone'] }, config },
      { taskQueue },
    );
    const checkpoints = checkpointsOf(await runtime.held('trainRewardModel'));
    await expect.poll(checkpoints).not.toEqual([]);
    await handle.signal('pause');
    const { state } = await queryOf<{ state: string }>(handle, 'status');
    expect(state).toBe('paused');
    const pending = async (): Promise<number> => (await handle.describe()).raw.pendingActivities?.length ?? 0;
    await expect.poll(pending).toBe(0);
    expect((await handle.describe()).status.name).toBe('RUNNING');
    expect(await checkpoints()).not.toEqual([]);
    runtime.release('trainRewardModel');
    await handle.signal('resume');
    const result = (await handle.result()) as { ref: ArtifactRef };
    expect(result.ref.digest).toBe(rewardModel.digest);
  });
});

describe('a host to which things happen', () => {
  it('makes the same artifacts, asks and trains nothing twice, and leaves no process', async () => {
    const undisturbed = artifactsOf(await firstRun());
    const home = mkdtempSync(join(tmpdir(), 'acecoder-chaos-'));
    const site = await Site.open({ home });
    const faults: FaultName[] = ['store', 'runtime', 'storeErrors', 'server', 'worker'];
    try {
      const { finished, ...run } = await runExperiment({
        site,
        id: 'chaos',
        input: micro('chaos'),
        random: new Random(3),
        deck: { next: () => faults.shift() ?? 'worker' },
        budget: new Budget(faults.length),
        log: () => undefined,
      });
      expect(run.violations).toEqual([]);
      // A fast host may end the experiment before the last of them, and a kind that meets nothing is passed over.
      expect(run.faults.length).toBeGreaterThan(0);
      expect(digestsOf(finished!.stages)).toEqual(digestsOf(undisturbed));
      const { orphans } = await site.stopWorkers();
      expect(orphans).toEqual([]);
      const trainings = trainingsOf(site);
      expect(trainings.size).toBeGreaterThan(0);
      const checks = [
        checkTrainings(trainings),
        await checkNoneTrainedAgain(site, trainings),
        await checkModels(site, finished!),
        await checkStored(site),
      ];
      expect(checks.flatMap(({ violations }) => violations)).toEqual([]);
    } finally {
      await site.close();
      rmSync(home, { recursive: true, force: true });
    }
  });
});

describe('parking', () => {
  it('waits for retryStage, refuses a wrong patch with the reason, and goes on with a right one', async () => {
    await firstRun();
    const experiment = micro('parked');
    const handle = await startWorkflow('experiment', {
      ...experiment,
      onFailure: 'park',
      stages: { ...experiment.stages, reinforcement: { ...experiment.stages.reinforcement, promptsPerRound: 1000 } },
    });
    const parked = await statusWhere(handle, ({ state }) => state === 'parked');
    const stage = parked.stages.find(({ name }) => name === 'reinforcement')!;
    expect(stage.state).toBe('parked');
    expect(stage.failure?.type).toBe('InvalidExperiment');
    expect(stage.failure?.message).toMatch(/promptsPerRound is 1000, there are \d+ train questions/);
    expect(stage.failure?.advice).toContain(`--workflow-id ${handle.workflowId} --name retryStage`);

    const retry = (request: unknown): Promise<string> => updateOf(handle, 'retryStage', request);
    const refused = async (request: unknown): Promise<string> =>
      retry(request).then(
        () => 'accepted',
        (error: Error) => (error.cause as Error | undefined)?.message ?? error.message,
      );
    expect(await refused({ stage: 'reinforcement', semantics: { promptsPerRound: 4 } })).toContain(
      '"allowRepeat": true',
    );
    expect(await refused({ stage: 'reinforcement', execution: { microBatch: -1 } })).toContain('execution.microBatch');
    expect(await refused({ stage: 'sampling' })).toContain('sampling is done');
    expect(await refused({ stage: 'nothing' })).toContain('stage');
    expect(
      await retry({
        stage: 'reinforcement',
        semantics: { promptsPerRound: 4 },
        execution: { microBatch: 4 },
        allowRepeat: true,
      }),
    ).toContain('reinforcement runs again');
    const result = (await handle.result()) as Result;
    expect(result.stages.map(({ name }) => name)).toEqual([...STAGES]);
  });

  it('gives up on abandon with the reason', async () => {
    await firstRun();
    const experiment = micro('abandoned');
    const handle = await startWorkflow('experiment', {
      ...experiment,
      onFailure: 'park',
      stages: { ...experiment.stages, reinforcement: { ...experiment.stages.reinforcement, promptsPerRound: 1000 } },
    });
    await statusWhere(handle, ({ state }) => state === 'parked');
    await updateOf(handle, 'abandon', { reason: 'not worth it' });
    expect(await failureOf(handle)).toEqual({ type: 'Abandoned', message: 'abandoned: not worth it' });
  });

  it('fails instead of parking where nobody watches', async () => {
    const experiment = micro('unattended');
    const handle = await startWorkflow('experiment', {
      ...experiment,
      stages: { ...experiment.stages, reinforcement: { ...experiment.stages.reinforcement, promptsPerRound: 1000 } },
    });
    expect(await failureOf(handle)).toMatchObject({ type: 'InvalidExperiment' });
  });
});

describe('an experiment that cannot run', () => {
  it('is refused at once with all mistakes', async () => {
    const handle = await startWorkflow('experiment', {
      ...micro('wrong'),
      models: {},
      stages: { sampling: { samples: -1 }, evaluation: { samples: 2, passAtK: [4] }, sythesis: {} },
    });
    const { type, message } = await failureOf(handle);
    expect(type).toBe('InvalidExperiment');
    for (const text of ['models.policy', 'stages.sampling.samples', 'stages.sythesis: no such field'])
      expect(message).toContain(text);
  });

  it('names seeds and references that do not exist', async () => {
    const handle = await startWorkflow('experiment', {
      ...micro('absent'),
      seeds: { kind: 'seeds', path: '/nowhere/seeds.jsonl' },
      models: {
        policy: {
          kind: 'artifact',
          ref: { kind: 'model', key: 'artifacts/model/none.json', digest: '0'.repeat(64), bytes: 1 },
        },
      },
    });
    const { type, message } = await failureOf(handle);
    expect(type).toBe('InvalidExperiment');
    expect(message).toContain('/nowhere/seeds.jsonl');
    expect(message).toContain('artifacts/model/none.json');
  });
});

describe('cancelling', () => {
  it('ends the experiment and its stage', async () => {
    const experiment = micro('cancelled');
    const { runtime, queue: taskQueue } = heldWorker();
    runtime.hold('sample');
    const handle = await startWorkflow(
      'experiment',
      {
        ...experiment,
        stages: { ...experiment.stages, sampling: { ...experiment.stages.sampling, samples: 64, salt: 'cancelled' } },
      },
      { taskQueue },
    );
    await statusWhere(handle, ({ stages }) =>
      stages.some(({ name, state }) => name === 'sampling' && state === 'running'),
    );
    await runtime.held('sample');
    await handle.cancel();
    await expect(handle.result()).rejects.toThrow();
    expect((await handle.describe()).status.name).toBe('CANCELLED');
    const child = (await temporalClient()).workflow.getHandle(`${handle.workflowId}/sampling`);
    await expect.poll(async () => (await child.describe()).status.name).toBe('CANCELLED');
    runtime.release('sample');
  });
});

describe('a reset of a terminated experiment', () => {
  it('starts the stage again that was ended with it, as soon as somebody asks', async () => {
    const { runtime, queue: taskQueue } = heldWorker();
    runtime.hold('sample');
    const experiment = micro('terminated');
    const sampling = { ...experiment.stages.sampling, samples: 64, salt: 'terminated' };
    const handle = await startWorkflow(
      'experiment',
      { ...experiment, stages: { ...experiment.stages, sampling } },
      { taskQueue },
    );
    await statusWhere(handle, ({ stages }) =>
      stages.some(({ name, state }) => name === 'sampling' && state === 'running'),
    );
    const { workflow } = await temporalClient();
    const child = workflow.getHandle(`${handle.workflowId}/sampling`);
    // The experiment says `running` before the server has the child. A held runtime may be that of an earlier test.
    await expect.poll(async () => (await child.describe()).raw.pendingActivities?.length).toBeGreaterThan(0);
    await handle.terminate('somebody did');
    await expect.poll(async () => (await child.describe()).status.name).toBe('TERMINATED');
    runtime.release('sample');
    await temporalCli(
      'workflow',
      'reset',
      '--workflow-id',
      handle.workflowId,
      '--type',
      'LastWorkflowTask',
      '--reason',
      'x',
    );
    const again = workflow.getHandle(handle.workflowId);
    await again.signal('resume');
    await statusWhere(again, ({ stages }) => stages.some(({ name, state }) => name === 'sampling' && state === 'done'));
    await again.cancel();
    await expect(again.result()).rejects.toThrow();
  });
});
