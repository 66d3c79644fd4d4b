/** Stored replies and samples: needed where they are read, and in the key where they have always been. */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { stageKey } from '../../activities/artifacts/keys.js';
import { chainInputs, givenOf } from './chain.js';
import { Experiment } from './experiment.js';
import { checkInput } from './inputs.js';
import { keyedConfig, readsRecorded, unkeyedConfig } from './recorded.js';
import type { ArtifactRef } from './artifacts.js';
import { semanticsOf } from './stage-definition.js';
import { StageConfigs } from './stages/index.js';

/** What else is in the key of each stage. */
const KEYED = {
  synthesis: { version: { plan: 1, request: 1, parse: 4, seal: 1 }, kind: 'questions' },
  filtering: { version: { plan: 3, request: 3, judge: 6, seal: 4 }, kind: 'filteredQuestions' },
  sampling: { version: { plan: 1, request: 1, judge: 4, seal: 1 }, kind: 'programs' },
} as const;

interface GoldenKey {
  from: string;
  step: 'synthesis' | 'filtering' | 'sampling';
  config: object;
  inputs: Record<string, string>;
  key: string;
}
const { configured } = JSON.parse(
  readFileSync(new URL('../../test/fixtures/golden-keys.json', import.meta.url), 'utf8'),
) as { configured: GoldenKey[] };
const golden = configured.filter(
  ({ from, step, config }) => from === 'choices' && step in KEYED && readsRecorded(step, config),
);

/** Where a key has the reference. */
const reference = { synthesis: 'teacher.replies', filtering: 'oracle.programs.samples', sampling: 'sampler.samples' };

const at = (value: unknown, path: string): unknown =>
  path.split('.').reduce<unknown>((each, name) => (each as Record<string, unknown>)[name], value);

describe('the key of a stage that reads what is recorded', () => {
  it.each(golden)('is for $step what it was when the reference was a setting', ({ step, config, inputs, key }) => {
    const ref = at(config, reference[step]) as ArtifactRef;
    const settings = StageConfigs[step].parse(unkeyedConfig(step, config));
    const keyed = keyedConfig(step, settings, { replies: ref, samples: ref });
    expect(at(keyed, reference[step])).toEqual(ref);
    const recipe = { stage: step, ...KEYED[step], semantics: semanticsOf(keyed), inputs };
    expect(stageKey(recipe)).toBe(key);
    expect(unkeyedConfig(step, keyed)).toEqual(settings);
  });

  it('is tried for every such stage', () => {
    expect(golden.map(({ step }) => step).sort()).toEqual(['filtering', 'sampling', 'synthesis']);
  });

  it('has nothing added where nothing is read', () => {
    const config = StageConfigs.synthesis.parse({});
    expect(keyedConfig('synthesis', config, {})).toBe(config);
    expect(keyedConfig('evaluation', config, {})).toBe(config);
  });
});

describe('stored replies and samples', () => {
  const questions = { kind: 'questions', path: 'q.jsonl' };
  const samples = { kind: 'samples', path: 's.jsonl' };
  const oracle = { kind: 'model', programs: { kind: 'recorded' } };

  it('are needed where they are read, whatever else is wrong', () => {
    const mistakes = checkInput('filtering', { inputs: { questions }, config: { oracle, shardSize: 0 } }).mistakes;
    expect(mistakes?.map(({ path }) => path).sort()).toEqual(['config.shardSize', 'inputs.samples']);
    expect(checkInput('filtering', { inputs: { questions, samples }, config: { oracle } }).mistakes).toBeUndefined();
    expect(checkInput('filtering', { inputs: { questions } }).mistakes).toBeUndefined();
    const refresh = { name: 'n', seeds: { kind: 'seeds', path: 'x.jsonl' }, filtering: { oracle } };
    expect(checkInput('datasetRefresh', refresh).mistakes?.map(({ path }) => path)).toEqual(['inputs.oracleSamples']);
  });

  it('are named once where they are still a setting', () => {
    const { mistakes } = checkInput('sampling', {
      inputs: { questions: { kind: 'filteredQuestions', path: 'q.jsonl' } },
      config: { sampler: { kind: 'recorded', samples } },
    });
    expect(mistakes).toEqual([{ path: 'config.sampler.samples', value: samples, message: 'moved to inputs.samples' }]);
  });

  it('reach the stage that reads them, and no other', () => {
    const given = givenOf({ seeds: { of: 'seeds' }, inputs: { replies: { of: 'replies' } } });
    const inputs = (teacher: object) =>
      chainInputs('synthesis', StageConfigs.synthesis.parse({ teacher }), { given, outputs: {} });
    expect(inputs({ kind: 'recorded' })).toEqual({ seeds: { of: 'seeds' }, replies: { of: 'replies' } });
    expect(inputs({ kind: 'offline' })).toEqual({ seeds: { of: 'seeds' } });
  });

  it('are left out of an experiment that has none', () => {
    const seeds = { kind: 'seeds', path: 's.jsonl' };
    const models = { policy: { kind: 'folder', path: 'm' } };
    expect(Experiment.parse({ name: 'n', seeds, models })).not.toHaveProperty('inputs');
  });
});
