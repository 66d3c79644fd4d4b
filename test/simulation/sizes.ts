/** How large histories become: one long run of a workflow, without faults, at two sizes. */
import type { StageName } from '../../workflows/contract/index.js';
import { SimulatedActivities } from './activities.js';
import { NO_FAULTS, Server, type ClosedRun } from './server.js';
import type { WorkflowCode } from './workflow-vm.js';

/** No run's history may be larger. The server warns at 10 MiB and ends a run at 50 MiB. */
export const LARGEST_HISTORY_BYTES = 2 * 1024 * 1024;

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
} as const;
export type SizeName = keyof typeof SIZES;

/** The histories of one workflow from its start to its end. */
export interface Grown {
  runs: number;
  largestBytes: number;
  largestEvents: number;
  totalBytes: number;
}

/** Runs a workflow of a size to its end. @throws Error where it does not complete. */
export async function grow(code: WorkflowCode, name: SizeName, size: number, seed: number): Promise<Grown> {
  const { workflowType, shards, input } = SIZES[name](size);
  const activities = new SimulatedActivities((_stage: StageName) => shards);
  const server = new Server(code, seed, (attempt) => activities.run(attempt), NO_FAULTS);
  server.start(workflowType, 'long', [input]);
  await server.run();
  const outcome = server.outcomes.get('long');
  if (outcome?.how !== 'completed')
    throw new Error(`${workflowType} of ${size} ${name} ends: ${JSON.stringify(outcome)}`);
  return grown(server.closed);
}

function grown(runs: readonly ClosedRun[]): Grown {
  return {
    runs: runs.length,
    largestBytes: Math.max(...runs.map(({ bytes }) => bytes)),
    largestEvents: Math.max(...runs.map(({ events }) => events)),
    totalBytes: runs.reduce((sum, { bytes }) => sum + bytes, 0),
  };
}
