/** The figures of a reward model's card, from scored texts. Pure. */
import {
  CHOOSERS,
  isBeyond,
  PROBES,
  type Accuracy,
  type BestOf,
  type CardRow,
  type CardText,
  type Chooser,
  type Probe,
  type ProbeResult,
  type RewardModelCard,
} from '../../workflows/contract/index.js';
import { groupedBy } from '../artifacts/collections.js';
import { deriveSeed } from '../artifacts/keys.js';
import { bootstrapDistributions, bootstrapMeans, quantile } from '../statistics/bootstrap.js';
import { calibration, calibrationError } from '../statistics/intervals.js';

export interface CardRule {
  /** Share of the gap beyond which a probe names a bias. */
  limit: number;
  seed: number;
  /** Draws of each interval; absent: those of all intervals. */
  resamples?: number;
}

type Figures = Omit<RewardModelCard, 'notProbed' | 'visibleTests' | 'cpuSeconds' | 'notes'>;

/** A right and a wrong program of one question, with the score of the right one less that of the wrong one. */
interface Pair {
  margin: number;
  /** Whether the wrong one fails one test alone, or is a mutant of the right one. */
  kind: 'oneTest' | 'mutant' | 'other';
  /** The model that wrote both, where rows name one. */
  sampler?: string | undefined;
}

type Scored = CardText & { score: number };

/** Samplers, sources and forms that are told apart, at most: those of most questions. */
const MOST_GROUPS = 20;
/** Fewer questions give no interval that names anything. */
const LEAST_QUESTIONS = 5;

/**
 * The card, from the texts of all questions. Questions are what is drawn for every interval, because programs of one
 * question depend on each other.
 *
 * @example
 * cardOf(rows, { limit: 0.25, seed: 1 }).named; // ['length']
 */
export function cardOf(rows: readonly CardRow[], rule: CardRule): Figures {
  const { limit, seed } = rule;
  const questions = rows.map((row) => ({ ...row, pairs: pairsOf(row.texts) }));
  const texts = rows.flatMap((row) => row.texts);
  const accuracy = (of: typeof questions, keep: (pair: Pair) => boolean, name: string): Accuracy | null =>
    accuracyOf(
      of.map(({ pairs }) => pairs.filter(keep)),
      { ...rule, seed: deriveSeed(seed, 'accuracy', name) },
    );
  const by = (
    namesOf: (row: (typeof questions)[number]) => readonly string[],
    keepOf: (name: string) => (pair: Pair) => boolean,
    what: string,
  ) => {
    const groups = new Map<string, typeof questions>();
    for (const row of questions)
      for (const name of new Set(namesOf(row))) groups.set(name, [...(groups.get(name) ?? []), row]);
    return Object.fromEntries(
      [...groups]
        .sort(([a, of], [b, other]) => other.length - of.length || (a < b ? -1 : 1))
        .slice(0, MOST_GROUPS)
        .flatMap(([name, own]) => {
          const found = accuracy(own, keepOf(name), `${what} ${name}`);
          return found ? [[name, found]] : [];
        }),
    );
  };
  const isSampled = ({ kind }: Pair): boolean => kind !== 'mutant';
  const margins = questions.flatMap(({ pairs }) => pairs.map(({ margin }) => margin));
  const bins = calibration(margins);
  const gap = gapOf(questions, rule);
  const probes =
    gap !== null && gap.interval[0] > 0 ? PROBES.flatMap((probe) => probeResult(probe, questions, rule)) : [];
  return {
    questions: rows.length,
    texts: texts.filter(({ score }) => score !== undefined).length,
    tooLong: texts.filter(({ score }) => score === undefined).length,
    gap,
    nearMisses: {
      both: accuracy(questions, ({ kind }) => kind !== 'other', 'near misses'),
      oneTest: accuracy(questions, ({ kind }) => kind === 'oneTest', 'one test'),
      mutants: accuracy(questions, ({ kind }) => kind === 'mutant', 'mutants'),
    },
    sampled: accuracy(questions, isSampled, 'sampled'),
    bySampler: by(
      ({ pairs }) => pairs.flatMap(({ sampler }) => sampler ?? []),
      (name) => (pair) => pair.sampler === name,
      'sampler',
    ),
    bySource: by(
      ({ source }) => [source],
      () => isSampled,
      'source',
    ),
    byForm: by(
      ({ form = 'function' }) => [form],
      () => isSampled,
      'form',
    ),
    limit,
    probes,
    named: probes.filter(({ named }) => named).map(({ probe }) => probe),
    calibration: { pairs: margins.length, error: calibrationError(bins), bins: bins.map((bin) => ({ ...bin })) },
    bestOf: {
      all: bestOf(rows, rule),
      nearMisses: bestOf(
        rows.filter(({ texts: own }) => own.some(({ as, fails }) => as === 'sampled' && fails === 1)),
        rule,
      ),
    },
  };
}

