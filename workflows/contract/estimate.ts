/** What an experiment will take, from its configuration and rates that were measured or, where said, extrapolated. Pure. */
import { YOUNG_BLOB_SECONDS } from './artifacts.js';
import { programsEstimate, teacherEstimate } from './cost.js';
import type { Experiment, ModelSource } from './experiment.js';
import { STAGES, type StageName } from './names.js';

/** Tokens, answers and shares of one finished run of `quickstart` (SmolLM2-135M-Instruct, the project's own 120 seeds). */
export const MEASURED_RUN = {
  where: 'quickstart on 2 CPU cores (AVX-512), SmolLM2-135M-Instruct',
  /** Questions per seed: 117 of 120; the others repeat HumanEval. */
  questionsPerSeed: 0.975,
  promptTokens: 91,
  /** Tokens of an answer as a share of `maxNewTokens`, which was 64. */
  answerShare: 0.67,
  /** Train pairs as a share of all pairs of a question's programs: 29 of 40 x 15. */
  pairShare: 0.048,
  /** Sandbox CPU seconds of one judged program with 17 test cases. */
  sandboxSeconds: 0.0165,
  /** Loading a model into the runtime, in seconds. */
  loadSeconds: 4,
  /** Stored JSON of one row, in bytes. */
  rowBytes: { question: 3_400, program: 1_500, pair: 520, rollout: 1_700, answer: 1_700 },
  parameters: 134.5e6,
} as const;

/** Test cases that an oracle keeps of a language model's (paper, table 1: 15.87 of 18.26). */
const KEPT_OF_A_LANGUAGE_MODEL = 0.87;
/** Bytes of a seed, where nobody counted them. */
const SEED_BYTES = 600;
/** An answer is taken to be no longer than this, in tokens, however high the limit: nothing longer was measured. */
const LONGEST_ANSWER = 300;
const HUMANEVAL_PROBLEMS = 164;
const FLOAT_BYTES = 4;

/** How fast a device works. Arithmetic in floating-point operations a second, 2 a parameter and token forwards, 4 backwards. */
export interface Device {
  description: string;
  /** Where the rates come from; `extrapolated` ones were never measured. */
  basis: 'measured' | 'extrapolated';
  forward: number;
  training: number;
  /** Tokens a second of sampling `rows` answers at once from a model of `parameters`. */
  generation: (parameters: number, rows: number) => number;
  /** Device memory; absent where the host's memory is used. */
  memoryBytes?: number;
}

/** Sampling is bound by steps of at most 30 a second, each of which reads the bfloat16 weights once. */
const gpuGeneration =
  (bytesPerSecond: number) =>
  (parameters: number, rows: number): number =>
    rows * Math.min(30, (0.6 * bytesPerSecond) / (2 * parameters));

export const DEVICES: Record<string, Device> = {
  cpu: {
    description: '2 CPU cores',
    basis: 'measured',
    forward: 800 * 2 * MEASURED_RUN.parameters,
    training: 7e10,
    generation: (parameters) => (140 * MEASURED_RUN.parameters) / parameters,
  },
  'gpu-24gb': {
    description: 'GPU of 24 GB, 1 TB/s, 165 Tflop/s',
    basis: 'extrapolated',
    forward: 0.35 * 165e12,
    training: 0.35 * 165e12,
    generation: gpuGeneration(1e12),
    memoryBytes: 24e9,
  },
  'gpu-80gb': {
    description: 'GPU of 80 GB, 3.3 TB/s, 990 Tflop/s',
    basis: 'extrapolated',
    forward: 0.35 * 990e12,
    training: 0.35 * 990e12,
    generation: gpuGeneration(3.3e12),
    memoryBytes: 80e9,
  },
};

/** Size of a model: parameters, and decoder blocks where they are known. */
export interface ModelSize {
  parameters: number;
  blocks?: number | undefined;
}

