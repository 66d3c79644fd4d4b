// Made by `npm run stages` from the list of stages in workflows/contract/stages/index.ts.
/** The workflows of the stages, by their names. */
import { shardedStage, trainingStage } from './lib/stage-workflows.js';

export { reinforcement } from './reinforcement.js';

/**
 * The stage `synthesis`: seeds to questions with test cases.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { synthesis } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof synthesis>('synthesis', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'synthesis-1',
 *   args: [{
 *     inputs: {
 *       seeds: { kind: 'seeds', path: '/data/seeds.jsonl' },
 *     },
 *     config: { teacher: { kind: 'offline', testCases: 12 } },
 *   }],
 * });
 * ```
 */
export const synthesis = shardedStage('synthesis');

/**
 * The stage `filtering`: questions to questions whose test cases an oracle confirms.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { filtering } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof filtering>('filtering', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'filtering-1',
 *   args: [{
 *     inputs: {
 *       questions: { kind: 'questions', path: '/data/questions.jsonl' },
 *     },
 *     config: { minimumTestCases: 5 },
 *   }],
 * });
 * ```
 */
export const filtering = shardedStage('filtering');

/**
 * The stage `sampling`: questions to programs with verdicts.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { sampling } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof sampling>('sampling', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'sampling-1',
 *   args: [{
 *     inputs: {
 *       questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
 *       policy: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' },
 *     },
 *     config: { samples: 16 },
 *   }],
 * });
 * ```
 */
export const sampling = shardedStage('sampling');

/**
 * The stage `hardening`: programs to programs rated by more tests.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { hardening } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof hardening>('hardening', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'hardening-1',
 *   args: [{
 *     inputs: {
 *       questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
 *       programs: { kind: 'programs', path: '/data/programs.jsonl' },
 *     },
 *     config: { maximumTests: 20 },
 *   }],
 * });
 * ```
 */
export const hardening = shardedStage('hardening');

/**
 * The stage `preferences`: programs to preference pairs.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { preferences } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof preferences>('preferences', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'preferences-1',
 *   args: [{
 *     inputs: {
 *       programs: { kind: 'programs', path: '/data/programs.jsonl' },
 *     },
 *     config: { maximumPerQuestion: 8 },
 *   }],
 * });
 * ```
 */
export const preferences = shardedStage('preferences');

/**
 * The stage `rewardModel`: pairs to a reward model.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { rewardModel } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof rewardModel>('rewardModel', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'reward-model-1',
 *   args: [{
 *     inputs: {
 *       pairs: { kind: 'pairs', path: '/data/pairs.jsonl' },
 *       backbone: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' },
 *     },
 *     config: { learningRate: 0.00001, batchSize: 128 },
 *   }],
 * });
 * ```
 */
export const rewardModel = trainingStage('rewardModel');

/**
 * The stage `rewardModelCard`: a reward model to its card.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { rewardModelCard } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof rewardModelCard>('rewardModelCard', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'reward-model-card-1',
 *   args: [{
 *     inputs: {
 *       rewardModel: { kind: 'rewardModel', key: 'artifacts/rewardModel/0000000000000000000000000000000000000000000000000000000000000000.json', digest: '0000000000000000000000000000000000000000000000000000000000000000', bytes: 1 },
 *       questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
 *       programs: { kind: 'programs', path: '/data/programs.jsonl' },
 *     },
 *     config: { questions: 200 },
 *   }],
 * });
 * ```
 */
export const rewardModelCard = shardedStage('rewardModelCard');

/**
 * The stage `fineTuning`: programs that pass to a fine-tuned policy.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { fineTuning } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof fineTuning>('fineTuning', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'fine-tuning-1',
 *   args: [{
 *     inputs: {
 *       programs: { kind: 'programs', path: '/data/programs.jsonl' },
 *       policy: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' },
 *     },
 *     config: { learningRate: 0.00001, epochs: 2 },
 *   }],
 * });
 * ```
 */
export const fineTuning = trainingStage('fineTuning');

/**
 * The stage `evaluation`: policies on benchmarks.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { evaluation } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof evaluation>('evaluation', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'evaluation-1',
 *   args: [{
 *     inputs: {
 *       policies: { base: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' } },
 *     },
 *     config: { benchmarks: [{ kind: 'humaneval' }] },
 *   }],
 * });
 * ```
 */
export const evaluation = shardedStage('evaluation');
