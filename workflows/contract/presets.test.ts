/** Presets: the rule by which a user's values are merged over one, and that each of them is a valid experiment. */
import { describe, expect, it } from 'vitest';
import { differing } from './fork.js';
import {
  benchmarkResults,
  checkInput,
  Experiment,
  expandPreset,
  merge,
  PRESETS,
  stagesOf,
  WorkflowInputs,
  type WorkflowName,
} from './index.js';

const OWN = { name: 'mine', seeds: { kind: 'seeds', path: 'seeds.jsonl' } };

describe('merge', () => {
  it('merges objects member by member and replaces everything else', () => {
    const base = { a: { b: 1, c: { d: 2 } }, list: [1, 2, 3], text: 'x' };
    expect(merge(base, { a: { c: { e: 3 } }, list: [9], text: null })).toEqual({
      a: { b: 1, c: { d: 2, e: 3 } },
      list: [9],
      text: null,
    });
    expect(base).toEqual({ a: { b: 1, c: { d: 2 } }, list: [1, 2, 3], text: 'x' });
  });

  it('replaces a discriminated object of another kind as a whole', () => {
    const hub = { kind: 'hub', id: 'model', revision: 'main' };
    expect(merge({ policy: hub }, { policy: { kind: 'folder', path: 'p' } })).toEqual({
      policy: { kind: 'folder', path: 'p' },
    });
    expect(merge({ policy: hub }, { policy: { kind: 'hub', revision: 'v2' } })).toEqual({
      policy: { ...hub, revision: 'v2' },
    });
    expect(merge({ policy: hub }, { policy: { revision: 'v3' } })).toEqual({ policy: { ...hub, revision: 'v3' } });
  });

  it('takes a member that is undefined as not written', () => {
    expect(merge({ a: 1, b: { c: 2 } }, { a: undefined, b: undefined })).toEqual({ a: 1, b: { c: 2 } });
  });
});

describe('names that every object has', () => {
  const own = (text: string): unknown => JSON.parse(text);

  it.each(['__proto__', 'constructor', 'toString'])('are members like any other in a merge: %s', (name) => {
    const merged = merge({ a: { b: 1 } }, own(`{"a": {"${name}": {"rounds": 5}}}`)) as { a: object };
    expect(Object.hasOwn(merged.a, name)).toBe(true);
    expect(Object.getPrototypeOf(merged.a)).toBe(Object.prototype);
    expect((merged.a as { rounds?: number }).rounds).toBeUndefined();
  });

  it.each(
    (Object.keys(WorkflowInputs) as WorkflowName[]).flatMap((workflow) =>
      ['__proto__', 'constructor', 'prototype'].map((name) => [workflow, name]),
    ),
  )('are refused by %s, and change no other object: %s', (workflow, name) => {
    const before = Object.getOwnPropertyNames(Object.prototype).sort();
    const inputs = [
      own(`{"${name}": {"polluted": 1}}`),
      own(`{"extends": "${name}"}`),
      own(`{"extends": "quickstart", "stages": {"${name}": {"polluted": 1}}}`),
      own(`{"extends": "quickstart", "stages": {"sampling": {"${name}": {"polluted": 1}}}}`),
      own(`{"inputs": {"${name}": {"kind": "${name}", "path": "${name}"}}, "config": {"${name}": 1}}`),
      own(`{"config": {"teacher": {"kind": "${name}"}, "benchmarks": [{"kind": "${name}"}], "engine": "${name}"}}`),
    ];
    for (const input of inputs) expect(checkInput(workflow as WorkflowName, input).mistakes).not.toEqual([]);
    expect(Object.getOwnPropertyNames(Object.prototype).sort()).toEqual(before);
    expect(({} as { polluted?: number }).polluted).toBeUndefined();
  });
});

describe('expandPreset', () => {
  it.each(Object.keys(PRESETS))('%s is a valid experiment with a name and seeds', (name) => {
    expect(PRESETS[name]!.about.length).toBeGreaterThan(20);
    const parsed = Experiment.safeParse(expandPreset({ extends: name, ...OWN }));
    expect(parsed.error?.issues ?? []).toEqual([]);
  });

  it('puts the values of the user over those of the preset, and drops `extends`', () => {
    const expanded = expandPreset({ extends: 'quickstart', ...OWN, stages: { sampling: { samples: 4 } } });
    const { stages, ...rest } = Experiment.parse(expanded);
    expect(expanded).not.toHaveProperty('extends');
    expect(rest).toMatchObject({ name: 'mine', seeds: OWN.seeds });
    expect(stages.sampling).toMatchObject({ samples: 4, temperature: 0.8, maxNewTokens: 64 });
  });

  it('leaves the presets as they are', () => {
    const before = JSON.stringify(PRESETS);
    const expanded = expandPreset({ extends: 'quickstart', name: 'x', stages: { rewardModel: { epochs: 3 } } }) as {
      stages: { sampling: { samples: number } };
    };
    expanded.stages.sampling = { samples: 1 };
    expect(JSON.stringify(PRESETS)).toBe(before);
  });

  it('gives an input without `extends` back', () => {
    const input = { ...OWN, models: {} };
    expect(expandPreset(input)).toBe(input);
    expect(expandPreset('text')).toBe('text');
    expect(expandPreset(null)).toBeNull();
  });

  it.each([['quick'], ['toString'], [7], [null]])('refuses the unknown preset %j and names the known ones', (name) => {
    expect(() => expandPreset({ extends: name })).toThrow(
      `unknown preset ${JSON.stringify(name)}; known are quickstart, paper-7b`,
    );
  });
});

