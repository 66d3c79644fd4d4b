/**
 * Hosts that are taken away with notice, by SIGTERM or at the end of their allocation: what is lost, and what is made
 * again. Each host has a disk of its own, which nobody sees again.
 */
import { once } from 'node:events';
import { cpSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { digestsOf } from '../../activities/artifacts/produce.js';
import { identify, isAlive } from '../../infra/setup/processes.mjs';
import { processTree } from '../../workers/gpu-launcher.js';
import { STAGES, type ArtifactRef, type StageName } from '../../workflows/contract/index.js';
import { checkTrainings, trainingsOf } from '../chaos/checks.js';
import { lookAt } from '../chaos/watch.js';
import { FaultyProxy } from '../fixtures/faulty-proxy.js';
import { artifactStore, attemptsOf, startWorkflow, temporalClient, workerProcess } from '../fixtures/harness.js';
import { HeldRuntime } from '../fixtures/held-runtime.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { until } from '../fixtures/until.js';

interface Result {
  stages: { name: StageName; artifact: ArtifactRef }[];
}

/** The micro experiment with all stages. */
const micro = (name: string): Record<string, unknown> & { stages: Record<StageName, Record<string, unknown>> } => {
  const { stages, ...experiment } = microExperiment(name, inject('seeds'), inject('model'));
  const hardening = { maximumTests: 4, inputs: 100, mutants: 20, shardSize: 8 };
  return { ...experiment, stages: { ...(stages as object), hardening } } as never;
};

const artifactsOf = ({ stages }: Result): Record<StageName, ArtifactRef> =>
  Object.fromEntries(stages.map(({ name, artifact }) => [name, artifact])) as never;

/** The undisturbed run that the others are compared with. */
let first: Promise<Result> | undefined;
const firstRun = (): Promise<Result> =>
  (first ??= startWorkflow('experiment', micro('undisturbed')).then((run) => run.result() as Promise<Result>));

/** What a host that is taken away in the middle of a stage works at: a training, or the first shard of a stage. */
const TRAININGS = { fineTune: 2, trainRewardModel: 2, updatePolicy: 1 } as const;
type Training = keyof typeof TRAININGS;

/** The environment of a worker on a host with a disk of its own, which has the bundle of the workflows. */
function newHost(folder: string): Record<string, string> {
  cpSync(join(inject('stack').home, 'cache/workflows'), join(folder, 'cache/workflows'), { recursive: true });
  return { ...inject('environment'), ACECODER_HOME: folder };
}

/** A stage whose trainings write no checkpoint by the clock. */
const withoutClock = ({ execution, ...stage }: Record<string, unknown>): Record<string, unknown> => ({
  ...stage,
  execution: { ...(execution as object), checkpointSeconds: 86_400 },
});

describe('a host that is taken away with notice', () => {
  it('in every stage, leaves the same artifacts, and one step or shard at most to be done again', async () => {
    const undisturbed = artifactsOf(await firstRun());
    const home = join(inject('stack').home, 'drained');
    const runtime = new HeldRuntime(home);
    for (const [training, step] of Object.entries(TRAININGS)) runtime.holdAt(training as Training, step);
    const proxy = await FaultyProxy.before(inject('stack').s3.endpoint);
    // The document of a stage's first shard never arrives: all of that shard's work is done, and lost.
    const [shards, waiting]: [Set<string>, string[]] = [new Set(), []];
    proxy.fault = ({ method, url }) => {
      const [, key] = /\/shards\/([0-9a-f]+)\/\d+\./.exec(url!) ?? [];
      if (method !== 'PUT' || key === undefined || shards.has(key)) return undefined;
      shards.add(key);
      waiting.push(key);
      return { hang: 'upload' };
    };
    const { workflow } = await temporalClient();
    const hosts: ReturnType<typeof workerProcess>[] = [];
    const nextHost = (): ReturnType<typeof workerProcess> => {
      const environment = {
        ...newHost(join(home, String(hosts.length))),
        ACECODER_S3_ENDPOINT: proxy.endpoint,
        ACECODER_S3_PREFIX: 'drained',
        ACECODER_PYTHON: runtime.python,
        ACECODER_GRACE_SECONDS: '25',
      };
      hosts.push(workerProcess('drained', environment));
      return hosts.at(-1)!;
    };
    const [taken, running]: [string[], string[]] = [[], []];
    try {
      let host = nextHost();
      const input = micro('drained');
      for (const stage of ['fineTuning', 'rewardModel', 'reinforcement'] as const)
        input.stages[stage] = withoutClock(input.stages[stage]);
      const handle = await startWorkflow('experiment', input, { taskQueue: 'drained' });
      let isOver = false;
      const ended = handle.result().finally(() => (isOver = true)) as Promise<Result>;
      ended.catch(() => undefined);
      const trainings = new Set(Object.keys(TRAININGS) as Training[]);
      for (;;) {
        const training = (): Training | undefined => [...trainings].find((each) => runtime.isHeld(each));
        await until(
          () => isOver || waiting.length > 0 || training() !== undefined,
          (happens) => happens,
        );
        if (isOver) break;
        const look = await lookAt(await temporalClient(), handle.workflowId);
        const types = [...look.running.values()].map(({ type }) => type);
        taken.push(...types.map((type) => type.slice(0, type.indexOf('.'))));
        running.push(...look.running.keys());
        const processes = [...processTree(host.child.pid!)].flatMap((pid) => identify(pid) ?? []);
        const exit = once(host.child, 'exit');
        // Kubernetes tells the first process of a container, systemd and Slurm tell all.
        const told = hosts.length % 2 === 0 ? processes.map(({ pid }) => pid) : [host.child.pid!];
        for (const pid of told) if (identify(pid)) process.kill(pid, 'SIGTERM');
        expect(await exit).toEqual([0, null]);
        await expect.poll(() => processes.filter(isAlive)).toEqual([]);
        waiting.length = 0;
        const held = training();
        if (held) {
          runtime.release(held);
          trainings.delete(held);
        }
        host = nextHost();
      }
      const artifacts = artifactsOf(await ended);
      expect(digestsOf(artifacts)).toEqual(digestsOf(undisturbed));
      expect(STAGES.filter((stage) => !taken.includes(stage))).toEqual([]);
      const { violations, repeated } = checkTrainings(trainingsOf(runtime));
      expect(violations).toEqual([]);
      expect(repeated.map(({ steps }) => steps)).toEqual(Object.keys(TRAININGS).map(() => 0));
      const children = STAGES.map((stage) => workflow.getHandle(`${handle.workflowId}/${stage}`));
      const attempts = (await Promise.all([handle, ...children].map(attemptsOf))).flat();
      const again = attempts.filter(({ attempt }) => attempt > 1);
      expect(again.filter(({ attempt }) => attempt > 2)).toEqual([]);
      expect(again.length).toBeLessThanOrEqual(running.length);
    } finally {
      await Promise.all(hosts.map(({ kill }) => kill()));
      proxy.close();
    }
  });

  it('at the end of its allocation, ends before it, and the next host goes on from the checkpoint', async () => {
    const { rewardModel, preferences } = artifactsOf(await firstRun());
    const { inputs } = await artifactStore().manifest(rewardModel);
    const home = join(inject('stack').home, 'allocation');
    const runtime = new HeldRuntime(home);
    runtime.holdAt('trainRewardModel', 2);
    const input = {
      inputs: { pairs: preferences, backbone: inputs['backbone'] },
      config: { ...withoutClock(micro('allocation').stages.rewardModel), salt: 'allocation' },
    };
    const handle = await startWorkflow('rewardModel', input, { taskQueue: 'allocation' });
    // On a slow host the first allocations may be too short to come to the training.
    for (let seconds = 20; !runtime.isHeld('trainRewardModel'); seconds *= 2) {
      const own = join(home, String(seconds));
      const environment = {
        ...newHost(own),
        ACECODER_PYTHON: runtime.python,
        ACECODER_GRACE_SECONDS: '5',
        // With that grace, a worker ends 40 s before.
        ACECODER_DEADLINE: new Date(Date.now() + (40 + seconds) * 1000).toISOString(),
      };
      const { child } = workerProcess('allocation', environment);
      expect(await once(child, 'exit')).toEqual([0, null]);
      const log = readFileSync(join(own, 'logs/workers-allocation.log'), 'utf8');
      expect(log).toContain(`The allocation ends at ${environment.ACECODER_DEADLINE} (ACECODER_DEADLINE)`);
    }
    runtime.release('trainRewardModel');
    const next = workerProcess('allocation', { ...newHost(join(home, 'next')), ACECODER_PYTHON: runtime.python });
    try {
      const { ref } = (await handle.result()) as { ref: ArtifactRef };
      expect(ref.digest).toBe(rewardModel.digest);
      const { violations, repeated } = checkTrainings(trainingsOf(runtime));
      expect(violations).toEqual([]);
      expect(repeated.map(({ steps }) => steps)).toEqual([0]);
    } finally {
      await next.stop();
    }
  });
});