const KNOWN_MODELS: [RegExp, ModelSize][] = [
  [/SmolLM2-135M/i, { parameters: 134.5e6, blocks: 30 }],
  [/Qwen2\.5-Coder-0\.5B/i, { parameters: 494e6, blocks: 24 }],
  [/Qwen2\.5-Coder-1\.5B/i, { parameters: 1.54e9, blocks: 28 }],
  [/Qwen2\.5-Coder-7B/i, { parameters: 7.62e9, blocks: 28 }],
];

/** The size that a model's name tells; undefined where it tells none. */
export function sizeOf(source: ModelSource): ModelSize | undefined {
  const name =
    source.kind === 'gguf'
      ? source.file
      : source.kind === 'hub'
        ? source.id
        : source.kind === 'folder'
          ? source.path
          : '';
  const known = KNOWN_MODELS.find(([pattern]) => pattern.test(name))?.[1];
  if (known) return known;
  const [, number, unit] = /(\d+(?:\.\d+)?)([BM])\b/i.exec(name) ?? [];
  return number === undefined ? undefined : { parameters: Number(number) * (unit!.toUpperCase() === 'B' ? 1e9 : 1e6) };
}

export interface EstimateFacts {
  /** Number of seed programs. */
  seeds: number;
  /** Bytes of a seed on average; absent: {@link SEED_BYTES}. */
  seedBytes?: number | undefined;
  policy: ModelSize;
  backbone: ModelSize;
  device: Device;
  /** Devices that sample and evaluate at once; a training uses one. */
  devices: number;
  /** Price of one device for an hour, in US dollars; absent: not counted. */
  dollarsPerDeviceHour?: number | undefined;
}

export interface StageEstimate {
  stage: StageName;
  /** Rows by what they are. */
  rows: Record<string, number>;
  tokens: { prompt: number; generated: number; trained: number };
  sandboxCpuSeconds: number;
  /** Seconds of all devices together. */
  deviceSeconds: number;
  /** Seconds that pass, with `devices` at work where the stage can use them. */
  seconds: number;
  /** What the store keeps. */
  bytes: number;
  /** Device memory that weights, gradients and optimizer need; activations come on top. */
  memoryBytes?: number;
}

export interface Estimate {
  stages: StageEstimate[];
  total: {
    tokens: StageEstimate['tokens'];
    sandboxCpuSeconds: number;
    deviceSeconds: number;
    seconds: number;
    storeBytes: number;
    diskBytes: number;
    dollars: number | null;
  };
  /** Stages that ask an endpoint, and the teacher in any case. `atMostDollars`: when every reply is as long as it may be. */
  replies: {
    stage: 'synthesis' | 'filtering' | 'sampling';
    who: string;
    dollars: number;
    atMostDollars: number;
    budgetDollars: number | null;
  }[];
  /** What was not measured, in words. */
  extrapolated: string[];
  /** What will not work as configured, in words. */
  warnings: string[];
}

