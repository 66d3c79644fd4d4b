/** Reinforcement: rounds of rollouts, rewards and policy updates. */
import { z } from 'zod';
import { artifactInput, artifactRef, YOUNG_BLOB_SECONDS } from '../artifacts.js';
import { canonicalJson } from '../canonical.js';
import { MEASURED_RUN } from '../estimation.js';
import {
  count,
  Decoding,
  EXECUTION,
  hostsExecution,
  limits,
  lowRank,
  maxRows,
  salt,
  seed,
  share,
  trainingExecution,
  upperLayers,
} from '../fields.js';
import { Counts, Environments } from '../metrics.js';
import { Curriculum, RoundCurriculum } from '../curriculum.js';
import { Repair, RoundRepair } from '../repair.js';
import { RewardModelGate } from '../reward-model-card.js';
import { FlaggedChoice, RoundWatch } from '../reward-watch.js';
import { ModelInput } from '../models.js';
import { merge } from '../presets.js';
import { JUDGE, PROGRAMS, SAMPLE } from './code.js';
import { defineStage, stageInput, type ArtifactStep } from '../stage-definition.js';

/**
 * Methods of the policy update; each is a file of workers/runtime/methods, and algorithms.test.ts compares the lists.
 */
export const ALGORITHMS = ['reinforce++', 'reinforce++-acecoder', 'grpo', 'rloo', 'dr-grpo', 'dapo'] as const;

/** Reward of a rollout: a weighted sum of its tests and its normalised reward-model score. */
export const RewardConfig = z.strictObject({
  testsWeight: z.number().nonnegative().default(1).describe('weight of the tests; 0: none are run'),
  tests: z
    .enum(['passRate', 'weightedPassRate', 'rareTests', 'allPass'])
    .default('allPass')
    .describe(
      'passRate: share of passed tests; weightedPassRate: the same, each test by its weight from the rollouts of its ' +
        'question (docs/explanation/verifier-quality.md); rareTests: the same, each test by the share of the rollouts ' +
        'that fail it (after VeRPO, arXiv 2601.03525); allPass: 1 where all pass, else 0',
    ),
  verifier: z
    .strictObject({
      correction: z
        .enum(['backward', 'forward', 'informedness'])
        .optional()
        .describe(
          'what tests earn, corrected by the TPR and FPR of the tests of the question: (earned - FPR) / (TPR - FPR) ' +
            '(backward), earned - TPR (forward; both arXiv 2510.00915), or earned x (TPR - FPR) (informedness); ' +
            'absent: as it is',
        ),
      minimumJ: z
        .number()
        .min(-1)
        .max(1)
        .optional()
        .describe('leave out the rollouts of questions whose tests have a lower TPR - FPR; absent: none'),
    })
    .optional()
    .describe(
      'use the measured quality of the tests of each question, from preferences.verifier; a question that was not ' +
        'measured is rewarded as it is; absent: not used',
    ),
  invalidBelowValid: z
    .boolean()
    .optional()
    .describe(
      'whether an answer that is no program that runs earns at most what the worst valid answer to its question ' +
        'does; absent: false',
    ),
  rewardModelWeight: z
    .number()
    .nonnegative()
    .default(0)
    .describe("weight of the reward model's score, in its held-out standard deviations; 0: not asked"),
  rewardModelWhere: z
    .enum(['always', 'unseparated'])
    .optional()
    .describe(
      'always: the score counts for every rollout; unseparated: only in groups whose rollouts earn the same by tests; ' +
        'absent: always',
    ),
  lengthPenalty: z
    .strictObject({
      tokens: count.describe('the penalty rises from 0 to its weight over the last so many of maxNewTokens'),
      weight: z.number().positive().default(1).describe('penalty of an answer as long as maxNewTokens'),
    })
    .optional()
    .describe('soft penalty of long answers (DAPO, arXiv 2503.14476, equation 13); absent: none'),
  truncated: z
    .enum(['keep', 'mask', 'penalise'])
    .optional()
    .describe(
      'an answer that maxNewTokens cut is rewarded as if it were whole (keep), left out of the update (mask: the ' +
        'overlong filtering of DAPO, section 3.4), or earns -1 whatever it does (penalise: the last case of equation ' +
        '13); absent: keep',
    ),
});

