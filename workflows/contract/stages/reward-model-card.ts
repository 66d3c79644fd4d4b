/** The card of a reward model: what it knows about near misses, which biases it has, and what it is good for. */
import { z } from 'zod';
import { artifactInput, artifactRef } from '../artifacts.js';
import { MEASURED_RUN } from '../estimation.js';
import { count, deviceClass, EXECUTION, limits, microBatch, salt, seed, window } from '../fields.js';
import { BIAS_LIMIT, RewardModelCard } from '../reward-model-card.js';
import { Split } from '../rows.js';
import { defineStage, stageInput } from '../stage-definition.js';
import { JUDGE } from './code.js';

const RewardModelCardConfig = z.strictObject({
  split: Split.default('heldOut').describe('questions to ask about; the reward model was trained on those of train'),
  questions: count.default(200).describe('questions at most, chosen by a hash of their ids'),
  samples: count.default(16).describe('sampled programs of a question at most, the first ones: the N of Best-of-N'),
  mutants: count.max(100).default(8).describe('mutants of a right program per question, at most'),
  visibleTests: count
    .default(2)
    .describe('leading tests of a question by which Best-of-N chooses; the verdict is that of all tests'),
  limit: z
    .number()
    .positive()
    .default(BIAS_LIMIT)
    .describe(
      'a probe names a bias where the 95 % interval of how much it moves scores is beyond this, as a share of the gap ' +
        'between right and wrong programs',
    ),
  seed: seed.default(0),
  limits,
  shardSize: count.default(32).describe('questions per shard'),
  salt,
  execution: z.strictObject({ window, microBatch, deviceClass }).prefault({}).describe(EXECUTION),
});

const OWN = ['activities/reward-model-card/'] as const;
/** Texts of a question next to its samples and mutants: two programs with their variants. */
const TEXTS_OF_PROBES = 34;

export const rewardModelCard = defineStage({
  name: 'rewardModelCard',
  does: 'a reward model to its card',
  kind: 'rewardModelCard',
  config: RewardModelCardConfig,
  settings: RewardModelCardConfig.optional().describe(
    'what the reward model knows and which biases it has, for people and for reinforcement.rewardModelGate; absent: the ' +
      'stage does not run',
  ),
  input: stageInput(
    {
      rewardModel: artifactRef('rewardModel').describe('a trained reward model'),
      questions: artifactInput('filteredQuestions').describe('filtered questions'),
      programs: artifactInput('programs').describe('their programs with verdicts'),
      hardened: artifactRef('programs')
        .optional()
        .describe('what hardening made: verdicts are by its tests; absent: by those of the questions'),
    },
    RewardModelCardConfig.prefault({}),
  ),
  example: {
    inputs: {
      rewardModel: {
        kind: 'rewardModel',
        key: 'artifacts/rewardModel/0000000000000000000000000000000000000000000000000000000000000000.json',
        digest: '0'.repeat(64),
        bytes: 1,
      },
      questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
      programs: { kind: 'programs', path: '/data/programs.jsonl' },
    },
    config: { questions: 200 },
  },
  metrics: RewardModelCard,
  makes: ({ questions, notProbed }) => ({
    what: 'questions with programs',
    count: questions,
    of: 'the questions of its split',
    leftOut: [notProbed],
    advice: "Sample programs of held-out questions (filtering.heldOutShare), or set 'split'.",
  }),
  steps: {
    plan: { queue: 'pipeline', version: 1, code: [...OWN, 'activities/policy/questions.ts'] },
    probe: {
      queue: 'sandbox',
      version: 1,
      code: [...OWN, 'workers/sent/variants.py', 'workers/runtime/mutation.py', ...JUDGE],
    },
    score: {
      queue: 'gpu',
      version: 1,
      code: [...OWN, 'activities/policy/score.ts', 'workers/runtime/conversation.py', 'workers/runtime/scoring.py'],
    },
    seal: { queue: 'pipeline', version: 1, code: [...OWN, 'activities/statistics/'] },
  },
  shardSteps: () => ['probe', 'score'],
  estimate({ split, questions, samples, mutants, execution, shardSize }, run) {
    const { backbone } = run.facts;
    const asked = Math.min(questions, split === 'heldOut' ? run.sampled - run.sampledTrain : run.sampledTrain);
    const texts = asked * (Math.min(samples, run.samples) + mutants + TEXTS_OF_PROBES);
    const judged = asked * (mutants + 8);
    return run.stage(
      {
        rows: { questions: asked, texts },
        sandboxCpuSeconds: (asked + judged) * MEASURED_RUN.sandboxSeconds,
        bytes: texts * MEASURED_RUN.rowBytes.pair,
        deviceSeconds:
          run.load + run.forward(backbone, texts * (MEASURED_RUN.promptTokens + run.answerTokens(run.programTokens))),
        memoryBytes: 2 * backbone.parameters,
      },
      run.shardsAtOnce(asked, shardSize, execution.window),
    );
  },
});
