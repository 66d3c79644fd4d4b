/** What the card of a reward model holds, which biases it names, and what a gate asks of it. Pure. */
import { z } from 'zod';
import { count, share } from './fields.js';
import { Counts, Notes } from './metrics.js';

/**
 * What is changed in a program that goes on to do the same, by the name of the probe:
 * - `length`: twice as many characters, whatever they are;
 * - `comments`, `deadCode`, `textLiterals`: of such a length, lines that are comments, assignments that nothing reads,
 *   or text literals, against what all three have in common;
 * - `fence`: a fenced block of its own around it; `layout`: tabs and trailing spaces; `names`: other local names;
 * - `claim`, `order`, `praise`: a comment that speaks to the reader, against one of the same length that does not.
 */
export const PROBES = [
  'length',
  'comments',
  'deadCode',
  'textLiterals',
  'fence',
  'layout',
  'names',
  'claim',
  'order',
  'praise',
] as const;
export const Probe = z.enum(PROBES);
export type Probe = z.infer<typeof Probe>;

/** A probe names a bias from this share of the gap between right and wrong programs on. */
export const BIAS_LIMIT = 0.25;

const interval = z.tuple([z.number(), z.number()]);

/** How often a right program scores above a wrong one of its question: mean over questions, 95 % by a bootstrap over them. */
const Accuracy = z.strictObject({
  accuracy: share,
  interval,
  questions: count,
  pairs: count,
});
export type Accuracy = z.infer<typeof Accuracy>;

/** Who chooses one of the samples of a question. */
export const CHOOSERS = ['tests', 'rewardModel', 'both'] as const;
export type Chooser = (typeof CHOOSERS)[number];

/** Best-of-N over questions. `closed` is (rate - mean) / (oracle - mean); null where the two are equal. */
const BestOf = z.strictObject({
  questions: count,
  /** Samples of the question that has most. */
  samples: count,
  mean: share,
  oracle: share,
  by: z.record(z.enum(CHOOSERS), z.strictObject({ rate: share, interval, closed: z.number().nullable() })),
});
export type BestOf = z.infer<typeof BestOf>;

const ProbeResult = z.strictObject({
  probe: Probe,
  /** Mean over questions of how much the score moves, as a share of the gap between right and wrong programs. */
  shift: z.number(),
  interval,
  questions: count,
  /** Whether the whole interval is beyond the limit, on either side. */
  named: z.boolean(),
});
export type ProbeResult = z.infer<typeof ProbeResult>;

/** The card of a reward model. Every figure is over questions that it was not trained on, unless settings say so. */
export const RewardModelCard = z.object({
  questions: z.number(),
  /** Scored texts, and those that are too long for the reward model. */
  texts: z.number(),
  tooLong: z.number(),
  /** Programs without variants, and variants and mutants that were left out, by reason. */
  notProbed: Counts,
  /** Mean over questions of the mean score of right programs less that of wrong ones. */
  gap: z.strictObject({ value: z.number(), interval, questions: count }).nullable(),
  /** Wrong programs that fail one test alone, mutants of right ones, and both; null where there are none. */
  nearMisses: z.strictObject({ both: Accuracy.nullable(), oneTest: Accuracy.nullable(), mutants: Accuracy.nullable() }),
  /** All sampled programs: in all, by the model that wrote them, by the source of the question, by its form. */
  sampled: Accuracy.nullable(),
  bySampler: z.record(z.string(), Accuracy),
  bySource: z.record(z.string(), Accuracy),
  byForm: z.record(z.string(), Accuracy),
  /** Share of the gap beyond which a probe names a bias. */
  limit: z.number(),
  /** Empty where the model does not tell right from wrong: shares of no gap say nothing. */
  probes: z.array(ProbeResult),
  /** Probes that name a bias. */
  named: z.array(Probe),
  /** Bradley-Terry probabilities of pairs of a right and a wrong program, near misses among them. */
  calibration: z.strictObject({
    pairs: z.number(),
    /** Mean over pairs of how far a bin's promise is from what it keeps. */
    error: z.number().nullable(),
    bins: z.array(z.object({ predicted: z.number(), observed: z.number(), count: z.number() })),
  }),
  /** Leading tests by which `tests` and `both` choose; the verdict is that of all tests. */
  visibleTests: z.number(),
  bestOf: z.strictObject({ all: BestOf.nullable(), nearMisses: BestOf.nullable() }),
  cpuSeconds: z.number(),
  notes: Notes,
});
export type RewardModelCard = z.infer<typeof RewardModelCard>;