/** What an operator decided about an alarm of the watch: it holds from its round on, until the next one. */
const WatchDecision = z.strictObject({
  round: count.describe('round of the alarm'),
  flagged: FlaggedChoice,
});

/** Tests that no reward reads, and when a round is stopped because of them. */
const Watch = z.strictObject({
  hiddenShare: share
    .default(0.25)
    .describe(
      "share of each question's tests that no reward reads; at least one where there are two that differ, chosen by " +
        'a seed from that of the stage',
    ),
  judgedShare: share
    .default(0.04)
    .describe(
      'share of the rollouts whose programs run in rounds without reward from tests; at least one, and four times as ' +
        'many in the first round',
    ),
  gap: z
    .number()
    .min(-1)
    .max(1)
    .default(0.05)
    .describe(
      'an alarm needs a larger gap: pass rate by the visible tests less that by all tests, or what the reward model ' +
        'promises less what tests find; -1: nearly every round is an alarm, to try one',
    ),
  deviations: z
    .number()
    .nonnegative()
    .default(2)
    .describe('the mean gap of these rounds must be so many standard errors above that'),
  rounds: count.default(2).describe('the gap must be larger in so many rounds in a row'),
  decisions: z
    .array(WatchDecision)
    .min(1)
    .refine((all) => all.every(({ round }, at) => at === 0 || round > all[at - 1]!.round), {
      error: 'in the order of their rounds, one for each',
    })
    .optional()
    .describe('what was decided about earlier alarms, in the order of their rounds; the update resume writes it'),
});