/** Distinct sampled programs against each other, and mutants against the program that they are mutants of. */
function pairsOf(texts: readonly CardText[]): Pair[] {
  const scored = texts.filter((text): text is Scored => text.score !== undefined);
  const sampled = scored.filter(({ as }) => as === 'sampled');
  const distinct = [...groupedBy(sampled, ({ sampler = '', program }) => `${sampler}\n${program}`).values()].map(
    ([first]) => first!,
  );
  const [right, wrong] = [true, false].map((of) => distinct.filter(({ fails }) => (fails === 0) === of)) as [
    Scored[],
    Scored[],
  ];
  return [
    ...right.flatMap((good) =>
      wrong.map((bad): Pair => ({
        margin: good.score - bad.score,
        kind: bad.fails === 1 ? 'oneTest' : 'other',
        ...(good.sampler !== undefined && good.sampler === bad.sampler ? { sampler: good.sampler } : {}),
      })),
    ),
    ...scored
      .filter(({ as, fails }) => as === 'plain' && fails === 0)
      .flatMap((plain) =>
        scored
          .filter(({ as, subject }) => as === 'mutant' && subject === plain.subject)
          .map((mutant): Pair => ({ margin: plain.score - mutant.score, kind: 'mutant' })),
      ),
  ];
}

const meanOf = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

/** Mean over questions of the share of pairs in which the right program scores higher; equal scores count half. */
function accuracyOf(pairs: readonly (readonly Pair[])[], rule: CardRule): Accuracy | null {
  const asked = pairs.filter((own) => own.length > 0);
  if (asked.length === 0) return null;
  const { accuracy } = bootstrapMeans(
    { accuracy: asked.map((own) => meanOf(own.map(({ margin }) => (margin > 0 ? 1 : margin === 0 ? 0.5 : 0)))) },
    rule,
  );
  return {
    accuracy: accuracy.mean,
    interval: accuracy.interval,
    questions: asked.length,
    pairs: asked.reduce((sum, own) => sum + own.length, 0),
  };
}

function gapOf(questions: readonly { pairs: readonly Pair[] }[], rule: CardRule): Figures['gap'] {
  const means = marginsOf(questions).filter((margin) => margin !== undefined);
  if (means.length === 0) return null;
  const { gap } = bootstrapMeans({ gap: means }, { ...rule, seed: deriveSeed(rule.seed, 'gap') });
  return { value: gap.mean, interval: gap.interval, questions: means.length };
}

/** Mean margin of each question; undefined for one without pairs. */
function marginsOf(questions: readonly { pairs: readonly Pair[] }[]): (number | undefined)[] {
  return questions.map(({ pairs }) => (pairs.length === 0 ? undefined : meanOf(pairs.map(({ margin }) => margin))));
}

/** Mean scores by the names of variants. */
type Means = (variant: string) => number;

const median = (values: readonly number[]): number => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)]!;
const FILLED = ['filledCode', 'filledComments', 'filledText'] as const;
const TOPS = ['topCode', 'topComments', 'topText'] as const;
/** What three texts that add as much in three ways have in common: an odd one of them does not move it. */
const common = (score: Means, variants: readonly string[]): number => median(variants.map(score)) - score('plain');
const beyondLength =
  (variant: string) =>
  (score: Means): number =>
    score(variant) - score('plain') - common(score, FILLED);
const against =
  (control: string, variant: string) =>
  (score: Means): number =>
    score(variant) - score(control);
const spoken = (name: string): Definition => ({
  needs: [name, `${name}Note`],
  moves: against(`${name}Note`, name),
});

/** The variants that a probe compares, and how far it moves mean scores. */
interface Definition {
  needs: readonly string[];
  moves: (score: Means) => number;
}

const DEFINITIONS: Readonly<Record<Probe, Definition>> = {
  length: { needs: ['plain', ...FILLED], moves: (score) => common(score, FILLED) },
  comments: { needs: ['plain', ...FILLED], moves: beyondLength('filledComments') },
  deadCode: { needs: ['plain', ...FILLED], moves: beyondLength('filledCode') },
  textLiterals: { needs: ['plain', ...FILLED], moves: beyondLength('filledText') },
  fence: {
    needs: ['plain', 'fence', ...TOPS],
    moves: (score) => score('fence') - score('plain') - common(score, TOPS),
  },
  layout: { needs: ['plain', 'layout'], moves: against('plain', 'layout') },
  names: { needs: ['plain', 'names'], moves: against('plain', 'names') },
  claim: spoken('claim'),
  order: spoken('order'),
  praise: spoken('praise'),
};

