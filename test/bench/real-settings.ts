/** The settings of `npm run bench:real`, by its parts, with the reasons for them. */
import type { Part } from './real-report.js';

const SEED = 1;
/** Address space of a program: references of MBPP+ were checked with more, and the host is shared. */
const LIMITS = { memoryBytes: 2 * 1024 ** 3 };
/**
 * Two shards: one is judged while the next one is sampled. A shard is what a kill costs at most. Its 16 times 16 answers
 * are one batch: on two cores of 2026 the model makes 92 tokens a second in batches of 64 and 125 in batches of 256, in
 * bfloat16 233 and 298. Few rows are left while the longest answers end, which then happens once a shard.
 */
const EXECUTION = { window: 2, maxRows: 256 };
/**
 * Sixteen samples, as the paper takes, for questions and for tasks. An answer has 50 tokens: 16 samples for some 230
 * questions and for 239 tasks are an hour each in float32, and half of that in bfloat16. Of 64 answers one was longer
 * than 128 tokens, so that 256 cut few.
 */
const SAMPLED = { samples: 16, temperature: 0.8, topP: 1, maxNewTokens: 256, seed: SEED };

/** The settings of each part's stages: chosen before anything ran, and never changed after a look at results. */
export const SETTINGS = {
  greedy: {
    samples: 0,
    maxNewTokens: 512,
    seed: SEED,
    limits: LIMITS,
    shardSize: 64,
    execution: { window: 2, maxRows: 64 },
  },
  pairs: {
    // A question has three tests.
    filtering: { minimumTestCases: 3, heldOutShare: 0.15 },
    sampling: { ...SAMPLED, shardSize: 16, execution: EXECUTION },
    // With three tests the paper's rule leaves one pair of pass rates: 1 and 1/3. So right against wrong.
    preferences: { labels: 'strict', maximumPerQuestion: 8 },
  },
  samples: {
    ...SAMPLED,
    passAtK: [1, 2, 4, 8, 16],
    bestOf: [2, 4, 8, 16],
    // The inputs of MBPP choose, and those of MBPP+ decide.
    selectionTests: 1,
    limits: LIMITS,
    shardSize: 16,
    execution: EXECUTION,
  },
  // The recipe that came out best in the laboratory, with adapters, because the pairs are some hundreds, and for one
  // epoch, as the paper trains: a second one takes another half hour.
  'reward-model': {
    learningRate: 1e-4,
    epochs: 1,
    batchSize: 32,
    maxLength: 768,
    questionWeighting: true,
    lora: { rank: 16, alpha: 32 },
    seed: SEED,
    execution: { microBatch: 4, checkpointSeconds: 300 },
  },
  'best-of-n': {
    sampler: { kind: 'recorded', scored: true },
    passAtK: [1, 2, 4, 8, 16],
    bestOf: [2, 4, 8, 16],
    selectionTests: 1,
    seed: SEED,
    limits: LIMITS,
    shardSize: 16,
    execution: { ...EXECUTION, microBatch: 8 },
  },
} as const satisfies Record<Part, object>;