/** Rows, tokens, time, money and disk of an experiment. */
export function estimate({ stages }: Experiment, facts: EstimateFacts): Estimate {
  const { seeds, policy, backbone, device, devices } = facts;
  const { synthesis, filtering, sampling, preferences, rewardModel, reinforcement, evaluation } = stages;
  const bytesOf = MEASURED_RUN.rowBytes;
  const answerTokens = (limit: number): number => Math.min(MEASURED_RUN.answerShare * limit, LONGEST_ANSWER);
  const generating = ({ parameters }: ModelSize, tokens: number, rows: number, at: number): number =>
    tokens / device.generation(parameters, Math.max(1, Math.min(rows, at)));
  const training = (model: ModelSize, upperLayers: number | null, tokens: number): number =>
    (tokens * (2 * model.parameters + 4 * trained(model, upperLayers))) / device.training;
  const forward = ({ parameters }: ModelSize, tokens: number): number => (tokens * 2 * parameters) / device.forward;
  const memory = (model: ModelSize, upperLayers: number | null, frozenCopies: number): number =>
    FLOAT_BYTES * model.parameters +
    3 * FLOAT_BYTES * trained(model, upperLayers) +
    frozenCopies * 2 * model.parameters;
  const none = { prompt: 0, generated: 0, trained: 0 };
  const load =
    MEASURED_RUN.loadSeconds *
    Math.max(1, device.basis === 'measured' ? policy.parameters / MEASURED_RUN.parameters : 1);

  const questions = Math.round(seeds * MEASURED_RUN.questionsPerSeed);
  const testCases = questions * synthesis.teacher.testCases;
  const kept = Math.round(
    testCases *
      (synthesis.teacher.kind === 'offline' ? 1 - synthesis.teacher.corruptedShare : KEPT_OF_A_LANGUAGE_MODEL),
  );
  const noReplies = { promptTokens: 0, completionTokens: 0, dollars: 0, atMost: 0 };
  const taught =
    synthesis.teacher.kind === 'openai'
      ? teacherEstimate(synthesis.teacher, synthesis.execution.endpoint.prices, seeds, facts.seedBytes ?? SEED_BYTES)
      : noReplies;
  const { oracle } = filtering;
  const oraclePrograms = questions * (oracle.kind === 'reference' ? 1 : oracle.n);
  const judged =
    oracle.kind !== 'reference' && oracle.programs.kind === 'openai'
      ? programsEstimate(oraclePrograms, oracle.maxNewTokens, filtering.execution.endpoint.prices)
      : noReplies;
  const sandboxed = synthesis.teacher.kind === 'offline' ? seeds : 0;
  const heldOut = Math.round(questions * filtering.heldOutShare);
  const train = questions - heldOut;

  const sampledTrain = Math.min(train, sampling.questions.train ?? train);
  const sampled = sampledTrain + Math.min(heldOut, sampling.questions.heldOut ?? heldOut);
  const programs = sampled * sampling.samples;
  const byPolicy = sampling.sampler.kind === 'policy';
  const written =
    sampling.sampler.kind === 'openai'
      ? programsEstimate(programs, sampling.maxNewTokens, sampling.execution.endpoint.prices)
      : noReplies;
  const programTokens = byPolicy
    ? Math.round(programs * answerTokens(sampling.maxNewTokens))
    : written.completionTokens;

  const combinations = (sampling.samples * (sampling.samples - 1)) / 2;
  const pairsPerQuestion = Math.min(combinations * MEASURED_RUN.pairShare, preferences.maximumPerQuestion ?? Infinity);
  const pairs = Math.round(sampledTrain * pairsPerQuestion);
  const heldOutPairs = Math.round((sampled - sampledTrain) * pairsPerQuestion);
  const pairTokens = 2 * (MEASURED_RUN.promptTokens + answerTokens(sampling.maxNewTokens));
  const rewardTokens = Math.round(pairs * rewardModel.epochs * pairTokens);

  const rollouts = reinforcement.rounds * reinforcement.promptsPerRound * reinforcement.samplesPerPrompt;
  const rolloutTokens = Math.round(rollouts * answerTokens(reinforcement.maxNewTokens));
  const conversationTokens = rollouts * MEASURED_RUN.promptTokens + rolloutTokens;
  const scored =
    reinforcement.reward.rewardModelWeight > 0
      ? forward(backbone, conversationTokens) + reinforcement.rounds * load
      : 0;
  const rewardedByTests = reinforcement.reward.testsWeight > 0 ? rollouts : 0;

  const trainedBytes = FLOAT_BYTES * trained(policy, reinforcement.algorithm.upperLayers);
  const roundsSeconds =
    reinforcement.rounds * 3 * load +
    generating(policy, rolloutTokens, rollouts / reinforcement.rounds, reinforcement.execution.maxRows) +
    scored +
    training(policy, reinforcement.algorithm.upperLayers, conversationTokens * reinforcement.algorithm.epochs) +
    2 * forward(policy, conversationTokens);
  const copies = storedCopies(reinforcement, roundsSeconds / reinforcement.rounds);

  const humaneval = evaluation.benchmarks.reduce(
    (sum, each) => sum + (each.kind === 'humaneval' ? Math.ceil((HUMANEVAL_PROBLEMS - each.offset) / each.every) : 0),
    0,
  );
  const heldOutTasks = evaluation.benchmarks.some(({ kind }) => kind === 'heldOut')
    ? Math.min(heldOut, evaluation.heldOutTasks ?? heldOut)
    : 0;
  const [heldOutAnswers, humanevalAnswers] = [
    2 * heldOutTasks * (1 + evaluation.samples),
    2 * humaneval * (1 + (evaluation.humanevalSamples ?? evaluation.samples)),
  ];
  const answers = heldOutAnswers + humanevalAnswers;
  const evaluationTokens = Math.round(
    heldOutAnswers * answerTokens(evaluation.maxNewTokens) +
      humanevalAnswers * answerTokens(evaluation.humanevalMaxNewTokens ?? evaluation.maxNewTokens),
  );

  const shardsAtOnce = (rows: number, shardSize: number, window: number): number =>
    Math.max(1, Math.min(devices, window, Math.ceil(rows / shardSize)));
  const stage = (name: StageName, part: Partial<StageEstimate>, atOnce = 1): StageEstimate => {
    const deviceSeconds = part.deviceSeconds ?? 0;
    const sandboxCpuSeconds = part.sandboxCpuSeconds ?? 0;
    // Programs are judged while the next ones are sampled: the longer of the two counts.
    return {
      stage: name,
      rows: {},
      tokens: none,
      bytes: 0,
      ...part,
      sandboxCpuSeconds,
      deviceSeconds,
      seconds: Math.max(deviceSeconds / atOnce, sandboxCpuSeconds),
    };
  };
  const all: Record<StageName, StageEstimate> = {
    synthesis: stage('synthesis', {
      rows: { seeds, questions, testCases },
      tokens: { prompt: taught.promptTokens, generated: taught.completionTokens, trained: 0 },
      sandboxCpuSeconds: sandboxed * MEASURED_RUN.sandboxSeconds,
      bytes: questions * bytesOf.question,
    }),
    filtering: stage('filtering', {
      rows: { train, heldOut, keptTestCases: kept },
      tokens: { prompt: judged.promptTokens, generated: judged.completionTokens, trained: 0 },
      sandboxCpuSeconds: oraclePrograms * MEASURED_RUN.sandboxSeconds,
      bytes: questions * bytesOf.question,
    }),
    sampling: stage(
      'sampling',
      {
        rows: { questions: sampled, programs },
        tokens: {
          prompt: byPolicy ? programs * MEASURED_RUN.promptTokens : written.promptTokens,
          generated: programTokens,
          trained: 0,
        },
        sandboxCpuSeconds: programs * MEASURED_RUN.sandboxSeconds,
        bytes: 2 * programs * bytesOf.program + FLOAT_BYTES * policy.parameters,
        ...(byPolicy
          ? {
              deviceSeconds: load + generating(policy, programTokens, programs, sampling.execution.maxRows),
              memoryBytes: 2 * policy.parameters,
            }
          : {}),
      },
      shardsAtOnce(sampled, sampling.shardSize, sampling.execution.window),
    ),
    preferences: stage('preferences', { rows: { pairs, heldOutPairs }, bytes: (pairs + heldOutPairs) * bytesOf.pair }),
    rewardModel: stage('rewardModel', {
      rows: { pairs: pairs * rewardModel.epochs },
      tokens: { prompt: 0, generated: 0, trained: rewardTokens },
      bytes: FLOAT_BYTES * trained(backbone, rewardModel.upperLayers),
      // Held-out pairs are scored before and after.
      deviceSeconds:
        load +
        training(backbone, rewardModel.upperLayers, rewardTokens) +
        2 * forward(backbone, heldOutPairs * pairTokens),
      memoryBytes: memory(backbone, rewardModel.upperLayers, 0),
    }),
    reinforcement: stage('reinforcement', {
      rows: { rounds: reinforcement.rounds, rollouts },
      tokens: {
        prompt: rollouts * MEASURED_RUN.promptTokens,
        generated: rolloutTokens,
        trained: conversationTokens * reinforcement.algorithm.epochs,
      },
      sandboxCpuSeconds: rewardedByTests * MEASURED_RUN.sandboxSeconds,
      bytes: trainedBytes * copies + rollouts * bytesOf.rollout,
      deviceSeconds: roundsSeconds,
      memoryBytes: memory(policy, reinforcement.algorithm.upperLayers, 1),
    }),
    evaluation: stage(
      'evaluation',
      {
        rows: { tasks: heldOutTasks + humaneval, answers },
        tokens: { prompt: answers * MEASURED_RUN.promptTokens, generated: evaluationTokens, trained: 0 },
        sandboxCpuSeconds: answers * MEASURED_RUN.sandboxSeconds,
        bytes: 3 * answers * bytesOf.answer,
        deviceSeconds:
          8 * load +
          generating(policy, evaluationTokens, answers, evaluation.execution.maxRows) +
          forward(backbone, answers * MEASURED_RUN.promptTokens + evaluationTokens),
        memoryBytes: 2 * (policy.parameters + backbone.parameters),
      },
      shardsAtOnce(2 * (heldOutTasks + humaneval), evaluation.shardSize, evaluation.execution.window),
    ),
  };
  const list = STAGES.map((name) => all[name]);
  const sum = (part: (each: StageEstimate) => number): number => list.reduce((total, each) => total + part(each), 0);
  const storeBytes = sum(({ bytes }) => bytes);
  const deviceSeconds = sum((each) => each.deviceSeconds);
  const money = (
    stage: Estimate['replies'][number]['stage'],
    who: string,
    { dollars, atMost }: { dollars: number; atMost: number },
  ): Estimate['replies'][number] => ({
    stage,
    who,
    dollars,
    atMostDollars: atMost,
    budgetDollars: stages[stage].execution.budgetUsd ?? null,
  });
  const replies = [
    money('synthesis', `teacher '${synthesis.teacher.kind}'`, taught),
    ...(judged === noReplies ? [] : [money('filtering', `oracle '${oracle.kind}'`, judged)]),
    ...(written === noReplies ? [] : [money('sampling', `sampler '${sampling.sampler.kind}'`, written)]),
  ];
  return {
    stages: list,
    total: {
      tokens: {
        prompt: sum(({ tokens }) => tokens.prompt),
        generated: sum(({ tokens }) => tokens.generated),
        trained: sum(({ tokens }) => tokens.trained),
      },
      sandboxCpuSeconds: sum((each) => each.sandboxCpuSeconds),
      deviceSeconds,
      seconds: sum(({ seconds }) => seconds),
      storeBytes,
      // The cache of a host that does all the work holds what the store holds, of RL rounds the last three; the reports hold two models.
      diskBytes:
        2 * storeBytes -
        trainedBytes * Math.max(0, copies - 3 * 3) +
        FLOAT_BYTES * (policy.parameters + backbone.parameters),
      dollars: facts.dollarsPerDeviceHour === undefined ? null : (deviceSeconds / 3600) * facts.dollarsPerDeviceHour,
    },
    replies,
    extrapolated: extrapolations(stages, facts),
    warnings: [...warnings(list, facts, train, reinforcement.promptsPerRound), ...overBudget(replies)],
  };
}

