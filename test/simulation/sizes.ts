/** How large histories become: one long run of a workflow, without faults, at two sizes. */
import { microExperiment } from '../fixtures/micro-experiment.js';
import { MESSAGES, type ExperimentFigures, type StageName } from '../../workflows/contract/index.js';
import { SimulatedActivities } from './activities.js';
import { NO_FAULTS, Server, type ClosedRun } from './server.js';
import type { WorkflowCode } from './workflow-vm.js';

/** No run's history may be larger. The server warns at 10 MiB and ends a run at 50 MiB. */
export const LARGEST_HISTORY_BYTES = 2 * 1024 * 1024;

/** No payload may be larger. The server refuses 2 MiB, and a codec or a proxy of yours may refuse less. */
export const LARGEST_PAYLOAD_BYTES = 64 * 1024;

/** What grows: the name of a size, and the workflow that it makes long. */
export const SIZES = {
  /** Rounds of `reinforcement`. */
  rounds: (rounds: number) => ({
    workflowType: 'reinforcement',
    shards: 1,
    input: {
      inputs: {
        questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
        policy: { kind: 'folder', path: '/data/model' },
      },
      config: {
        rounds,
        promptsPerRound: 4,
        samplesPerPrompt: 4,
        algorithm: { batchSize: 8 },
        // The most events of a round: a reference that changes, and rounds that are prepared ahead.
        referenceRefresh: 10,
        asynchronous: {},
        execution: { deviceClass: 'train' },
      },
    },
  }),
  /** Shards of `sampling`, which has two steps for each. */
  shards: (shards: number) => ({
    workflowType: 'sampling',
    shards,
    input: {
      inputs: {
        questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
        policy: { kind: 'folder', path: '/data/model' },
      },
      config: { samples: 4, execution: { window: 4 } },
    },
  }),
  /** Retries of an experiment whose budget stays too small until the last one. */
  retries: (retries: number) => ({
    workflowType: 'experiment',
    shards: 4,
    input: experimentWith({
      synthesis: {
        teacher: { kind: 'openai', model: 'simulated' },
        execution: {
          budgetUsd: TOO_SMALL_USD,
          endpoint: { baseUrl: 'http://127.0.0.1:9/v1', keyVariable: null, prices: { input: 1, output: 2 } },
        },
      },
    }),
    steer: (server: Server): void => retry(server, retries),
  }),
  /** Pauses of an experiment, each of which ends after a second. */
  pauses: (pauses: number) => ({
    workflowType: 'experiment',
    shards: 4,
    input: experimentWith({ reinforcement: { rounds: 2 + Math.ceil(pauses / 4), algorithm: { batchSize: 8 } } }),
    steer: (server: Server): void => pause(server, pauses),
  }),
} as const;

const ID = 'long';
const TOO_SMALL_USD = 0.001;

function experimentWith(changed: Partial<Record<StageName, object>>): object {
  const { stages, ...rest } = microExperiment('long', '/data/seeds.jsonl', '/data/model') as {
    stages: Record<StageName, object>;
  };
  const settings = Object.entries(stages).map(([name, stage]) => [name, { ...stage, ...changed[name as StageName] }]);
  return { ...rest, onFailure: 'park', stages: Object.fromEntries(settings) as object };
}

function retry(server: Server, left: number): void {
  server.timeline.after(30_000, () => {
    const { state } = (server.memo(ID, 'acecoder') ?? {}) as Partial<ExperimentFigures>;
    if (state === 'parked') {
      left -= 1;
      const budgetUsd = left > 0 ? TOO_SMALL_USD : 1;
      server.update(ID, MESSAGES.retryStage, { stage: 'synthesis', execution: { budgetUsd } });
    }
    if (left > 0) retry(server, left);
  });
}

function pause(server: Server, left: number): void {
  server.timeline.after(500, () => {
    if (!server.signal(ID, MESSAGES.pause)) throw new Error(`${left} pauses are left, and the experiment has ended.`);
    server.timeline.after(1000, () => {
      server.signal(ID, MESSAGES.resume);
      if (left > 1) pause(server, left - 1);
    });
  });
}
export type SizeName = keyof typeof SIZES;

/** The histories of one workflow from its start to its end. */
export interface Grown {
  runs: number;
  largestBytes: number;
  largestEvents: number;
  /** Bytes of the largest event: no payload is larger. */
  largestEventBytes: number;
  totalBytes: number;
}

/** Runs a workflow of a size to its end. @throws Error where it does not complete. */
export async function grow(code: WorkflowCode, name: SizeName, size: number, seed: number): Promise<Grown> {
  const { workflowType, shards, input, ...more } = SIZES[name](size);
  const activities = new SimulatedActivities((_stage: StageName) => shards);
  const server = new Server(code, seed, (attempt) => activities.run(attempt), NO_FAULTS);
  server.start(workflowType, ID, [input]);
  if ('steer' in more) more.steer(server);
  await server.run();
  const outcome = server.outcomes.get(ID);
  if (outcome?.how !== 'completed')
    throw new Error(`${workflowType} of ${size} ${name} ends: ${JSON.stringify(outcome)}`);
  return grown(server.closed);
}

function grown(runs: readonly ClosedRun[]): Grown {
  return {
    runs: runs.length,
    largestBytes: Math.max(...runs.map(({ bytes }) => bytes)),
    largestEvents: Math.max(...runs.map(({ events }) => events)),
    largestEventBytes: Math.max(...runs.map(({ largestEvent }) => largestEvent)),
    totalBytes: runs.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}