/** What holds for one round, and for all rounds where nothing changes. */
const RoundSettings = z
  .strictObject({
    rounds: count.default(1).describe('rounds of rollouts, rewards and policy update'),
    questions: z
      .enum(['all', 'hard'])
      .default('all')
      .describe(
        'all train questions, or the hard quarter by the pass rates of the sampled programs: mean at most the ' +
          'median, and of those a spread of at least their median (the hard subset of the paper)',
      ),
    promptsPerRound: count.default(256).describe('train questions of a round; at most as many as there are'),
    samplesPerPrompt: z.number().int().min(2).default(8).describe('rollouts per question'),
    ...Decoding,
    reward: RewardConfig.prefault({})
      .refine((reward) => reward.testsWeight + reward.rewardModelWeight > 0, {
        error: 'at least one of testsWeight and rewardModelWeight must be above 0',
      })
      .describe('reward of a rollout: a weighted sum'),
    watch: Watch.optional().describe(
      'watch for reward hacking: a part of the tests is never reward, each round says what rewards do not see, and an ' +
        'alarm parks the stage (docs/explanation/rewards.md); absent: none',
    ),
    curriculum: Curriculum.optional().describe(
      'choose the questions of each round by their known pass rates: those of the sampled programs, then those of ' +
        'earlier rounds (docs/explanation/curriculum.md); absent: all questions in turn',
    ),
    repair: Repair.optional().describe(
      'let the policy mend programs that failed: they get feedback, are sampled again, and both answers are trained ' +
        '(docs/explanation/repair.md); absent: each question has one answer',
    ),
    rewardModelGate: RewardModelGate.optional().describe(
      'what the card of the reward model must say before anything is trained (stages.rewardModelCard makes the card); ' +
        'absent: nothing is asked',
    ),
    referenceRefresh: count
      .nullable()
      .default(null)
      .describe(
        'rounds after which the reference of the KL becomes the policy as it then is; null: it stays the first policy',
      ),
    asynchronous: z
      .strictObject({
        importanceCap: z.number().min(1).default(2).describe('importance weights of the loss are cut at this'),
      })
      .nullable()
      .default(null)
      .describe(
        'rollouts of a round come from the policy before the last update, so that the device samples while ' +
          'programs run (and, with two devices, trains); importance weights correct for it; null: each round ' +
          'samples the newest policy',
      ),
    importanceCap: z
      .number()
      .min(1)
      .nullable()
      .optional()
      .describe(
        'importance weights of synchronous rounds are cut at this; they correct for a sampler that computes otherwise ' +
          'than the trainer. null: no weights; absent: 2 where the engine is vllm or the device samples in bfloat16, ' +
          'and topP is 1',
      ),
    dropDegenerateGroups: z.boolean().default(false).describe('leave out groups whose rewards are all equal'),
    algorithm: z
      .strictObject({
        name: z
          .enum(ALGORITHMS)
          .default('reinforce++')
          .describe('method of the update; docs/reference/algorithms.md says what each is'),
        learningRate: z.number().positive().default(5e-7).describe('learning rate of Adam, constant after the warm-up'),
        warmupRatio: share
          .optional()
          .describe(
            'share of the rounds in which the learning rate rises to its peak, step by step; absent: none (the ' +
              "authors' fork has 0.03)",
          ),
        beta: z
          .number()
          .nonnegative()
          .default(0.01)
          .describe('coefficient of the KL penalty; where it goes is up to the method'),
        clip: z.number().positive().default(0.2).describe('the probability ratio is clipped to 1 - clip and 1 + clip'),
        clipHigh: z
          .number()
          .positive()
          .optional()
          .describe("upper clip; absent: the method's own (dapo: 0.28), else clip"),
        rewardClip: z.number().positive().default(10).describe('rewards are clipped to this magnitude'),
        batchSize: count.default(128).describe('rollouts of one optimizer step'),
        epochs: count.default(1).describe("passes over a round's rollouts"),
        endWeight: z
          .number()
          .nonnegative()
          .optional()
          .describe(
            'weight of the loss that teaches the policy to end an answer where the closing fence ended it; 0: none, ' +
              'absent: 1',
          ),
        upperLayers,
        lora: z
          .strictObject({
            ...lowRank,
            targetModules: z
              .array(z.string().min(1))
              .min(1)
              .refine((names) => new Set(names).size === names.length, { error: 'each once' })
              .optional()
              .describe('names of the linear layers that get adapters; absent: all but the output head'),
          })
          .optional()
          .describe(
            'train low-rank adapters (LoRA, arXiv 2106.09685) without dropout: the policy of a round is its adapters, ' +
              'and the last ones are merged into a whole model (docs/explanation/rl-rounds.md); absent: the weights ' +
              'themselves',
          ),
        maxGradNorm: z.number().positive().default(1).describe('the gradient is scaled down to this norm'),
      })
      .prefault({})
      .describe('the policy update'),
    seed: seed.default(0),
    limits,
    salt,
    execution: z
      .strictObject({
        ...trainingExecution,
        ...hostsExecution,
        maxRows,
        keepRounds: count
          .nullable()
          .default(3)
          .describe(
            'newest rounds whose policies stay in the store, beside the reference and what anything else names; ' +
              'of older ones the manifests stay, and what was pruned is made again where it is needed; null: all ' +
              'stay, with the state of their optimizers',
          ),
        storeStateEvery: count
          .optional()
          .describe(
            'rounds from one stored optimizer state to the next; between them the state stays on the host that ' +
              'trained, and where that host is lost, the rounds since the last stored one are trained again from ' +
              'their stored rollouts; absent: 1',
          ),
        aheadBytes: count
          .nullable()
          .optional()
          .describe(
            'the worker that has trained a policy of so many bytes or more, with the state of its optimizer, samples the ' +
              'next round from its own files while it sends them; null: never; absent: 100000000',
          ),
      })
      .prefault({})
      .describe(EXECUTION),
  })
  .refine(({ asynchronous, importanceCap, topP }) => (asynchronous === null && !importanceCap) || topP === 1, {
    path: ['topP'],
    error: '1 where importance weights are taken (asynchronous or importanceCap), which are of the whole vocabulary',
  })
  .refine(({ asynchronous, importanceCap }) => asynchronous === null || importanceCap === undefined, {
    path: ['importanceCap'],
    error: 'absent where rounds are asynchronous, which have a cap of their own',
  })
  .refine(({ algorithm: { lora, upperLayers } }) => !lora || upperLayers === null, {
    path: ['algorithm', 'lora'],
    error: 'absent where upperLayers is set: adapters and upper layers exclude each other',
  })
  .refine(({ algorithm: { lora }, execution }) => !lora || execution.sharding === 'none', {
    path: ['execution', 'sharding'],
    error: 'none where algorithm.lora is set: what adapters train needs no sharding',
  })
  .refine(({ execution: { hosts = 1, storeStateEvery = 1 } }) => hosts === 1 || storeStateEvery === 1, {
    path: ['execution', 'storeStateEvery'],
    error: 'absent or 1 where execution.hosts is above 1: every host needs the state of the round before',
  })
  .refine(({ algorithm: { lora }, referenceRefresh }) => !lora || referenceRefresh === null, {
    path: ['referenceRefresh'],
    error: 'null where algorithm.lora is set: the reference is the model below the adapters',
  })
  .refine(({ curriculum, asynchronous }) => !curriculum || asynchronous === null, {
    path: ['curriculum'],
    error: 'absent where rounds are asynchronous, which are planned before the verdicts of the round before are known',
  })
  .refine(({ curriculum, watch }) => !curriculum || !watch, {
    path: ['curriculum'],
    error: 'absent where rounds are watched: groups that are chosen by their rewards would decide what the watch sees',
  })
  .refine(({ curriculum, reward }) => !curriculum || reward.testsWeight > 0, {
    path: ['curriculum'],
    error: 'absent where reward.testsWeight is 0: without verdicts nothing is learnt about the questions',
  })
  .refine(({ curriculum, reward }) => !curriculum || reward.verifier?.minimumJ === undefined, {
    path: ['curriculum'],
    error: 'absent with reward.verifier.minimumJ: groups that it leaves out would be drawn again and again',
  })
  .refine(({ repair, reward }) => !repair || reward.testsWeight > 0, {
    path: ['repair'],
    error: 'absent where reward.testsWeight is 0: without verdicts no program has failed',
  })
  .refine(({ repair, curriculum }) => !repair || !curriculum, {
    path: ['repair'],
    error: 'absent with curriculum: what is known of a question is how often its first answers pass',
  });

