/** The experiment configuration: every mistake is told at once, with its place, its value and what is allowed. */
import { describe, expect, it } from 'vitest';
import {
  benchmarkName,
  describeMistakes,
  Experiment,
  mistakesOf,
  queueName,
  semanticsOf,
  StageConfigs,
  STAGES,
  type Mistake,
} from './index.js';

const VALID = {
  name: 'mine',
  seeds: { kind: 'seeds', path: 'seeds.jsonl' },
  models: { policy: { kind: 'folder', path: 'model' } },
};

function mistakes(input: unknown): Mistake[] {
  const parsed = Experiment.safeParse(input);
  return parsed.success ? [] : mistakesOf(parsed.error, input, Experiment);
}

describe('Experiment', () => {
  it('fills in every stage from a name, seeds and a policy', () => {
    const experiment = Experiment.parse(VALID);
    // Fine-tuning is off where it has no settings.
    expect(Object.keys(experiment.stages).sort()).toEqual(
      STAGES.filter((stage) => !['hardening', 'rewardModelCard', 'fineTuning'].includes(stage)).sort(),
    );
    expect(experiment.onFailure).toBe('park');
    expect(experiment.stages.evaluation.benchmarks).toEqual([{ kind: 'heldOut' }]);
    expect(experiment.stages.preferences).toMatchObject({ minimumBest: 0.8, minimumGap: 0.4, worstAbove: 0 });
  });

  it('is its own fixed point: a resolved configuration resolves to itself', () => {
    const experiment = Experiment.parse(VALID);
    expect(Experiment.parse(JSON.parse(JSON.stringify(experiment)))).toEqual(experiment);
  });

  it('tells all mistakes at once, with path and value', () => {
    const found = mistakes({
      ...VALID,
      name: 'two words',
      extra: true,
      onFailure: 'stop',
      models: { policy: { kind: 'hub', id: 'model' } },
      stages: {
        sampling: { samples: 0, temprature: 1 },
        preferences: { minimumBest: 1.5 },
        reinforcement: { samplesPerPrompt: 1, reward: { testsWeight: 0 } },
        evaluation: { samples: 4, passAtK: [1, 8], bestOf: [16] },
      },
    });
    expect(Object.fromEntries(found.map(({ path, value }) => [path, value]))).toEqual({
      name: 'two words',
      extra: true,
      onFailure: 'stop',
      'models.policy.revision': undefined,
      'stages.sampling.samples': 0,
      'stages.sampling.temprature': 1,
      'stages.preferences.minimumBest': 1.5,
      'stages.reinforcement.samplesPerPrompt': 1,
      'stages.reinforcement.reward': { testsWeight: 0 },
      'stages.evaluation.passAtK.1': 8,
      'stages.evaluation.bestOf.0': 16,
    });
  });

  it('says what is allowed', () => {
    const message = (input: unknown): string =>
      mistakes(input)
        .map(({ message: text }) => text)
        .join('\n');
    expect(message({ ...VALID, onFailure: 'stop' })).toBe('must be one of "park", "fail"');
    expect(message({ ...VALID, models: { policy: { kind: 'ggu' } } })).toBe(
      'must be one of "gguf", "ggufFile", "hub", "folder", "artifact"; did you mean "gguf"?',
    );
    expect(message({ ...VALID, stages: { preferences: { minimumBest: 1.5 } } })).toMatch(/<=1/);
    expect(message({ ...VALID, stages: { evaluation: { samples: 4, bestOf: [16] } } })).toBe(
      '16 is larger than the 4 samples per task',
    );
    expect(message({ ...VALID, stages: { sampling: { temprature: 1 } } })).toBe(
      'no such field; did you mean "temperature"?',
    );
    expect(message({ ...VALID, name: 'a/b' })).toBe('letters, digits, dot, dash and underscore, at most 100');
  });

  it('refuses adapters with sharding', () => {
    const rewardModel = { lora: {}, execution: { sharding: 'fsdp' } };
    expect(mistakes({ ...VALID, stages: { rewardModel } }).map(({ path, message }) => [path, message])).toEqual([
      ['stages.rewardModel.execution.sharding', 'none where lora is set: what adapters train needs no sharding'],
    ]);
    expect(mistakes({ ...VALID, stages: { rewardModel: { ...rewardModel, lora: null } } })).toEqual([]);
  });

  it('refuses adapters in RL with what excludes them, before anything runs', () => {
    const lora = { rank: 8, targetModules: ['q_proj'] };
    const wrong = (reinforcement: object): [string, string][] =>
      mistakes({ ...VALID, stages: { reinforcement } }).map(({ path, message }) => [path, message]);
    expect(wrong({ algorithm: { lora } })).toEqual([]);
    expect(
      wrong({ algorithm: { lora, upperLayers: 2 }, referenceRefresh: 1, execution: { sharding: 'fsdp' } }).map(
        ([path]) => path,
      ),
    ).toEqual([
      'stages.reinforcement.algorithm.lora',
      'stages.reinforcement.execution.sharding',
      'stages.reinforcement.referenceRefresh',
    ]);
    expect(wrong({ algorithm: { lora: { rank: 0, targetModules: [] } } }).map(([path]) => path)).toEqual([
      'stages.reinforcement.algorithm.lora.rank',
      'stages.reinforcement.algorithm.lora.targetModules',
    ]);
    const changes = [{ fromRound: 2, settings: { algorithm: { lora: { ...lora, rank: 4 } } } }];
    expect(wrong({ rounds: 2, algorithm: { lora }, changes })).toEqual([
      [
        'stages.reinforcement.changes.0.settings.algorithm.lora',
        'the same in all rounds: the optimizer goes on with the state of the round before',
      ],
    ]);
  });

  it('allows k and N up to the number of samples', () => {
    expect(mistakes({ ...VALID, stages: { evaluation: { samples: 4, passAtK: [1, 4], bestOf: [2, 4] } } })).toEqual([]);
  });

  it.each([[undefined], [null], ['text'], [[]], [7]])('refuses %j as a whole', (input) => {
    expect(mistakes(input)).toEqual([expect.objectContaining({ path: '(top)', value: input })]);
  });
});