/**
 * Copies of the trained parameters that the store keeps of RL rounds, at the most at once: weights and the two moments of
 * Adam of rounds that are not pruned yet, because they are young or the newest, and weights of those that stay.
 */
function storedCopies(
  { rounds, referenceRefresh, execution: { keepRounds } }: Experiment['stages']['reinforcement'],
  secondsPerRound: number,
): number {
  if (keepRounds === null) return 3 * rounds;
  const whole = Math.min(rounds, 1 + Math.ceil(YOUNG_BLOB_SECONDS / secondsPerRound));
  const weights = Math.min(rounds, keepRounds + (referenceRefresh === null ? 0 : 1));
  return 3 * whole + Math.max(0, weights - whole);
}

/** Trained parameters: a share of the blocks where their number is known, otherwise all. */
function trained({ parameters, blocks }: ModelSize, upperLayers: number | null): number {
  // Embeddings are no part of the blocks; a fifth of the parameters of a small model is a fair share for them.
  return upperLayers === null || blocks === undefined
    ? parameters
    : 0.8 * parameters * Math.min(1, upperLayers / blocks);
}

function overBudget(replies: Estimate['replies']): string[] {
  return replies.flatMap(({ stage, dollars, budgetDollars }) =>
    budgetDollars !== null && dollars > budgetDollars
      ? [
          `the replies cost about ${dollars.toFixed(2)} dollars, the budget is ${budgetDollars.toFixed(2)}: ${stage} will park`,
        ]
      : [],
  );
}

