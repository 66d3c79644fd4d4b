/** The time line of RL rounds: read from manifests, with the time in which the device waited. */
import { describe, expect, it } from 'vitest';
import { deviceWaiting, timeLine } from './timeline.js';
import type { ArtifactRef, Manifest, RoundStep } from '../../workflows/contract/index.js';

const keyOf = (name: string): string => `artifacts/policy/${name}.json`;
const ref = (name: string): ArtifactRef => ({ kind: 'policy', key: keyOf(name), digest: '0'.repeat(64), bytes: 1 });
const manifest = (inputs: Manifest['inputs'], to: number, seconds: number) => ({
  inputs,
  createdAt: new Date(1_000_000 + to * 1000).toISOString(),
  seconds,
});

describe('the time line of a round', () => {
  it('follows a policy back to its rollouts and verdicts', () => {
    const manifests = new Map([
      [keyOf('rollouts'), manifest({}, 6, 6)],
      [keyOf('verdicts'), manifest({ rollouts: ref('rollouts') }, 10, 4)],
      [keyOf('rewards'), manifest({ rollouts: ref('rollouts'), verdicts: ref('verdicts') }, 10.1, 0.1)],
      [
        keyOf('policy'),
        manifest({ rollouts: ref('rollouts'), rewards: ref('rewards'), reference: ref('other') }, 16, 5),
      ],
    ]);
    expect(timeLine([ref('policy')], manifests)).toEqual([
      [
        { step: 'sampling', from: 0, to: 6 },
        { step: 'judging', from: 6, to: 10 },
        { step: 'training', from: 11, to: 16 },
      ],
    ]);
  });

  it('has every draw of a round, where groups were drawn again', () => {
    const manifests = new Map([
      [keyOf('first'), manifest({}, 6, 6)],
      [keyOf('judged'), manifest({ rollouts: ref('first') }, 8, 2)],
      [keyOf('rollouts'), manifest({ earlier: ref('first') }, 10, 2)],
      [keyOf('verdicts'), manifest({ rollouts: ref('rollouts'), earlier: ref('judged') }, 11, 1)],
      [keyOf('rewards'), manifest({ rollouts: ref('rollouts'), verdicts: ref('verdicts') }, 11, 0)],
      [keyOf('policy'), manifest({ rollouts: ref('rollouts'), rewards: ref('rewards') }, 16, 5)],
    ]);
    expect(timeLine([ref('policy')], manifests)).toEqual([
      [
        { step: 'sampling', from: 0, to: 6 },
        { step: 'sampling', from: 8, to: 10 },
        { step: 'judging', from: 6, to: 8 },
        { step: 'judging', from: 10, to: 11 },
        { step: 'training', from: 11, to: 16 },
      ],
    ]);
  });
});

describe('the waiting of the device', () => {
  const steps = (...spans: [RoundStep['step'], number, number][]): RoundStep[] =>
    spans.map(([step, from, to]) => ({ step, from, to }));

  it('is the time in which programs run and nothing else does', () => {
    const round = steps(['sampling', 0, 6], ['judging', 6, 10], ['training', 10, 16]);
    expect(deviceWaiting([round])).toBe(4 / 16);
  });

  it('is none where the next round is sampled meanwhile', () => {
    expect(
      deviceWaiting([
        steps(['sampling', 0, 6], ['judging', 6, 10], ['training', 12, 18]),
        steps(['sampling', 6, 12], ['training', 18, 24]),
      ]),
    ).toBe(0);
  });

  it('is none without work', () => expect(deviceWaiting([])).toBe(0));
});
