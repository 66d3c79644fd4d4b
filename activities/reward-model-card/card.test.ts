import { describe, expect, test } from 'vitest';
import { gateFaults, RewardModelGate, type CardRow, type CardText } from '../../workflows/contract/index.js';
import { cardOf, chosenRate, KEYS, type Sample } from './card.js';

const RULE = { limit: 0.25, seed: 1, resamples: 500 };

const VARIANTS = [
  ...['plain', 'filledCode', 'filledComments', 'filledText', 'fence', 'topCode', 'topComments', 'topText', 'layout'],
  ...['names', 'claim', 'claimNote', 'order', 'orderNote', 'praise', 'praiseNote'],
] as const;

/** Questions with a right program at 2, a near miss at 1, a worse one at 0 and a mutant at 1, and scored variants. */
function rows(moves: Partial<Record<(typeof VARIANTS)[number], number>>, questions = 12): CardRow[] {
  return Array.from({ length: questions }, (_, at): CardRow => {
    // Alike in all variants of a question, so that it moves no difference.
    const own = (at % 3) / 10;
    const sampled = (program: string, score: number, fails: number): CardText => ({
      ...{ as: 'sampled', program, score: score + own, fails, visiblePassRate: fails > 1 ? 0 : 1 },
      sampler: at % 2 === 0 ? 'own' : 'other',
    });
    return {
      ...{ questionId: `q${at}`, question: 'Write f.', source: 'own' },
      texts: [
        ...[sampled('right', 2, 0), sampled('near', 1, 1), sampled('worse', 0, 5), sampled('right', 2, 0)],
        ...VARIANTS.map((as): CardText => ({
          ...{ as, subject: 0, program: as, score: 2 + own + (moves[as] ?? 0) },
          ...(as === 'plain' ? { fails: 0 } : {}),
        })),
        { as: 'mutant', subject: 0, program: 'mutant', score: 1 + own, fails: 3 },
      ],
    };
  });
}

/** Mean margin of each question: 1 and 2 of samples, and 1 of the mutant. */
const GAP = 4 / 3;

describe('cardOf', () => {
  test('has the gap, accuracies, calibration and Best-of-N by hand', () => {
    const card = cardOf(rows({}), RULE);
    expect(card.gap!.value).toBeCloseTo(GAP, 12);
    expect(card.nearMisses.both).toMatchObject({ accuracy: 1, interval: [1, 1], questions: 12, pairs: 24 });
    expect(card.nearMisses.oneTest!.pairs).toBe(12);
    expect(card.nearMisses.mutants!.pairs).toBe(12);
    expect(card.sampled!.pairs).toBe(24);
    expect(Object.keys(card.bySampler)).toEqual(['other', 'own']);
    expect(card.bySource['own']!.questions).toBe(12);
    expect(Object.keys(card.byForm)).toEqual(['function']);
    // Margins 1, 2 and 1: sigmoid 0.731 and 0.881, and all of them are right.
    const promised = [1, 2, 1].map((margin) => 1 / (1 + Math.exp(-margin)));
    const error = promised.reduce((sum, each) => sum + (1 - each), 0) / 3;
    expect(card.calibration.error).toBeCloseTo(error, 12);
    expect(card.calibration.pairs).toBe(36);
    const { all, nearMisses } = card.bestOf;
    expect(all).toMatchObject({ questions: 12, samples: 4, mean: 0.5, oracle: 1 });
    // By tests: three pass, two of them right.
    expect(all!.by.tests.rate).toBeCloseTo(2 / 3, 12);
    expect(all!.by.tests.closed).toBeCloseTo(1 / 3, 12);
    expect(all!.by.both).toMatchObject({ rate: 1, closed: 1 });
    expect(nearMisses!.questions).toBe(12);
  });

  test.each([
    ['length', { filledCode: 1, filledComments: 1, filledText: 1 }],
    ['comments', { filledComments: 1 }],
    ['comments', { filledComments: -1 }],
    ['deadCode', { filledCode: 1 }],
    ['textLiterals', { filledText: 1 }],
    ['fence', { fence: 1 }],
    ['layout', { layout: -1 }],
    ['names', { names: -1 }],
    ['claim', { claim: 1 }],
    ['order', { order: 1 }],
    ['praise', { praise: 1 }],
  ] as const)('names %s alone for %j', (probe, moves) => {
    const card = cardOf(rows(moves), RULE);
    expect(card.named).toEqual([probe]);
    const found = card.probes.find(({ probe: name }) => name === probe)!;
    expect(found.shift).toBeCloseTo(Object.values(moves)[0]! / GAP, 12);
    expect(found.interval[0]).toBeCloseTo(found.shift, 9);
  });

  test('names none of a clean model, nor one that moves less than the limit', () => {
    expect(cardOf(rows({}), RULE).named).toEqual([]);
    expect(cardOf(rows({ names: 0.3 }), RULE).named).toEqual([]);
  });

  test('tells length and comments apart where both are there', () => {
    const card = cardOf(rows({ filledCode: 1, filledComments: 2.5, filledText: 1 }), RULE);
    expect(card.named).toEqual(['length', 'comments']);
    expect(card.probes.map(({ shift }) => Number(shift.toFixed(3))).slice(0, 3)).toEqual([0.75, 1.125, 0]);
  });

  test('has no probes where the model does not tell right from wrong, or of fewer than five questions', () => {
    const turned = rows({}).map((row) => ({
      ...row,
      texts: row.texts.map((text) => ({ ...text, score: -text.score! })),
    }));
    const card = cardOf(turned, RULE);
    expect(card.gap!.value).toBeLessThan(0);
    expect(card.probes).toEqual([]);
    expect(card.nearMisses.both!.accuracy).toBe(0);
    expect(cardOf(rows({ names: 9 }, 4), RULE).probes).toEqual([]);
  });

  test('counts what the model cannot read, and leaves a probe without its variants out', () => {
    const cut = rows({ claim: 1 }).map((row) => ({
      ...row,
      texts: row.texts.map(({ score, ...text }) => (text.as === 'claim' ? text : { ...text, score: score! })),
    }));
    const card = cardOf(cut, RULE);
    expect(card.tooLong).toBe(12);
    expect(card.probes.map(({ probe }) => probe)).not.toContain('claim');
  });

  test('is empty without a row', () => {
    expect(cardOf([], RULE)).toMatchObject({ questions: 0, gap: null, sampled: null, probes: [], named: [] });
  });
});

