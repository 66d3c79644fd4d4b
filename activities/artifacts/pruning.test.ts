/** What may be pruned of RL rounds, and which blobs documents still need. Pure. */
import { describe, expect, it } from 'vitest';
import type { Part } from './pruned.js';
import { namedBy, neededBlobs, newestStored, prunable, roundsOf, type Named } from './pruning.js';
import { MANIFEST_SCHEMA, type ArtifactRef, type Manifest } from '../../workflows/contract/index.js';

const policy = (name: string): ArtifactRef => ({
  kind: 'policy',
  key: `artifacts/policy/${name}.json`,
  digest: '0'.repeat(64),
  bytes: 1,
});
const POLICIES = ['1', '2', '3', '4', '5'].map(policy);
const BASE: ArtifactRef = { ...policy('base'), kind: 'model', key: 'artifacts/model/base.json' };

/** A manifest as far as pruning reads it. */
const manifest = (stage: string, inputs: Record<string, ArtifactRef>, config: object = {}): Named =>
  namedBy({ stage, config, inputs, files: [] });
const update = (round: number, of: ArtifactRef, reference: ArtifactRef): Named =>
  manifest('reinforcement.update', { policy: of, reference }, { round });
const rollouts = (round: number, of: ArtifactRef): Named =>
  manifest('reinforcement.rollouts', { policy: of }, { round });

/** The documents that five rounds leave, and others. `lag` is how many updates the sampled policy is behind. */
function documents(
  others: Record<string, Named> = {},
  { lag = 0, reference = (_round: number) => BASE } = {},
): Map<string, Named> {
  const before = (round: number): ArtifactRef => POLICIES[round - 2] ?? BASE;
  return new Map([
    ...POLICIES.map(({ key }, at) => [key, update(at + 1, before(at + 1), reference(at + 1))] as const),
    ...POLICIES.map((_, at) => [`artifacts/rollouts/${at + 1}.json`, rollouts(at + 1, before(at + 1 - lag))] as const),
    ...Object.entries(others),
  ]);
}

const ROUNDS = new Map(POLICIES.map((ref, at) => [at + 1, ref]));

const partsOf = (
  options: Partial<Parameters<typeof prunable>[0]>,
  of = documents(),
  kept: string[] = [],
): Record<string, Part> =>
  Object.fromEntries(
    [...prunable({ policies: ROUNDS, needed: [BASE], keepRounds: 2, ...options }, of, new Set(kept))].map(
      ([key, part]) => [key.replace(/^artifacts\/policy\/|\.json$/g, ''), part],
    ),
  );

const producer = { workflowId: 'w', runId: 'r', activity: 'a', attempt: 1, host: 'h', package: 'p', versions: {} };

describe('roundsOf', () => {
  it('goes back from the newest policy, also from what was merged from its adapters', async () => {
    const merged = policy('merged');
    const of = (stage: string, round: number, inputs: Record<string, ArtifactRef>): Manifest => ({
      ...{ schema: MANIFEST_SCHEMA, kind: 'policy', stage, stageKey: 'k', digest: BASE.digest, files: [], bytes: 0 },
      inputs: { reference: BASE, rollouts: BASE, rewards: BASE, ...inputs },
      ...{ config: { round }, metrics: {}, producer, createdAt: '2026-01-01T00:00:00Z', seconds: 0 },
    });
    const manifests = new Map([
      ...POLICIES.map(
        ({ key }, at) => [key, of('reinforcement.update', at + 1, { policy: POLICIES[at - 1] ?? BASE })] as const,
      ),
      [merged.key, of('reinforcement.merge', 5, { policy: POLICIES[4]! })] as const,
    ]);
    const store = { manifest: ({ key }: ArtifactRef) => Promise.resolve(manifests.get(key)!) };
    expect(await roundsOf(store, POLICIES[4]!)).toEqual(ROUNDS);
    expect(await roundsOf(store, merged)).toEqual(ROUNDS);
    expect(await roundsOf(store, merged, 4)).toEqual(new Map([...ROUNDS].slice(3)));
  });
});