/**
 * Settings that may be others from a round on. Each step's key holds those that decide its result, of its round, so
 * that a change leaves every key before it. What decides how rounds follow each other cannot change.
 */
export const ROUND_CHANGES = [
  'promptsPerRound',
  'samplesPerPrompt',
  'temperature',
  'topP',
  'maxNewTokens',
  'reward',
  'dropDegenerateGroups',
  'algorithm',
  'limits',
] as const satisfies readonly (keyof z.infer<typeof RoundSettings>)[];

const RoundChange = z.strictObject({
  fromRound: z.number().int().min(2).describe('first round with these settings'),
  settings: z
    .partialRecord(z.enum(ROUND_CHANGES), z.json())
    .describe(`settings that are others from that round on: ${ROUND_CHANGES.join(', ')}; merged member by member`),
});

/** Settings of the algorithm that say which parameters the optimizer has. */
const FIXED = ['upperLayers', 'lora'] as const;

/** What the check of changes reads. */
const CHANGED = z.object({
  rounds: z.number(),
  algorithm: z.object({ upperLayers: z.number().nullable(), lora: z.object({}).optional() }),
  changes: z.array(z.object({ fromRound: z.number(), settings: z.record(z.string(), z.unknown()) })).optional(),
});

export const ReinforcementConfig = RoundSettings.safeExtend({
  changes: z
    .array(RoundChange)
    .min(1)
    .optional()
    .describe('settings that change from a round on, in the order of their rounds; absent: all rounds have the same'),
}).superRefine(
  (config, context) => {
    let last = 1;
    for (const [index, { fromRound }] of (config.changes ?? []).entries()) {
      const at = ['changes', index];
      if (fromRound <= last || fromRound > config.rounds)
        context.addIssue({
          code: 'custom',
          path: [...at, 'fromRound'],
          input: fromRound,
          message: `above ${last}, the round of the change before, and at most ${config.rounds}, the rounds`,
        });
      last = fromRound;
      const { error } = RoundSettings.safeParse(changed(config, index + 1));
      for (const issue of error?.issues ?? [])
        context.addIssue({ ...issue, code: 'custom', path: [...at, 'settings', ...issue.path] });
      if (error) continue;
      const { algorithm } = changed(config, index + 1);
      for (const fixed of FIXED)
        if (canonicalJson(algorithm[fixed] ?? null) !== canonicalJson(config.algorithm[fixed] ?? null))
          context.addIssue({
            code: 'custom',
            path: [...at, 'settings', 'algorithm', fixed],
            input: algorithm[fixed],
            message: 'the same in all rounds: the optimizer goes on with the state of the round before',
          });
    }
  },
  { when: ({ value }) => CHANGED.safeParse(value).success },
);
export type ReinforcementConfig = z.infer<typeof ReinforcementConfig>;