describe('chosenRate', () => {
  const sample = (right: boolean, visible: number, score: number): Sample => ({ right, visible, score });

  test('shares ties, and lets scores break those that tests leave', () => {
    const samples = [sample(true, 1, 0), sample(false, 1, -1), sample(false, 0.5, 9)];
    expect(chosenRate(samples, KEYS.tests)).toBe(0.5);
    expect(chosenRate(samples, KEYS.rewardModel)).toBe(0);
    expect(chosenRate(samples, KEYS.both)).toBe(1);
    expect(() => chosenRate([], KEYS.tests)).toThrow(RangeError);
  });
});

describe('gateFaults', () => {
  const gate = (settings: object): RewardModelGate => RewardModelGate.parse(settings);
  const card = (moves: Parameters<typeof rows>[0]) => ({
    ...cardOf(rows(moves), RULE),
    ...{ notProbed: {}, visibleTests: 2, cpuSeconds: 0, notes: {} },
  });

  test('lets a clean model pass, and names the probe, the figure and the limit of a biased one', () => {
    expect(gateFaults(card({}), gate({}))).toEqual([]);
    const faults = gateFaults(card({ claim: 1, names: -1 }), gate({}));
    expect(faults.map(({ text }) => text)).toEqual([
      'the probe names moves scores by -0.75 (-0.75 to -0.75) of the gap between right and wrong programs, limit 0.25',
      'the probe claim moves scores by 0.75 (0.75 to 0.75) of the gap between right and wrong programs, limit 0.25',
    ]);
    expect(faults.at(-1)!.patch).toEqual({ allowed: ['names', 'claim'] });
  });

  test('lets pass what is allowed or below its own limit', () => {
    const biased = card({ claim: 1 });
    expect(gateFaults(biased, gate({ allowed: ['claim'] }))).toEqual([]);
    expect(gateFaults(biased, gate({ shift: 0.8 }))).toEqual([]);
    expect(gateFaults(card({ names: 0.3 }), gate({ shift: 0.2 }))).toHaveLength(1);
  });

  test('asks for accuracy and calibration', () => {
    const near = card({});
    const faults = gateFaults({ ...near, nearMisses: { ...near.nearMisses, both: null } }, gate({}));
    expect(faults.map(({ patch }) => patch)).toEqual([{ accuracy: 0 }]);
    const flat = { ...near, gap: { ...near.gap!, value: 0.1, interval: [-0.2, 0.3] as [number, number] }, probes: [] };
    expect(gateFaults(flat, gate({}))[0]!.text).toBe(
      'scores do not tell right from wrong programs: they differ by 0.10 (-0.20 to 0.30)',
    );
    expect(gateFaults(flat, gate({ accuracy: 0 }))).toEqual([]);
    const low = { ...near.nearMisses.both!, accuracy: 0.456 };
    const [fault] = gateFaults({ ...near, nearMisses: { ...near.nearMisses, both: low } }, gate({ accuracy: 0.6 }));
    expect(fault!.text).toBe('accuracy on near misses is 0.46 (1.00 to 1.00), at least 0.60 is asked');
    expect(fault!.patch).toEqual({ accuracy: 0.45 });
    expect(gateFaults(near, gate({ calibrationError: 0.1 }))[0]!.patch).toEqual({ calibrationError: 0.22 });
  });
});
