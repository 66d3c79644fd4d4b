/** What settings name beside the inputs: looked up by its path, and only where it is used. */
import { describe, expect, it } from 'vitest';
import { StageConfigs } from '../contract/index.js';
import { lookupsOf } from './inputs.js';

const humaneval = { kind: 'humaneval', every: 1, offset: 0 };

describe('lookupsOf', () => {
  it('names benchmarks and engines by their paths, and the teacher', () => {
    const settings = {
      synthesis: StageConfigs.synthesis.parse({}),
      evaluation: StageConfigs.evaluation.parse({ benchmarks: [{ kind: 'heldOut' }, humaneval], engine: 'vllm' }),
    };
    expect(lookupsOf(settings, (stage) => `stages.${stage}.`)).toEqual({
      benchmarks: {
        'stages.synthesis.decontaminate.0': humaneval,
        'stages.evaluation.benchmarks.0': { kind: 'heldOut' },
        'stages.evaluation.benchmarks.1': humaneval,
      },
      engines: { 'stages.evaluation.engine': 'vllm' },
      teacher: settings.synthesis.teacher,
    });
  });

  it('leaves out the engine of a sampler that is no policy, and stages without settings', () => {
    const sampling = StageConfigs.sampling.parse({ sampler: { kind: 'recorded' }, engine: 'vllm' });
    expect(lookupsOf({ sampling, evaluation: undefined }, () => 'config.')).toEqual({ benchmarks: {}, engines: {} });
  });
});