describe('prunable', () => {
  it('leaves the newest rounds, and of those the state of the newest alone', () => {
    expect(partsOf({})).toEqual({ 1: 'all', 2: 'all', 3: 'all', 4: 'trainingState' });
    expect(partsOf({ keepRounds: 1 })).toEqual({ 1: 'all', 2: 'all', 3: 'all', 4: 'all' });
    expect(partsOf({ keepRounds: 9 })).toEqual({
      1: 'trainingState',
      2: 'trainingState',
      3: 'trainingState',
      4: 'trainingState',
    });
    expect(partsOf({ policies: new Map([...ROUNDS].slice(0, 1)) })).toEqual({});
  });

  it('leaves the newest state that the store holds, and what the rounds since then are trained again from', () => {
    const stateless = new Set([1, 2, 4, 5].map((round) => POLICIES[round - 1]!.key));
    const parts = prunable({ policies: ROUNDS, needed: [BASE], keepRounds: 1 }, documents(), new Set(), stateless);
    const rounds = [...parts].map(([key, part]) => [POLICIES.findIndex((policy) => policy.key === key) + 1, part]);
    expect(rounds).toEqual([
      [1, 'all'],
      [2, 'all'],
      [4, 'trainingState'],
    ]);
    expect(newestStored(ROUNDS, stateless)).toBe(3);
    // Of the first rounds, the store may hold no state: the start model is where they are trained again from.
    expect(newestStored(ROUNDS, new Set(POLICIES.map(({ key }) => key)))).toBe(0);
  });

  it('decides about rounds alike, however many older ones it is given', () => {
    expect(partsOf({ policies: new Map([...ROUNDS].slice(2)) })).toEqual({ 3: 'all', 4: 'trainingState' });
  });

  it('leaves everything where all rounds are to stay', () => {
    expect(partsOf({ keepRounds: null })).toEqual({});
  });

  it('leaves the reference in force, and takes those before it', () => {
    const reference = (round: number): ArtifactRef => (round < 2 ? BASE : round < 4 ? POLICIES[0]! : POLICIES[2]!);
    expect(partsOf({ needed: [POLICIES[2]!] }, documents({}, { reference }))).toEqual({
      1: 'all',
      2: 'all',
      3: 'trainingState',
      4: 'trainingState',
    });
  });

  it('leaves the policy that a round ahead samples, and takes those that asynchronous rounds sampled', () => {
    expect(partsOf({ keepRounds: 1, needed: [BASE, POLICIES[3]!] }, documents({}, { lag: 1 }))).toEqual({
      1: 'all',
      2: 'all',
      3: 'all',
      4: 'trainingState',
    });
  });

  it.each<[string, Record<string, Named>]>([
    ['an evaluation', { 'artifacts/evaluation/x.json': manifest('evaluation', { 'policy:mine': POLICIES[0]! }) }],
    [
      'an evaluation that is planned',
      { 'plans/x.json': namedBy({ config: {}, inputs: { 'policy:mine': POLICIES[0]! }, shards: [] }) },
    ],
    [
      'an experiment',
      { 'experiments/x.json': namedBy({ models: { policy: { kind: 'artifact', ref: POLICIES[0]! } } }) },
    ],
    ['rounds that started from it', { 'artifacts/policy/y.json': update(1, POLICIES[0]!, POLICIES[0]!) }],
    [
      'rounds that went another way with it as their reference',
      { 'artifacts/policy/y.json': update(2, POLICIES[0]!, POLICIES[0]!) },
    ],
    [
      'a later round of others whose reference it is',
      { 'artifacts/policy/y.json': update(3, POLICIES[1]!, POLICIES[0]!) },
    ],
    ['a reward model', { 'artifacts/rewardModel/y.json': manifest('rewardModel', { backbone: POLICIES[0]! }) }],
  ])('leaves what is named by %s', (_, others) => {
    expect(partsOf({}, documents(others))).toMatchObject({ 1: 'trainingState', 3: 'all' });
  });

  it('takes what only the next round of an equal beginning names', () => {
    expect(partsOf({}, documents({ 'artifacts/policy/y.json': update(3, POLICIES[1]!, BASE) }))).toMatchObject({
      2: 'all',
    });
  });

  it('leaves what another stage made to stay as it is', () => {
    expect(partsOf({}, documents(), [POLICIES[0]!.key])).toEqual({ 2: 'all', 3: 'all', 4: 'trainingState' });
  });
});

describe('neededBlobs', () => {
  const file = (name: string, sha256: string): object => ({ name, sha256, bytes: 1, encoding: 'identity' });
  const named = (...files: object[]): Named => namedBy({ stage: 'reinforcement.update', files });
  const all = new Map([
    [
      'artifacts/policy/1.json',
      named(
        file('model.safetensors', 'a'),
        file('training-state/optimizer.safetensors', 'b'),
        file('config.json', 'c'),
      ),
    ],
    ['artifacts/policy/2.json', named(file('model.safetensors', 'd'), file('config.json', 'c'))],
    ['plans/x.json', namedBy({ shards: [{ sha256: 'e' }] })],
  ]);
  const needed = (...parts: Part[]): string =>
    [...neededBlobs(all, new Map([['artifacts/policy/1.json', new Set(parts)]]))].sort().join('');

  it('are all that documents name, but for pruned parts', () => {
    expect(needed()).toBe('abcde');
    expect(needed('trainingState')).toBe('acde');
  });

  it('hold what a pruned artifact shares with one that stays', () => {
    expect(needed('all')).toBe('cde');
    expect(needed('trainingState', 'all')).toBe('cde');
  });
});