const paper = (name: string): Experiment => Experiment.parse(expandPreset({ extends: name, name: 'x' }));
/** Fields in which a preset differs from another one and that decide results. */
const differences = (name: string, other = 'paper-7b'): string[] =>
  differing(paper(other), paper(name)).map(({ field }) => field);

describe('a preset that extends others', () => {
  it('has all of their deviations, each over the one that they share', () => {
    const { extends: parts = [] } = PRESETS['paper-7b-recommended']!;
    expect(parts.length).toBeGreaterThan(5);
    const each = parts.flatMap((name) => differences(name));
    expect(new Set(each).size).toBe(each.length);
    expect(differences('paper-7b-recommended').sort()).toEqual(each.sort());
  });

  it.each(Object.entries(PRESETS).filter(([, { extends: bases }]) => bases !== undefined))(
    '%s extends presets that exist, and differs from each of them',
    (name, { extends: bases }) => {
      for (const base of bases!) {
        expect(Object.keys(PRESETS)).toContain(base);
        expect(differences(name, base)).not.toEqual([]);
      }
    },
  );
});

describe('paper-7b', () => {
  it('has the setting of the paper, stage by stage', () => {
    const { seeds, models, stages } = paper('paper-7b');
    const coder = { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-7B-Instruct' };
    expect(seeds).toMatchObject({ format: 'aceCoderSeeds' });
    expect(models).toMatchObject({ policy: coder, sampler: coder, rewardModel: coder });
    expect(stages.synthesis).toMatchObject({
      teacher: { kind: 'openai', model: 'gpt-4o-mini', temperature: 0.7, topP: 1, testCases: 20, maxTokens: 8192 },
      nearDuplicate: null,
      decontaminate: [],
    });
    expect(stages.filtering).toMatchObject({
      oracle: { kind: 'model', programs: { model: 'Qwen/Qwen2.5-Coder-32B-Instruct' }, n: 1, temperature: 0 },
      minimumTestCases: 5,
      minimumDistinctOutputs: 1,
    });
    expect(stages.sampling).toMatchObject({ samples: 16, temperature: 1, topP: 1, shownTests: 2 });
    expect(stages.preferences).toMatchObject({
      labels: 'rate',
      denominator: 'kept',
      thresholds: 'exclusive',
      minimumBest: 0.8,
      minimumGap: 0.4,
      worstAbove: 0,
    });
    expect(stages.preferences.maximumPerQuestion).toBeUndefined();
    expect(stages.rewardModel).toMatchObject({
      learningRate: 1e-5,
      epochs: 1,
      batchSize: 128,
      maxLength: 2048,
      questionWeighting: false,
      schedule: 'cosine',
      warmupRatio: 0.1,
      upperLayers: null,
      lora: null,
    });
    expect(stages.reinforcement).toMatchObject({
      questions: 'hard',
      rounds: 80,
      promptsPerRound: 256,
      samplesPerPrompt: 8,
      temperature: 1,
      reward: { testsWeight: 1, tests: 'allPass', rewardModelWeight: 0 },
      algorithm: { name: 'reinforce++-acecoder', learningRate: 5e-7, beta: 0.01, clip: 0.2, batchSize: 128 },
    });
    expect(stages.evaluation).toMatchObject({ samples: 0 });
  });

  it('evaluates nine columns, and differs in the reward alone for the other one', () => {
    const { benchmarks } = paper('paper-7b').stages.evaluation;
    expect(benchmarks.flatMap(benchmarkResults)).toHaveLength(9);
    expect(differences('paper-7b-reward-model')).toEqual([
      'stages.reinforcement.reward.testsWeight',
      'stages.reinforcement.reward.rewardModelWeight',
    ]);
    expect(stagesOf(paper('paper-7b-best-of-n').stages)).not.toContain('reinforcement');
  });

  it('can be started with a name alone', () => {
    expect(checkInput('experiment', { extends: 'paper-7b', name: 'mine' }).mistakes ?? []).toEqual([]);
  });
});