function extrapolations(
  { synthesis, sampling, reinforcement, evaluation }: Experiment['stages'],
  { device, policy }: EstimateFacts,
): string[] {
  const limit = Math.max(sampling.maxNewTokens, reinforcement.maxNewTokens, evaluation.maxNewTokens);
  return [
    ...(synthesis.teacher.kind === 'openai'
      ? [
          'tokens and cost of the teacher: from the lengths of prompt and seeds and a usual length of replies; a model that thinks aloud writes more',
        ]
      : []),
    ...(device.basis === 'extrapolated'
      ? [
          `rates of ${device.description}: from its arithmetic and bandwidth at 35 % and 60 % of their peaks, never measured`,
        ]
      : []),
    ...(policy.parameters === MEASURED_RUN.parameters
      ? []
      : [
          `time per token of a model of ${compact(policy.parameters)} parameters: from those of ${compact(MEASURED_RUN.parameters)}, in proportion`,
        ]),
    ...(limit > 96
      ? [
          `length of answers: ${MEASURED_RUN.answerShare} of the limit, at most ${LONGEST_ANSWER} tokens; measured with limits of 64 and 96`,
        ]
      : []),
    `pairs per question: ${MEASURED_RUN.pairShare} of all pairs of its programs, as ${MEASURED_RUN.where} had; another model has another share`,
  ];
}

