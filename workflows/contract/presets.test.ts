/** Presets: the rule by which a user's values are merged over one, and that each of them is a valid experiment. */
import { describe, expect, it } from 'vitest';
import { checkInput, Experiment, expandPreset, merge, PRESETS, WorkflowInputs, type WorkflowName } from './index.js';

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
    const parsed = Experiment.safeParse(expandPreset({ extends: name, ...OWN }));
    expect(parsed.error?.issues ?? []).toEqual([]);
  });

  it('puts the values of the user over those of the preset, and drops `extends`', () => {
    const expanded = expandPreset({ extends: 'paper-7b', ...OWN, stages: { sampling: { samples: 4 } } });
    const { stages, ...rest } = Experiment.parse(expanded);
    expect(expanded).not.toHaveProperty('extends');
    expect(rest).toMatchObject({ name: 'mine', seeds: OWN.seeds });
    expect(stages.sampling).toMatchObject({ samples: 4, temperature: 1, maxNewTokens: 1024 });
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

  it('has the label rule and training settings of the paper in paper-7b', () => {
    const { stages } = Experiment.parse(expandPreset({ extends: 'paper-7b', ...OWN }));
    expect(stages.preferences).toMatchObject({ minimumBest: 0.8, minimumGap: 0.4, worstAbove: 0 });
    expect(stages.preferences.maximumPerQuestion).toBeUndefined();
    expect(stages.filtering).toMatchObject({ minimumTestCases: 5 });
    expect(stages.rewardModel).toMatchObject({
      learningRate: 1e-5,
      epochs: 1,
      batchSize: 128,
      schedule: 'cosine',
      warmupRatio: 0.1,
      upperLayers: null,
    });
    expect(stages.reinforcement).toMatchObject({
      promptsPerRound: 256,
      samplesPerPrompt: 8,
      reward: { tests: 'allPass', rewardModelWeight: 0 },
    });
    expect(stages.reinforcement.algorithm).toMatchObject({
      learningRate: 5e-7,
      beta: 0.01,
      clip: 0.2,
      rewardClip: 10,
      batchSize: 128,
    });
  });
});