/** A configuration with its first `count` changes applied, and without the list of them. Not checked. */
function changed(
  { changes = [], ...settings }: ReinforcementConfig,
  count: number,
): Omit<ReinforcementConfig, 'changes'> {
  return changes.slice(0, count).reduce<unknown>((merged, change) => merge(merged, change.settings), settings) as Omit<
    ReinforcementConfig,
    'changes'
  >;
}

/**
 * The settings of one round: those of the stage, with every change up to that round.
 *
 * @example
 * const config = ReinforcementConfig.parse({ rounds: 4, changes: [{ fromRound: 3, settings: { topP: 0.9 } }] });
 * roundSettings(config, 2).topP; // 1
 * roundSettings(config, 3).topP; // 0.9
 */
export function roundSettings(config: ReinforcementConfig, round: number): ReinforcementConfig {
  const settings = { ...config, ...(config.watch ? { watch: watchOf(config.watch, round) } : {}) };
  if (settings.changes === undefined) return settings;
  const { length } = settings.changes.filter(({ fromRound }) => fromRound <= round);
  return ReinforcementConfig.parse(changed(settings, length));
}

/** The watch with the decision that holds for a round, if there is one. */
function watchOf({ decisions = [], ...watch }: z.infer<typeof Watch>, round: number): z.infer<typeof Watch> {
  const held = decisions.findLast((decision) => decision.round <= round);
  return { ...watch, ...(held ? { decisions: [held] } : {}) };
}

/** Whether some round uses the measured quality of tests. */
export function usesVerifiers({ reward, changes = [] }: ReinforcementConfig): boolean {
  return [reward, ...changes.map(({ settings }) => settings.reward)].some((each) => VERIFIED.safeParse(each).success);
}

/** Runs of rounds with the same settings, in order. */
function segmentsOf(config: ReinforcementConfig): ReinforcementConfig[] {
  const starts = [1, ...(config.changes ?? []).map(({ fromRound }) => fromRound)];
  return starts.map((from, index) => ({
    ...roundSettings(config, from),
    rounds: (starts[index + 1] ?? config.rounds + 1) - from,
  }));
}

/**
 * What the check over several fields reads; it is made also where other fields are wrong, so that all mistakes are told
 * together.
 */
const REWARDED = z.object({
  inputs: z.looseObject({}),
  config: z.object({
    questions: z.string(),
    reward: z.looseObject({ rewardModelWeight: z.number() }),
    rewardModelGate: z.object({}).optional(),
    changes: z.array(z.object({ settings: z.record(z.string(), z.unknown()) })).optional(),
  }),
});
const WEIGHTED = z.object({ rewardModelWeight: z.number().positive() });
const VERIFIED = z.object({ verifier: z.object({}) });

/** What rewards depend on of repair turns. */
function creditOf({ credit, discount }: Repair): Pick<Repair, 'credit'> & Partial<Pick<Repair, 'discount'>> {
  return { credit, ...(credit === 'discounted' ? { discount } : {}) };
}

/** Each step of a round makes an artifact of its own. */
const step = (definition: ArtifactStep<ReinforcementConfig>): ArtifactStep<ReinforcementConfig> => definition;
const OWN = 'activities/reinforcement/activities.ts';

/** The settings that a policy update depends on; a card of what is merged from it shows the same. */
const updateSemantics: ArtifactStep<ReinforcementConfig>['semantics'] = ({
  algorithm,
  seed,
  temperature,
  maxNewTokens,
  asynchronous,
  importanceCap,
  rounds,
}) => ({
  algorithm,
  seed,
  temperature,
  maxNewTokens,
  ...(asynchronous ? { asynchronous } : {}),
  ...(importanceCap === undefined ? {} : { importanceCap }),
  // More rounds are a longer warm-up.
  ...(algorithm.warmupRatio ? { rounds } : {}),
});

