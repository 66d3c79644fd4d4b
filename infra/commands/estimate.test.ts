/** The estimate: it meets the run that its rates were measured on, and grows with what an experiment asks for. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { duration, estimateExperiment, estimateLine, estimateSweep, readExperiment, readSweep } from './estimate.js';
import { root } from '../setup/paths.mjs';
import { compact, sizeOf, type Experiment, type StageName } from '../../workflows/contract/index.js';

const example = (name: string): Experiment => readExperiment(join(root, `infra/experiments/${name}.json`));
const stageOf = (experiment: Experiment, stage: StageName, options = {}) =>
  estimateExperiment(experiment, options).result.stages.find((each) => each.stage === stage)!;

describe('of quickstart', () => {
  // What one run on two cores printed and stored.
  const MEASURED: Record<string, [number, number]> = {
    sampling: [95, 0.35],
    rewardModel: [51, 0.35],
    reinforcement: [137, 0.35],
    evaluation: [118, 0.35],
  };
  const { result } = estimateExperiment(example('quickstart'));

  it.each(Object.entries(MEASURED))(
    '%s takes the %d s that were measured, within 35 %%',
    (stage, [seconds, tolerance]) => {
      const estimated = result.stages.find((each) => each.stage === stage)!.seconds;
      expect(estimated).toBeGreaterThan(seconds * (1 - tolerance));
      expect(estimated).toBeLessThan(seconds * (1 + tolerance));
    },
  );

  it('has the rows that came about', () => {
    const rows = Object.fromEntries(result.stages.map((each) => [each.stage, each.rows]));
    expect(rows).toMatchObject({
      synthesis: { seeds: 120, questions: 117 },
      filtering: { train: 88, heldOut: 29 },
      sampling: { questions: 52, programs: 312 },
      rewardModel: { pairs: 29 },
      reinforcement: { rollouts: 64 },
      evaluation: { tasks: 24, answers: 144 },
    });
    expect(Math.abs(rows['filtering']!['keptTestCases']! - 1979)).toBeLessThan(20);
    expect(Math.abs(result.total.tokens.generated - 22_734) / 22_734).toBeLessThan(0.1);
  });

  it('takes the 4 GB of disk that were measured, within 15 %', () => {
    expect(Math.abs(result.total.diskBytes / 4e9 - 1)).toBeLessThan(0.15);
  });

  it('is told in a line, and says what is extrapolated', () => {
    expect(estimateLine(estimateExperiment(example('quickstart')))).toMatch(
      /^About \d+ min on 2 CPU cores: 312 programs to sample, 2 RL rounds, .* 0 dollars/,
    );
    expect(result.extrapolated.join()).toContain('pairs per question');
    expect(result.warnings).toEqual([]);
  });
});

describe('of other sizes', () => {
  it('doubles with the samples', () => {
    const base = example('quickstart');
    const twice = { ...base, stages: { ...base.stages, sampling: { ...base.stages.sampling, samples: 12 } } };
    expect(
      Math.abs(stageOf(twice, 'sampling').tokens.generated - 2 * stageOf(base, 'sampling').tokens.generated),
    ).toBeLessThan(2);
  });

  it('shares sampling among devices, but no training', () => {
    const options = { device: 'gpu-80gb', seeds: 10_000 };
    const [one, eight] = [1, 8].map(
      (devices) => (stage: StageName) => stageOf(example('8-gpus'), stage, { ...options, devices }),
    );
    expect(eight!('sampling').seconds).toBeLessThan(one!('sampling').seconds / 2);
    expect(eight!('sampling').deviceSeconds).toBe(one!('sampling').deviceSeconds);
    expect(eight!('rewardModel').seconds).toBe(one!('rewardModel').seconds);
  });

  it('keeps the policies of a few RL rounds, or of all', () => {
    const base = example('8-gpus');
    const stored = (keepRounds: number | null): number => {
      const { reinforcement } = base.stages;
      if (!reinforcement) throw new Error('the example runs RL');
      const stages = {
        ...base.stages,
        reinforcement: { ...reinforcement, execution: { ...reinforcement.execution, keepRounds } },
      };
      return stageOf({ ...base, stages }, 'reinforcement', { device: 'gpu-80gb' }).bytes / (4 * 7.62e9);
    };
    const { rounds } = base.stages.reinforcement!;
    expect(stored(null)).toBeCloseTo(3 * rounds, 0);
    expect(stored(3)).toBeLessThan(stored(null) / 4);
    expect(stored(3)).toBeLessThanOrEqual(stored(rounds));
    expect(stored(rounds)).toBeLessThan(stored(null));
  });

  it('warns of a training that no device holds, and of prompts that will not be there', () => {
    const { warnings, extrapolated } = estimateExperiment(example('8-gpus'), { device: 'gpu-80gb', devices: 8 }).result;
    expect(warnings.join('\n')).toMatch(/rewardModel needs .* of device memory/);
    expect(warnings.join('\n')).toMatch(/promptsPerRound is 256, about 29 hard train questions/);
    expect(extrapolated.join('\n')).toMatch(/never measured/);
    expect(estimateExperiment(example('one-24gb-gpu'), { device: 'gpu-24gb' }).result.warnings).toEqual([]);
  });

  it('counts dollars where a price is given', () => {
    const { total } = estimateExperiment(example('one-24gb-gpu'), { device: 'gpu-24gb', price: 2 }).result;
    expect(total.dollars).toBeCloseTo(total.deviceSeconds / 1800, 5);
    expect(estimateExperiment(example('one-24gb-gpu')).result.total.dollars).toBeNull();
  });

  it('counts the dollars of a teacher, and warns of a budget that is too small', () => {
    const base = example('api-key-5-dollars');
    const { replies, warnings } = estimateExperiment(base).result;
    const teacher = replies[0]!;
    expect(teacher).toMatchObject({ who: "teacher 'openai'", budgetDollars: 5 });
    expect(teacher.dollars).toBeGreaterThan(0.02);
    expect(teacher.dollars).toBeLessThan(0.2);
    expect(teacher.atMostDollars).toBeGreaterThan(teacher.dollars);
    expect(warnings).toEqual([]);
    expect(estimateExperiment(base, { seeds: 124_006 }).result.warnings.join()).toMatch(
      /about \d+\.\d+ dollars, the budget is 5\.00: synthesis will park/,
    );
    expect(estimateLine(estimateExperiment(base))).toMatch(/ 0\.0\d+ dollars for replies\.$/);
    const strong = estimateExperiment(example('strong-model')).result.replies;
    expect(strong.map(({ stage, who }) => [stage, who])).toEqual([
      ['synthesis', "teacher 'openai'"],
      ['filtering', "oracle 'model'"],
      ['sampling', "sampler 'openai'"],
    ]);
    for (const { dollars, budgetDollars } of strong) expect(dollars).toBeLessThan(budgetDollars!);
    expect(estimateExperiment(example('quickstart')).result.replies).toMatchObject([
      { stage: 'synthesis', who: "teacher 'offline'", dollars: 0 },
    ]);
  });

  it('says which option tells what it cannot find out', () => {
    const base = example('quickstart');
    expect(() => estimateExperiment({ ...base, seeds: { kind: 'seeds', path: '/nowhere/seeds.jsonl' } })).toThrow(
      'give --seeds',
    );
    expect(() =>
      estimateExperiment({ ...base, models: { policy: { kind: 'hub', id: 'somebody/model', revision: 'main' } } }),
    ).toThrow('give --parameters');
    expect(() => estimateExperiment(base, { device: 'tpu' })).toThrow('known are cpu');
  });
});

describe('names and numbers', () => {
  it.each([
    ['Qwen/Qwen2.5-Coder-7B-Instruct', 7.62e9],
    ['somebody/model-3B-it', 3e9],
    ['somebody/tiny-70m', 70e6],
    ['somebody/model', undefined],
  ])('%s has %s parameters', (id, parameters) => {
    expect(sizeOf({ kind: 'hub', id, revision: 'main' })?.parameters).toBe(parameters);
  });

  it('are short', () => {
    expect([0, 950, 12_345, 7.62e9, 1.5e12].map(compact)).toEqual(['0', '950', '12.3 k', '7.62 G', '1.5 T']);
    expect([3, 95, 7_300, 400_000].map(duration)).toEqual(['3 s', '2 min', '2.0 h', '5 days']);
  });
});

describe('of a sweep', () => {
  const path = join(root, 'infra/experiments/paper-table-8.json');
  // npm run estimate -- infra/experiments/paper-table-8.json --device gpu-80gb --devices 8
  const options = { device: 'gpu-80gb', devices: 8 };

  it('counts a stage in the first cell that computes it alone', () => {
    const cells = estimateSweep(readSweep(path)!, options);
    expect(cells.map(({ computes }) => computes[0])).toEqual(['synthesis', 'evaluation', 'rewardModel', 'evaluation']);
    const [first, second] = cells as [(typeof cells)[number], (typeof cells)[number]];
    expect(first.dollars).toBeGreaterThan(10);
    expect(second.dollars).toBe(0);
    expect(second.deviceSeconds).toBeLessThan(first.deviceSeconds);
    expect(second.deviceSeconds).toBeGreaterThan(0);
  });

  it('is not made of an experiment', () => {
    expect(readSweep(join(root, 'infra/experiments/quickstart.json'))).toBeUndefined();
  });

  it('counts the seeds of the paper, and no round that is not run', () => {
    const { facts, result } = estimateExperiment(readSweep(path)![0]!.experiment, options);
    expect(facts.seeds).toBe(124_006);
    expect(result.stages.map(({ stage }) => stage)).not.toContain('reinforcement');
  });
});