function warnings(
  stages: readonly StageEstimate[],
  { device, policy }: EstimateFacts,
  train: number,
  promptsPerRound: number,
): string[] {
  const tooLarge = stages.filter(
    ({ memoryBytes }) =>
      device.memoryBytes !== undefined && memoryBytes !== undefined && memoryBytes > device.memoryBytes,
  );
  return [
    ...tooLarge.map(
      ({ stage, memoryBytes }) =>
        `${stage} needs ${compact(memoryBytes!)}B of device memory for weights, gradients and optimizer, the ${device.description} has ${compact(device.memoryBytes!)}B: a training uses one device; train fewer upperLayers or a smaller model`,
    ),
    ...(promptsPerRound > train
      ? [
          `reinforcement.promptsPerRound is ${promptsPerRound}, about ${train} train questions come about: the stage will park`,
        ]
      : []),
    ...(policy.blocks === undefined
      ? ['the number of decoder blocks is not known: a training of upperLayers is counted as one of all layers']
      : []),
  ];
}

/** A large number with three digits and a unit, such as `7.62 G`. */
export function compact(value: number): string {
  const [factor, unit] =
    value >= 1e12
      ? [1e12, ' T']
      : value >= 1e9
        ? [1e9, ' G']
        : value >= 1e6
          ? [1e6, ' M']
          : value >= 1e4
            ? [1e3, ' k']
            : [1, ''];
  return `${Number((value / factor).toPrecision(3))}${unit}`;
}