describe('describeMistakes', () => {
  it('writes a line for each, with long values shortened', () => {
    const text = describeMistakes([
      { path: 'a.b', value: undefined, message: 'needed' },
      { path: 'c', value: 'x'.repeat(500), message: 'too long' },
    ]);
    const [first, second] = text.split('\n') as [string, string];
    expect(first).toBe('a.b: needed (is missing)');
    expect(second).toMatch(/^c: too long \(is "x+\.\.\.\)$/);
    expect(second.length).toBeLessThan(190);
  });
});

describe('semanticsOf', () => {
  it.each(STAGES)('of %s is all but the execution and the default engine', (stage) => {
    const config = StageConfigs[stage].parse({});
    const semantics = semanticsOf<{ execution: unknown }>(config);
    expect(semantics).not.toHaveProperty('execution');
    const engine = 'engine' in config ? { engine: 'transformers' } : {};
    expect({ ...semantics, execution: config.execution, ...engine }).toEqual(config);
  });

  it.each(['sampling', 'reinforcement', 'evaluation'] as const)('of %s holds another engine', (stage) => {
    expect(semanticsOf<{ execution: unknown }>(StageConfigs[stage].parse({ engine: 'vllm' }))).toMatchObject({
      engine: 'vllm',
    });
  });
});

describe('names', () => {
  it('of a benchmark slice say so', () => {
    expect(benchmarkName({ kind: 'heldOut' })).toBe('heldOut');
    expect(benchmarkName({ kind: 'humaneval', every: 1, offset: 0 })).toBe('humaneval');
    expect(benchmarkName({ kind: 'humaneval', every: 14, offset: 3 })).toBe('humaneval[3::14]');
  });

  it('of queues follow from role, base and device class', () => {
    expect(queueName('pipeline')).toBe('acecoder');
    expect(queueName('sandbox')).toBe('acecoder-sandbox');
    expect(queueName('gpu', 'acecoder', 'train')).toBe('acecoder-gpu-train');
    expect(queueName('llm', 'second')).toBe('second-llm');
  });
});
