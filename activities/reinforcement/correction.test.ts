/** When importance weights correct for a sampler, and by which name. */
import { describe, expect, it } from 'vitest';
import { ReinforcementConfig } from '../../workflows/contract/index.js';
import { correctionOf, wantsLogProbabilities } from './correction.js';

const GPU = 'NVIDIA H100';

describe('the correction of a round', () => {
  it.each([
    [{}, 'cpu', 'none', undefined],
    [{}, GPU, 'dtype', 2],
    [{ engine: 'vllm' }, 'cpu', 'engine', 2],
    [{ engine: 'vllm' }, GPU, 'engine', 2],
    [{ importanceCap: null, engine: 'vllm' }, GPU, 'none', undefined],
    [{ importanceCap: 1.5 }, 'cpu', 'setting', 1.5],
    [{ asynchronous: { importanceCap: 3 } }, 'cpu', 'asynchronous', 3],
    [{ topP: 0.9 }, GPU, 'none', undefined],
    [{ topP: 0.9, engine: 'vllm' }, GPU, 'none', undefined],
  ])('of %j on %s is %s', (settings, device, why, cap) => {
    const config = ReinforcementConfig.parse(settings);
    const carried = wantsLogProbabilities(config, device);
    expect(correctionOf(config, carried)).toEqual(cap === undefined ? { why } : { why, cap });
    expect(carried).toBe(why !== 'none');
  });

  it('is not taken of rollouts that were stored without log-probabilities', () => {
    expect(correctionOf(ReinforcementConfig.parse({ engine: 'vllm' }), false)).toEqual({ why: 'none' });
  });

  it.each([
    [{ topP: 0.9, importanceCap: 2 }, ['topP']],
    [{ topP: 0.9, asynchronous: {} }, ['topP']],
    [{ importanceCap: 2, asynchronous: {} }, ['importanceCap']],
    [
      { rounds: 3, importanceCap: 2, changes: [{ fromRound: 2, settings: { topP: 0.5 } }] },
      ['changes', 0, 'settings', 'topP'],
    ],
  ])('is refused with %j', (settings, path) => {
    expect(ReinforcementConfig.safeParse(settings).error?.issues.map((issue) => issue.path)).toEqual([path]);
  });
});