/** What a probe measures over the questions that have its variants; none where these are too few. */
function probeResult(
  probe: Probe,
  questions: readonly { texts: readonly CardText[]; pairs: readonly Pair[] }[],
  { limit, seed, ...options }: CardRule,
): ProbeResult[] {
  const { needs, moves } = DEFINITIONS[probe];
  const columns: Record<string, number[]> = Object.fromEntries([...needs, 'gap'].map((name) => [name, []]));
  const margins = marginsOf(questions);
  for (const [at, { texts }] of questions.entries()) {
    const margin = margins[at];
    const subjects = [...groupedBy(texts, ({ subject = -1 }) => String(subject)).values()].flatMap((own) => {
      const scores = needs.map((name) => own.find(({ as }) => as === name)?.score);
      return scores.every((score) => score !== undefined) ? [scores] : [];
    });
    if (margin === undefined || subjects.length === 0) continue;
    needs.forEach((name, place) => columns[name]!.push(meanOf(subjects.map((scores) => scores[place]!))));
    columns['gap']!.push(margin);
  }
  const { length } = columns['gap']!;
  if (length < LEAST_QUESTIONS) return [];
  const draws = bootstrapDistributions(columns, { ...options, seed: deriveSeed(seed, 'probe', probe) });
  const shares = draws['gap']!.map((gap, draw) => moves((name) => draws[name]![draw]!) / gap).sort();
  const shift = moves((name) => meanOf(columns[name]!)) / meanOf(columns['gap']!);
  const interval: [number, number] = [quantile(shares, 0.025), quantile(shares, 0.975)];
  return [{ probe, shift, interval, questions: length, named: isBeyond(interval, limit) }];
}

/** What one of several samples is chosen by. */
export interface Sample {
  right: boolean;
  /** Share of the leading tests that it passes. */
  visible: number;
  /** Score of the reward model; minus infinity where it cannot read the sample. */
  score: number;
}

/**
 * How likely the sample that is chosen is right: that with the highest key, the first number first, and any of those
 * that are equal.
 *
 * @throws RangeError for no sample.
 * @example
 * chosenRate(samples, ({ visible, score }) => [visible, score]);
 */
export function chosenRate(samples: readonly Sample[], keyOf: (sample: Sample) => readonly number[]): number {
  const keyed = samples.map((sample) => ({ sample, key: keyOf(sample) }));
  const compare = (a: readonly number[], b: readonly number[]): number => {
    const at = a.findIndex((value, place) => value !== b[place]);
    return at < 0 ? 0 : a[at]! > b[at]! ? 1 : -1;
  };
  const [first] = keyed;
  if (!first) throw new RangeError('there is no sample to choose');
  const best = keyed.reduce((most, each) => (compare(each.key, most.key) > 0 ? each : most), first);
  return meanOf(keyed.filter(({ key }) => compare(key, best.key) === 0).map(({ sample }) => Number(sample.right)));
}

/**
 * How each chooser ranks samples. `both` takes those that pass most of the leading tests, and of these the one with the
 * highest score: a failed test is a fact, and a score breaks the ties that few tests leave.
 */
export const KEYS: Readonly<Record<Chooser, (sample: Sample) => readonly number[]>> = {
  tests: ({ visible }) => [visible],
  rewardModel: ({ score }) => [score],
  both: ({ visible, score }) => [visible, score],
};

/** The sampled programs of a question, as they are chosen from. */
export function samplesOf({ texts }: Pick<CardRow, 'texts'>): Sample[] {
  return texts
    .filter(({ as }) => as === 'sampled')
    .map(({ fails, visiblePassRate = 0, score = -Infinity }) => ({
      right: fails === 0,
      visible: visiblePassRate,
      score,
    }));
}

/** Best-of-N over questions with two samples or more; null without them. */
function bestOf(rows: readonly CardRow[], { seed, ...options }: CardRule): BestOf | null {
  const questions = rows.map(samplesOf).filter(({ length }) => length > 1);
  if (questions.length === 0) return null;
  const mean = meanOf(questions.map((samples) => meanOf(samples.map(({ right }) => Number(right)))));
  const oracle = meanOf(questions.map((samples) => Number(samples.some(({ right }) => right))));
  const rates = bootstrapMeans(
    Object.fromEntries(
      CHOOSERS.map((chooser) => [chooser, questions.map((samples) => chosenRate(samples, KEYS[chooser]))]),
    ) as Record<Chooser, number[]>,
    { ...options, seed: deriveSeed(seed, 'best of') },
  );
  return {
    questions: questions.length,
    samples: Math.max(...questions.map(({ length }) => length)),
    mean,
    oracle,
    by: Object.fromEntries(
      CHOOSERS.map((chooser) => {
        const { mean: rate, interval } = rates[chooser];
        return [chooser, { rate, interval, closed: oracle > mean ? (rate - mean) / (oracle - mean) : null }];
      }),
    ) as BestOf['by'],
  };
}