export const reinforcement = defineStage({
  name: 'reinforcement',
  does: 'RL rounds',
  kind: 'policy',
  model: 'policy',
  config: ReinforcementConfig,
  settings: ReinforcementConfig.nullable().prefault({}).describe('RL rounds; null: none are run'),
  input: stageInput(
    {
      questions: artifactInput('filteredQuestions').describe('filtered questions'),
      policy: ModelInput.describe('the model that is trained'),
      rewardModel: artifactRef('rewardModel').describe('a trained reward model').optional(),
      programs: artifactInput('programs')
        .optional()
        .describe("programs with pass rates, for config.questions 'hard' and for config.curriculum"),
      hardened: artifactRef('programs')
        .optional()
        .describe('what hardening made: rewards are by its tests; absent: by those of the questions'),
      verifiers: artifactRef('pairs')
        .optional()
        .describe('pairs with the quality of the tests of each question, for config.reward.verifier'),
      rewardModelCard: artifactRef('rewardModelCard')
        .optional()
        .describe('the card of the reward model, for config.rewardModelGate'),
    },
    ReinforcementConfig.prefault({}),
  ).superRefine(
    ({ inputs, config }, context) => {
      const rewards: unknown[] = [config.reward, ...(config.changes ?? []).map(({ settings }) => settings.reward)];
      const weighted = rewards.findIndex((reward) => WEIGHTED.safeParse(reward).success);
      if (weighted >= 0 && inputs.rewardModel === undefined) {
        const place = weighted === 0 ? 'reward' : `changes.${weighted - 1}.settings.reward`;
        context.addIssue({
          code: 'custom',
          path: ['inputs', 'rewardModel'],
          message: `needed, because config.${place}.rewardModelWeight is above 0`,
        });
      }
      const measured = rewards.findIndex((reward) => VERIFIED.safeParse(reward).success);
      if (measured >= 0 && inputs['verifiers'] === undefined) {
        const place = measured === 0 ? 'reward' : `changes.${measured - 1}.settings.reward`;
        context.addIssue({
          code: 'custom',
          path: ['inputs', 'verifiers'],
          message: `needed, because config.${place}.verifier is set`,
        });
      }
      if (config.rewardModelGate && (inputs['rewardModelCard'] === undefined || inputs.rewardModel === undefined)) {
        context.addIssue({
          code: 'custom',
          path: ['inputs', inputs.rewardModel === undefined ? 'rewardModel' : 'rewardModelCard'],
          message: 'needed, because config.rewardModelGate is set',
        });
      }
      if (config.questions === 'hard' && inputs['programs'] === undefined) {
        context.addIssue({
          code: 'custom',
          path: ['inputs', 'programs'],
          message: "needed, because config.questions is 'hard'",
        });
      }
    },
    { when: ({ value }) => REWARDED.safeParse(value).success },
  ),
  example: {
    inputs: {
      questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
      policy: { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', revision: 'main' },
    },
    config: { rounds: 2 },
  },
  /** Metrics of one round's policy. */
  metrics: z.object({
    round: z.number(),
    steps: z.number(),
    /** Rollouts of the round, and those that were trained on. */
    rollouts: z.number(),
    trained: z.number(),
    /** Rollouts that were left out, by reason. */
    dropped: Counts,
    rewardMean: z.number(),
    kl: z.number(),
    entropy: z.number(),
    clipFraction: z.number(),
    nonZeroAdvantages: z.number(),
    /** Share of the rollouts that the limit of tokens cut; absent in what version 0.1.0 made. */
    truncated: z.number().optional(),
    /** Mean probability, before the update, that the policy ends an answer where the fence closed it. */
    endProbability: z.number().optional(),
    /** What the watch for reward hacking saw; absent where there is none. */
    watch: RoundWatch.optional(),
    /** What came of the draws; absent where the questions are asked in turn. */
    curriculum: RoundCurriculum.optional(),
    /** What came of the repair turns; absent where each question has one answer. */
    repair: RoundRepair.optional(),
    /** Why importance weights were taken; absent in what version 0.1.0 made. */
    correction: z.enum(['asynchronous', 'setting', 'engine', 'dtype', 'none']).optional(),
    environments: Environments,
  }),
  steps: {
    plan: step({
      queue: 'pipeline',
      version: 1,
      kind: 'roundPlan',
      code: [
        OWN,
        'activities/reinforcement/curriculum.ts',
        'activities/reinforcement/hard-questions.ts',
        'activities/reinforcement/hidden-tests.ts',
        'activities/policy/questions.ts',
      ],
      semantics: ({ promptsPerRound, samplesPerPrompt, seed, salt, questions, watch, curriculum, reward }) => ({
        promptsPerRound,
        samplesPerPrompt,
        seed,
        salt,
        questions,
        ...(watch ? { hiddenShare: watch.hiddenShare } : {}),
        ...(curriculum ? { curriculum, tests: reward.tests } : {}),
      }),
    }),
    rollouts: step({
      queue: 'gpu',
      version: 1,
      kind: 'rollouts',
      code: [
        OWN,
        'activities/runtime/ahead.ts',
        ...SAMPLE,
        'activities/policy/adapters.ts',
        'workers/runtime/adapters.py',
      ],
      // Without a setting the device decides, too, whether rollouts carry log-probabilities. No key may hold that.
      semantics: ({ engine, temperature, topP, maxNewTokens, asynchronous, importanceCap }) => ({
        ...(engine ? { engine } : {}),
        temperature,
        topP,
        maxNewTokens,
        ...(asynchronous || importanceCap || (engine && topP === 1 && importanceCap === undefined)
          ? { logProbs: true }
          : {}),
      }),
    }),
    // Programs that failed run again, alone with the calls that feedback is about.
    repair: step({
      queue: 'sandbox',
      version: 2,
      kind: 'roundPlan',
      code: [
        OWN,
        'activities/reinforcement/repair.ts',
        'activities/reinforcement/hidden-tests.ts',
        'activities/languages/',
        'activities/policy/prompt.ts',
        ...PROGRAMS,
        ...JUDGE,
      ],
      semantics: ({ repair, seed, limits }) => {
        const { hiddenShare, shows, length } = repair ?? Repair.parse({});
        return { repair: { hiddenShare, shows, length }, seed, limits };
      },
    }),
    judge: step({
      queue: 'sandbox',
      version: 4,
      kind: 'verdicts',
      code: [OWN, 'activities/reinforcement/hidden-tests.ts', 'activities/policy/prompt.ts', ...PROGRAMS, ...JUDGE],
      semantics: ({ limits, watch, reward }) => ({
        limits,
        ...(watch && reward.testsWeight === 0 ? { judgedShare: watch.judgedShare } : {}),
      }),
    }),
    score: step({
      queue: 'gpu',
      version: 1,
      kind: 'scores',
      code: [
        OWN,
        'activities/languages/',
        'activities/policy/prompt.ts',
        'activities/policy/score.ts',
        'workers/runtime/conversation.py',
        'workers/runtime/scoring.py',
      ],
      semantics: () => ({}),
    }),
    reward: step({
      queue: 'pipeline',
      version: 1,
      kind: 'rewards',
      code: [
        OWN,
        'activities/reinforcement/curriculum.ts',
        'activities/reinforcement/repair.ts',
        'activities/reinforcement/rewards.ts',
        'activities/reinforcement/watch.ts',
        'activities/statistics/verifier-quality.ts',
      ],
      semantics: ({ reward, dropDegenerateGroups, algorithm, maxNewTokens, watch, curriculum, repair }) => ({
        reward,
        dropDegenerateGroups,
        rewardClip: algorithm.rewardClip,
        ...(reward.lengthPenalty ? { maxNewTokens } : {}),
        // The plan, which is an input then, says which tests are hidden.
        ...(watch ? { watch: { flagged: watch.decisions?.at(-1)?.flagged ?? 'keep' } } : {}),
        // The plan says what another draw may cost.
        ...(curriculum ? { curriculum: true } : {}),
        ...(repair ? { repair: creditOf(repair) } : {}),
      }),
    }),
    update: step({
      queue: 'gpu',
      version: 3,
      kind: 'policy',
      code: [
        OWN,
        'activities/reinforcement/correction.ts',
        'workers/runtime/answer_ends.py',
        'workers/runtime/learning_rates.py',
        'workers/runtime/policy_update.py',
        'workers/runtime/training.py',
        'workers/runtime/log_probabilities.py',
        'workers/runtime/micro_batches.py',
        'workers/runtime/output_head.py',
        'workers/runtime/packing.py',
        'workers/runtime/adapters.py',
        'workers/runtime/methods/',
        'workers/runtime/models.py',
      ],
      semantics: updateSemantics,
    }),
    merge: step({
      queue: 'gpu',
      version: 1,
      kind: 'policy',
      code: [OWN, 'workers/runtime/adapters.py', 'workers/runtime/models.py'],
      semantics: updateSemantics,
    }),
    // It makes what `rollouts` makes, under the key of that.
    ahead: { queue: 'gpu', version: 1, code: [] },
    prune: { queue: 'pipeline', version: 1, code: [] },
    gate: { queue: 'pipeline', version: 1, code: [] },
  },
  names: ({ engine }) => ({ engine }),
  estimate(config, run) {
    const { rounds, algorithm, execution } = config;
    const { policy, backbone } = run.facts;
    const segments = segmentsOf(config).map(({ rounds: of, ...settings }) => {
      const { promptsPerRound, samplesPerPrompt, maxNewTokens, reward } = settings;
      // At the most, where groups without signal are drawn again, or every program fails in every turn.
      const { curriculum, repair } = settings;
      const perRound =
        promptsPerRound * samplesPerPrompt * (1 + (curriculum?.redraw?.budget ?? 0)) * (repair?.turns ?? 1);
      const rollouts = Math.round(of * perRound);
      const generated = Math.round(rollouts * run.answerTokens(maxNewTokens));
      const conversations = rollouts * MEASURED_RUN.promptTokens + generated;
      const scored = reward.rewardModelWeight > 0 ? run.forward(backbone, conversations) + of * run.load : 0;
      return {
        promptsPerRound,
        rollouts,
        generated,
        trained: conversations * settings.algorithm.epochs,
        sandboxCpuSeconds:
          rollouts * (reward.testsWeight > 0 ? 1 : (settings.watch?.judgedShare ?? 0)) * MEASURED_RUN.sandboxSeconds,
        deviceSeconds:
          of * 3 * run.load +
          run.generating(policy, generated, perRound, execution.maxRows) +
          scored +
          run.training(policy, algorithm.upperLayers, conversations * settings.algorithm.epochs) +
          2 * run.forward(policy, conversations),
      };
    });
    const sum = (of: (segment: (typeof segments)[number]) => number): number =>
      segments.reduce((all, segment) => all + of(segment), 0);
    const [rollouts, deviceSeconds] = [sum((each) => each.rollouts), sum((each) => each.deviceSeconds)];
    const mostPrompts = Math.max(...segments.map(({ promptsPerRound }) => promptsPerRound));
    const hard = config.questions === 'hard';
    const available = hard ? Math.round(run.train / 4) : run.train;
    run.policies += 1;
    // Adapters are about a hundredth of a model, and the merged one is stored once.
    const layers = algorithm.lora ? 0 : algorithm.upperLayers;
    const trainedBytes = run.storedTrained(policy, layers);
    const mergedBytes = algorithm.lora ? run.stored(policy) : 0;
    const copies = storedCopies(config, deviceSeconds / rounds);
    return run.stage({
      rows: { rounds, rollouts },
      tokens: {
        prompt: rollouts * MEASURED_RUN.promptTokens,
        generated: sum((each) => each.generated),
        trained: sum((each) => each.trained),
      },
      sandboxCpuSeconds: sum((each) => each.sandboxCpuSeconds),
      bytes: trainedBytes * copies + mergedBytes + rollouts * MEASURED_RUN.rowBytes.rollout,
      // A host's cache holds the last three rounds.
      uncachedBytes: trainedBytes * Math.max(0, copies - 3 * 3),
      deviceSeconds,
      memoryBytes: run.memory(policy, layers, 1),
      warnings:
        mostPrompts > available
          ? [
              `reinforcement.promptsPerRound is ${mostPrompts}, about ${available}${hard ? ' hard' : ''} train questions come ` +
                `about: the stage will park`,
            ]
          : [],
    });
  },
});

/**
 * Copies of the trained parameters that the store keeps of RL rounds, at the most at once: weights and the two moments
 * of Adam of rounds that are not pruned yet, because they are young or the newest, and weights of those that stay.
 */
function storedCopies(
  {
    rounds,
    referenceRefresh,
    execution: { keepRounds, storeStateEvery = 1 },
  }: Pick<ReinforcementConfig, 'rounds' | 'referenceRefresh' | 'execution'>,
  secondsPerRound: number,
): number {
  if (keepRounds === null) return 3 * rounds;
  const whole = Math.min(rounds, 1 + Math.ceil(YOUNG_BLOB_SECONDS / secondsPerRound));
  const reference = referenceRefresh === null ? 0 : 1;
  const weights = Math.min(rounds, Math.max(whole, keepRounds + reference, storeStateEvery + reference));
  const states = Math.min(whole, 1 + Math.ceil(whole / storeStateEvery));
  return weights + 2 * states;
}
