/**
 * What an experiment will take, from its configuration: each stage's own estimate, and what holds for all of them.
 * Pure.
 */
import { EstimateRun, LONGEST_ANSWER, MEASURED_RUN, type EstimateFacts, type StageEstimate } from './estimation.js';
import { stagesOf } from './chain.js';
import type { Experiment } from './experiment.js';
import { STAGE_LIST, type StageName } from './stages/index.js';

export type { EstimateFacts } from './estimation.js';
export { DEVICES, MEASURED_RUN, sizeOf, type ModelSize } from './estimation.js';

type OfStage = StageEstimate & { stage: StageName };

export interface Estimate {
  stages: OfStage[];
  total: {
    tokens: StageEstimate['tokens'];
    sandboxCpuSeconds: number;
    deviceSeconds: number;
    seconds: number;
    storeBytes: number;
    diskBytes: number;
    dollars: number | null;
  };
  /**
   * Stages that ask an endpoint, and the teacher in any case. `atMostDollars`: when every reply is as long as it may
   * be.
   */
  replies: (NonNullable<StageEstimate['replies']> & { stage: StageName })[];
  /** What was not measured, in words. */
  extrapolated: string[];
  /** What will not work as configured, in words. */
  warnings: string[];
}

/**
 * Rows, tokens, time, money and disk of an experiment.
 *
 * @example
 * estimate(Experiment.parse(file), { seeds: 120, policy, backbone: policy, device: DEVICES['cpu']!, devices: 1
 * }).total.seconds;
 */
export function estimate({ stages: settings }: Experiment, facts: EstimateFacts): Estimate {
  const run = new EstimateRun(facts);
  const runs = new Set(stagesOf(settings));
  const stages = STAGE_LIST.filter(({ name }) => runs.has(name)).map(({ name, withSettings }): OfStage => ({
    stage: name,
    ...withSettings(settings[name]).estimate(run),
  }));
  const sum = (part: (each: StageEstimate) => number): number => stages.reduce((total, each) => total + part(each), 0);
  const storeBytes = sum(({ bytes }) => bytes);
  const deviceSeconds = sum((each) => each.deviceSeconds);
  const replies = stages.flatMap(({ stage, replies: asked }) => (asked ? [{ stage, ...asked }] : []));
  return {
    stages: stages.map(
      ({ replies: _replies, extrapolated: _extrapolated, warnings: _warnings, uncachedBytes: _uncached, ...stage }) =>
        stage,
    ),
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
      // The cache of a host that does all the work holds what the store holds, less old RL rounds; the reports hold two
      // models.
      diskBytes:
        2 * storeBytes -
        sum(({ uncachedBytes }) => uncachedBytes ?? 0) +
        run.stored(facts.policy) +
        run.stored(facts.backbone),
      dollars: facts.dollarsPerDeviceHour === undefined ? null : (deviceSeconds / 3600) * facts.dollarsPerDeviceHour,
    },
    replies,
    extrapolated: [...stages.flatMap(({ extrapolated }) => extrapolated ?? []), ...extrapolations(settings, facts)],
    warnings: [
      ...tooLarge(stages, facts),
      ...stages.flatMap(({ warnings }) => warnings ?? []),
      ...(facts.policy.blocks === undefined
        ? ['the number of decoder blocks is not known: a training of upperLayers is counted as one of all layers']
        : []),
      ...overBudget(replies),
    ],
  };
}

function overBudget(replies: Estimate['replies']): string[] {
  return replies.flatMap(({ stage, dollars, budgetDollars }) =>
    budgetDollars !== null && dollars > budgetDollars
      ? [
          `the replies cost about ${dollars.toFixed(2)} dollars, the budget is ${budgetDollars.toFixed(2)}: ` +
            `${stage} will park`,
        ]
      : [],
  );
}

function extrapolations(settings: Experiment['stages'], { device, policy }: EstimateFacts): string[] {
  const limit = Math.max(
    settings.sampling.maxNewTokens,
    settings.reinforcement?.maxNewTokens ?? 0,
    settings.evaluation.maxNewTokens,
  );
  return [
    ...(device.basis === 'extrapolated'
      ? [
          `rates of ${device.description}: from its arithmetic and bandwidth at 35 % and 60 % of their peaks, ` +
            `never measured`,
        ]
      : []),
    ...(policy.parameters === MEASURED_RUN.parameters
      ? []
      : [
          `time per token of a model of ${compact(policy.parameters)} parameters: from those of ` +
            `${compact(MEASURED_RUN.parameters)}, in proportion`,
        ]),
    ...(limit > 96
      ? [
          `length of answers: ${MEASURED_RUN.answerShare} of the limit, at most ${LONGEST_ANSWER} tokens; ` +
            `measured with limits of 64 and 96`,
        ]
      : []),
    `pairs per question: ${MEASURED_RUN.pairShare} of all pairs of its programs, as ${MEASURED_RUN.where} had; ` +
      `another model has another share`,
  ];
}

function tooLarge(stages: readonly OfStage[], { device }: EstimateFacts): string[] {
  return stages.flatMap(({ stage, memoryBytes }) =>
    device.memoryBytes !== undefined && memoryBytes !== undefined && memoryBytes > device.memoryBytes
      ? [
          `${stage} needs ${compact(memoryBytes)}B of device memory for weights, gradients and optimizer, the ` +
            `${device.description} has ${compact(device.memoryBytes)}B: a training uses one device; train fewer ` +
            `upperLayers or a smaller model`,
        ]
      : [],
  );
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