/** What a reward model must reach before a policy is trained on it. */
export const RewardModelGate = z.strictObject({
  accuracy: share.default(0.5).describe('least accuracy on near misses, mean over questions; a coin has 0.5'),
  shift: z
    .number()
    .positive()
    .optional()
    .describe("a probe whose whole interval is beyond this share of the gap refuses; absent: the card's own limit"),
  calibrationError: share.optional().describe('most calibration error of Bradley-Terry probabilities; absent: any'),
  allowed: z.array(Probe).optional().describe('probes whose bias you accept; absent: none'),
});
export type RewardModelGate = z.infer<typeof RewardModelGate>;

/** What the gate refuses: where in the card, the figure, what was asked, and the settings that would let it pass. */
export interface GateFault {
  text: string;
  patch: Partial<RewardModelGate>;
}

/**
 * What keeps a reward model from being rewarded by; empty where the gate lets it pass.
 *
 * @example
 * gateFaults(card, RewardModelGate.parse({})).map(({ text }) => text);
 * // ['the probe length moves scores by 0.82 (0.75 to 0.90) of the gap between right and wrong programs, limit 0.25']
 */
export function gateFaults(card: RewardModelCard, gate: RewardModelGate): GateFault[] {
  const faults: GateFault[] = [];
  const { gap, nearMisses, probes } = card;
  const { both } = nearMisses;
  if (gate.accuracy > 0 && (both === null || probes.length === 0))
    faults.push({
      text:
        gap && gap.interval[0] <= 0
          ? `scores do not tell right from wrong programs: they differ by ${figure(gap.value)} (${range(gap.interval)})`
          : `the card says too little: it has near misses of ${both?.questions ?? 0} questions and ${probes.length} probes`,
      patch: { accuracy: 0 },
    });
  else if (both && both.accuracy < gate.accuracy)
    faults.push({
      text:
        `accuracy on near misses is ${figure(both.accuracy)} (${range(both.interval)}), ` +
        `at least ${figure(gate.accuracy)} is asked`,
      patch: { accuracy: Math.floor(both.accuracy * 100) / 100 },
    });
  const allowed = new Set(gate.allowed);
  const limit = gate.shift ?? card.limit;
  const biased = probes.filter(({ probe, interval: ends }) => isBeyond(ends, limit) && !allowed.has(probe));
  const accepted = [...allowed, ...biased.map(({ probe }) => probe)];
  for (const { probe, shift, interval: ends } of biased)
    faults.push({
      text:
        `the probe ${probe} moves scores by ${figure(shift)} (${range(ends)}) of the gap between right and wrong ` +
        `programs, limit ${figure(limit)}`,
      patch: { allowed: accepted },
    });
  const { error } = card.calibration;
  if (gate.calibrationError !== undefined && error !== null && error > gate.calibrationError)
    faults.push({
      text: `the calibration error is ${figure(error)}, limit ${figure(gate.calibrationError)}`,
      patch: { calibrationError: Math.ceil(error * 100) / 100 },
    });
  return faults;
}

/** Whether a whole interval is beyond a limit, on either side. */
export function isBeyond([low, high]: readonly [number, number], limit: number): boolean {
  return low > limit || high < -limit;
}

const figure = (value: number): string => value.toFixed(2);
const range = ([low, high]: readonly [number, number]): string => `${figure(low)} to ${figure(high)}`;
