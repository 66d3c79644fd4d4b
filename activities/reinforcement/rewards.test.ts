/** Rewards of a round: what a rollout earns, which ones are left out, and that none gets lost. */
import { describe, expect, it } from 'vitest';
import { correctedBy, rareWeights, rewardRollouts, type JudgedRollout, type RewardRule } from './rewards.js';
import { Random } from '../statistics/random.js';
import { RewardRow } from '../../workflows/contract/index.js';

const TESTS: RewardRule = {
  reward: { testsWeight: 1, tests: 'passRate', rewardModelWeight: 0 },
  rewardClip: 10,
  dropDegenerateGroups: false,
  maxNewTokens: 100,
};

function rollout(id: string, values: Partial<JudgedRollout> = {}): JudgedRollout {
  return { id, questionId: 'q-1', promptTokens: 9, completionTokens: 5, ...values };
}

const rewardsOf = (rollouts: readonly JudgedRollout[], rule: RewardRule): (number | string | undefined)[] =>
  rewardRollouts(rollouts, rule).map(({ reward, dropped }) => dropped ?? reward);

describe('rewardRollouts', () => {
  it('rewards the pass rate, or all tests passed and nothing else', () => {
    const rollouts = [1, 0.95, 0].map((passRate, index) => rollout(`r${index}`, { passRate }));
    expect(rewardsOf(rollouts, TESTS)).toEqual([1, 0.95, 0]);
    expect(rewardsOf(rollouts, { ...TESTS, reward: { ...TESTS.reward, tests: 'allPass', testsWeight: 2 } })).toEqual([
      2, 0, 0,
    ]);
  });

  it('weighs tests by the rollouts that pass them, where it is asked to', () => {
    const matrix = [
      [true, true, false],
      [true, true, false],
      [true, true, true],
      [false, false, true],
    ];
    const rollouts = matrix.map((passed, at) =>
      rollout(`r${at}`, { passed, passRate: passed.filter(Boolean).length / 3 }),
    );
    const rule: RewardRule = { ...TESTS, reward: { ...TESTS.reward, tests: 'weightedPassRate', testsWeight: 2 } };
    const rows = rewardRollouts([...rollouts, rollout('unjudged', { passed: [true, true, true] })], rule);
    // The third test weighs less, because the rollouts that pass it are worse.
    expect(rows[0]!.reward).toBeGreaterThan((2 * 2) / 3);
    expect(rows[3]!.reward).toBeLessThan(2 / 3);
    expect(rows[2]!.reward).toBeCloseTo(2, 12);
    expect(rows[4]).toEqual({ id: 'unjudged', questionId: 'q-1', dropped: 'unjudged' });
    for (const { reward, weightedPassRate, passRate } of rows.slice(0, 4)) {
      expect(reward).toBeCloseTo(2 * weightedPassRate!, 12);
      expect(passRate).toBeDefined();
    }
    for (const row of rows) RewardRow.parse(row);
    // Without the setting nothing of it is there.
    expect(rewardRollouts(rollouts, TESTS)[0]).not.toHaveProperty('weightedPassRate');
  });

  it('leaves an unjudged rollout out of its group', () => {
    expect(rewardsOf([rollout('a', { passRate: 1 }), rollout('b'), rollout('c', { passRate: 0 })], TESTS)).toEqual([
      1,
      'unjudged',
      0,
    ]);
  });

  it('drops a group that has fewer than two rollouts left', () => {
    const rows = rewardRollouts(
      [rollout('a', { passRate: 1 }), rollout('b'), rollout('c', { questionId: 'q-2', passRate: 1 })],
      TESTS,
    );
    expect(rows.map(({ dropped }) => dropped)).toEqual(['smallGroup', 'unjudged', 'smallGroup']);
    expect(rows.every((row) => !('reward' in row))).toBe(true);
    expect(rows[0]).toMatchObject({ passRate: 1 });
  });

  it('drops what the policy could not read, and what the reward model cannot', () => {
    const withScores = { ...TESTS, reward: { ...TESTS.reward, rewardModelWeight: 1 }, scale: { mean: 0, std: 1 } };
    const rollouts = [
      rollout('a', { promptTokens: 0, completionTokens: 0, passRate: 0 }),
      rollout('b', { passRate: 1 }),
      rollout('c', { passRate: 1, score: 2 }),
      rollout('d', { passRate: 0, score: -1 }),
      rollout('e', { score: 3 }),
    ];
    expect(rewardsOf(rollouts, withScores)).toEqual(['promptTooLong', 'tooLongToScore', 3, -1, 'unjudged']);
    expect(rewardsOf(rollouts, TESTS)).toEqual(['promptTooLong', 1, 1, 0, 'unjudged']);
  });

  it('drops an answer without tokens: there is nothing to train', () => {
    expect(
      rewardsOf(
        [
          rollout('a', { passRate: 1, completionTokens: 0 }),
          rollout('b', { passRate: 1 }),
          rollout('c', { passRate: 0 }),
        ],
        TESTS,
      ),
    ).toEqual(['empty', 1, 0]);
  });

  it('keeps, masks or penalises an answer that the limit cut, as it is told', () => {
    const reward = { testsWeight: 1, tests: 'passRate', rewardModelWeight: 0.5 } as const;
    const ruleOf = (truncated?: 'keep' | 'mask' | 'penalise'): RewardRule => ({
      ...TESTS,
      reward: { ...reward, ...(truncated ? { truncated } : {}), lengthPenalty: { tokens: 10, weight: 0.25 } },
      scale: { mean: 0, std: 1 },
    });
    const rollouts = [
      rollout('whole', { passRate: 1, score: 1 }),
      rollout('cut', { passRate: 0.5, score: 2, truncated: true, completionTokens: 100 }),
      rollout('cut and unjudged', { truncated: true, completionTokens: 100 }),
      rollout('failed', { passRate: 0, score: 0 }),
    ];
    for (const kept of [undefined, 'keep'] as const)
      expect(rewardsOf(rollouts, ruleOf(kept))).toEqual([1.5, 1.25, 'tooLongToScore', 0]);
    expect(rewardsOf(rollouts, ruleOf('mask'))).toEqual([1.5, 'truncated', 'truncated', 0]);
    expect(rewardsOf(rollouts, ruleOf('penalise'))).toEqual([1.5, -1, -1, 0]);
    const alone = rewardRollouts([rollouts[0]!, rollouts[1]!], ruleOf('mask'));
    expect(alone.map(({ dropped }) => dropped)).toEqual(['smallGroup', 'truncated']);
    for (const row of alone) RewardRow.parse(row);
  });

  it('drops a degenerate group where asked, and only then', () => {
    const rollouts = [
      rollout('a', { passRate: 0.5 }),
      rollout('b', { passRate: 0.5 }),
      rollout('c', { questionId: 'q-2', passRate: 1 }),
      rollout('d', { questionId: 'q-2', passRate: 0 }),
    ];
    expect(rewardsOf(rollouts, TESTS)).toEqual([0.5, 0.5, 1, 0]);
    expect(rewardsOf(rollouts, { ...TESTS, dropDegenerateGroups: true })).toEqual([
      'degenerateGroup',
      'degenerateGroup',
      1,
      0,
    ]);
  });

  it('normalises scores by the held-out ones and clips them before weighing', () => {
    const rule: RewardRule = {
      ...TESTS,
      reward: { testsWeight: 0, tests: 'passRate', rewardModelWeight: 0.5 },
      rewardClip: 3,
      scale: { mean: 2, std: 4 },
    };
    const scores = [2, 6, -2, 100, -100, 14];
    expect(
      rewardsOf(
        scores.map((score, index) => rollout(`r${index}`, { score })),
        rule,
      ),
    ).toEqual([0, 0.5, -0.5, 1.5, -1.5, 1.5]);
  });

  it('takes a penalty off long answers, which rises over the last tokens', () => {
    const rule: RewardRule = { ...TESTS, reward: { ...TESTS.reward, lengthPenalty: { tokens: 20, weight: 0.5 } } };
    const lengths = [1, 80, 85, 90, 100, 130];
    const rewards = rewardsOf(
      lengths.map((completionTokens, index) => rollout(`r${index}`, { passRate: 1, completionTokens })),
      rule,
    );
    expect(rewards).toEqual([1, 1, 0.875, 0.75, 0.5, 0.5]);
  });

  it('adds both parts where both are weighed', () => {
    const rule: RewardRule = {
      ...TESTS,
      reward: { testsWeight: 1, tests: 'passRate', rewardModelWeight: 0.2 },
      scale: { mean: 0, std: 2 },
    };
    const [first] = rewardRollouts(
      [rollout('a', { passRate: 0.5, score: 4 }), rollout('b', { passRate: 0, score: 0 })],
      rule,
    );
    expect(first!.reward).toBeCloseTo(0.5 + 0.2 * 2, 12);
  });

  it('needs no verdict where tests are not weighed, and no score where the reward model is not', () => {
    const modelOnly: RewardRule = {
      ...TESTS,
      reward: { testsWeight: 0, tests: 'passRate', rewardModelWeight: 1 },
      scale: { mean: 0, std: 1 },
    };
    expect(rewardsOf([rollout('a', { score: 1 }), rollout('b', { score: 2 })], modelOnly)).toEqual([1, 2]);
    expect(rewardsOf([rollout('a', { passRate: 1 }), rollout('b', { passRate: 0 })], TESTS)).toEqual([1, 0]);
  });

  it('gives every rollout back once, in order, trained or with the reason, and trains only groups of two', () => {
    const random = new Random(31);
    const rule: RewardRule = { ...TESTS, dropDegenerateGroups: true };
    for (let round = 0; round < 200; round += 1) {
      const rollouts = Array.from({ length: random.integer(0, 24) }, (_, index) =>
        rollout(`r${index}`, {
          questionId: `q-${random.integer(0, 5)}`,
          completionTokens: random.integer(0, 4),
          passRate: random.chance(0.2) ? undefined : random.integer(0, 3) / 3,
        }),
      );
      const rows = rewardRollouts(rollouts, rule);
      expect(rows.map(({ id }) => id)).toEqual(rollouts.map(({ id }) => id));
      for (const [index, row] of rows.entries()) {
        expect(RewardRow.safeParse(row).success).toBe(true);
        expect((row.reward === undefined) !== (row.dropped === undefined)).toBe(true);
        expect(row.dropped === 'unjudged').toBe(
          rollouts[index]!.passRate === undefined && rollouts[index]!.completionTokens > 0,
        );
        if (row.reward === undefined) continue;
        const group = rows.filter(({ questionId, reward }) => questionId === row.questionId && reward !== undefined);
        expect(new Set(group.map(({ reward }) => reward)).size).toBeGreaterThan(1);
      }
    }
  });

  describe('noise-aware rewards', () => {
    const RATES = { truePositive: 0.9, falsePositive: 0.2 };
    const withReward = (more: Partial<RewardRule['reward']>): RewardRule => ({
      ...TESTS,
      reward: { ...TESTS.reward, tests: 'allPass', ...more },
    });

    it('corrects by the rates of the tests of the question, to 1e-6 of the formulas', () => {
      const rollouts = [1, 0, 0.5].map((passRate, at) => rollout(`r${at}`, { passRate, rates: RATES }));
      const corrected = (correction: 'backward' | 'forward' | 'informedness') =>
        rewardsOf(rollouts, withReward({ testsWeight: 2, verifier: { correction } })) as number[];
      // (r - FPR) / (TPR - FPR), r - TPR, r (TPR - FPR), each times the weight.
      for (const [at, value] of [(2 * 0.8) / 0.7, (2 * -0.2) / 0.7, (2 * -0.2) / 0.7].entries())
        expect(corrected('backward')[at]).toBeCloseTo(value, 6);
      for (const [at, value] of [0.2, -1.8, -1.8].entries()) expect(corrected('forward')[at]).toBeCloseTo(value, 6);
      for (const [at, value] of [1.4, 0, 0].entries()) expect(corrected('informedness')[at]).toBeCloseTo(value, 6);
      const [row] = rewardRollouts(rollouts, withReward({ verifier: { correction: 'backward' } }));
      expect(row!.earned).toBeCloseTo(0.8 / 0.7, 6);
      for (const each of rewardRollouts(rollouts, withReward({ verifier: {} }))) RewardRow.parse(each);
    });

    it('is unbiased for errors by chance (backward), and points the same way (forward)', () => {
      const { truePositive, falsePositive } = RATES;
      const expected = (correction: 'backward' | 'forward', pass: number): number =>
        pass * correctedBy(correction, 1, RATES) + (1 - pass) * correctedBy(correction, 0, RATES);
      expect(expected('backward', truePositive)).toBeCloseTo(1, 9);
      expect(expected('backward', falsePositive)).toBeCloseTo(0, 9);
      expect(expected('forward', truePositive)).toBeCloseTo(0, 9);
      expect(expected('forward', falsePositive)).toBeCloseTo(-(truePositive - falsePositive), 9);
      // With rates of 1 and 0 every correction but a shift leaves rewards as they are.
      const exact = { truePositive: 1, falsePositive: 0 };
      for (const r of [0, 0.3, 1]) {
        expect(correctedBy('backward', r, exact)).toBe(r);
        expect(correctedBy('informedness', r, exact)).toBe(r);
        expect(correctedBy('forward', r, exact)).toBe(r - 1);
      }
      expect(correctedBy('backward', 1, { truePositive: 0.5, falsePositive: 0.5 })).toBeCloseTo(5, 6);
      expect(correctedBy('informedness', 1, { truePositive: 0.2, falsePositive: 0.5 })).toBe(0);
    });

    it('leaves out questions whose tests are too weak, and no question that was not measured', () => {
      const rollouts = [
        ...[1, 0].map((passRate, at) => rollout(`weak${at}`, { passRate, rates: RATES })),
        ...[1, 0].map((passRate, at) => rollout(`unknown${at}`, { questionId: 'q-2', passRate })),
      ];
      expect(rewardsOf(rollouts, withReward({ verifier: { minimumJ: 0.8 } }))).toEqual([
        'weakVerifier',
        'weakVerifier',
        1,
        0,
      ]);
      expect(rewardsOf(rollouts, withReward({ verifier: { minimumJ: 0.7 - 1e-9 } }))).toEqual([1, 0, 1, 0]);
    });

    it('weighs tests by how rarely they pass', () => {
      const matrix = [
        [true, true, false],
        [true, false, false],
        [true, true, true],
        [true, false, false],
      ];
      for (const [at, value] of [1 / 6, 3 / 6, 4 / 6].entries()) expect(rareWeights(matrix)[at]).toBeCloseTo(value, 9);
      const rollouts = matrix.map((passed, at) =>
        rollout(`r${at}`, { passed, passRate: passed.filter(Boolean).length / 3 }),
      );
      const rewards = rewardsOf(rollouts, withReward({ tests: 'rareTests' })) as number[];
      for (const [at, value] of [4 / 8, 1 / 8, 1, 1 / 8].entries()) expect(rewards[at]).toBeCloseTo(value, 6);
      const [row] = rewardRollouts(rollouts, withReward({ tests: 'rareTests' }));
      expect(row).not.toHaveProperty('weightedPassRate');
      expect(row!.earned).toBeCloseTo(0.5, 6);
    });

    it('rewards no invalid answer above a valid one', () => {
      const rule: RewardRule = {
        ...withReward({ tests: 'passRate', rewardModelWeight: 1, invalidBelowValid: true }),
        scale: { mean: 0, std: 1 },
      };
      const rollouts = [
        rollout('invalid', { passRate: 0, score: 3, invalid: true }),
        rollout('worst', { passRate: 0.2, score: -1 }),
        rollout('best', { passRate: 1, score: 1 }),
        rollout('low', { passRate: 0, score: -5, invalid: true }),
        ...['x', 'y'].map((id, at) => rollout(id, { questionId: 'q-2', passRate: 0, score: at, invalid: true })),
      ];
      expect(rewardsOf(rollouts, rule)).toEqual([-0.8, -0.8, 2, -5, 0, 1]);
      const plain = { ...rule, reward: { ...rule.reward, invalidBelowValid: false } };
      expect(rewardsOf(rollouts, plain)).toEqual([3, -0.8, 2, -5, 0, 1]);
    });

    it('asks the reward model only where tests do not separate a group', () => {
      const rule: RewardRule = {
        ...withReward({ rewardModelWeight: 0.5, rewardModelWhere: 'unseparated' }),
        scale: { mean: 0, std: 1 },
      };
      const rollouts = [
        rollout('a', { passRate: 1, score: 0 }),
        rollout('b', { passRate: 0, score: 4 }),
        // Nobody needs a score where tests separate.
        rollout('c', { passRate: 0 }),
        rollout('d', { questionId: 'q-2', passRate: 0.5, score: 2 }),
        rollout('e', { questionId: 'q-2', passRate: 0, score: -2 }),
        rollout('f', { questionId: 'q-2', passRate: 0.5 }),
      ];
      expect(rewardsOf(rollouts, rule)).toEqual([1, 0, 0, 1, -1, 'tooLongToScore']);
      expect(rewardRollouts(rollouts, rule).map(({ separated }) => separated ?? false)).toEqual([
        ...[true, true, true],
        ...[false, false, false],
      ]);
    });

    it('leaves flagged rollouts out where an operator said so, and keeps the flag otherwise', () => {
      const rollouts = [
        rollout('a', { passRate: 1, hiddenPassRate: 0, flagged: 'hiddenTests' }),
        rollout('b', { passRate: 1, hiddenPassRate: 1 }),
        rollout('c', { passRate: 0, hiddenPassRate: 0 }),
      ];
      expect(rewardsOf(rollouts, TESTS)).toEqual([1, 1, 0]);
      expect(rewardsOf(rollouts, { ...TESTS, dropFlagged: true })).toEqual(['flagged', 1, 0]);
      expect(rewardRollouts(rollouts, TESTS)[0]).toMatchObject({ flagged: 'hiddenTests', hiddenPassRate: 0 });
      for (const row of rewardRollouts(rollouts, { ...TESTS, dropFlagged: true })) RewardRow.parse(row);
    });
  });
});
