/** Canonical JSON, stage keys and digests: what lets finished work be found again, and what must never be mixed up. */
import { describe, expect, it } from 'vitest';
import { artifactDigest, deriveSeed, objectKeys, rowId, safeName, sha256, stageKey, type Recipe } from './keys.js';
import { HOSTILE_TEXTS } from '../../test/fixtures/hostile-texts.js';
import { Random } from '../statistics/random.js';
import {
  canonicalJson,
  type Json,
  semanticsOf,
  StageConfigs,
  STAGES,
  type StageName,
} from '../../workflows/contract/index.js';

const RECIPE: Recipe = {
  stage: 'sampling',
  version: 1,
  kind: 'programs',
  semantics: { samples: 16, temperature: 0.8, salt: '' },
  inputs: { questions: 'a'.repeat(64), policy: 'b'.repeat(64) },
};

/** A random JSON value of limited depth. */
function randomJson(random: Random, depth = 3): Json {
  const leaf = (): Json =>
    random.pick<Json>([
      null,
      true,
      false,
      random.integer(-1000, 1000),
      random.next(),
      '',
      'é"\\\n',
      `word${random.integer(0, 9)}`,
    ]);
  if (depth === 0 || random.chance(0.3)) return leaf();
  const size = random.integer(0, 4);
  if (random.chance(0.4)) return Array.from({ length: size }, () => randomJson(random, depth - 1));
  return Object.fromEntries(
    Array.from({ length: size }, (_, index) => [
      `${random.pick(['a', 'B', 'é', '1', 'zz'])}${index}`,
      randomJson(random, depth - 1),
    ]),
  );
}

/** The same value with the members of all objects in another order. */
function reordered(value: Json, random: Random): Json {
  if (Array.isArray(value)) return value.map((item) => reordered(item, random));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    random.shuffle(Object.entries(value)).map(([key, member]) => [key, reordered(member, random)]),
  );
}

describe('canonicalJson', () => {
  it('orders keys by code unit, leaves out undefined members and white space', () => {
    expect(canonicalJson({ b: 1, a: [true, null, 'x'], Z: { y: undefined, x: 0.5 }, é: 1e21 })).toBe(
      '{"Z":{"x":0.5},"a":[true,null,"x"],"b":1,"é":1e+21}',
    );
  });

  it('is one text for a value, whatever the order of its members, and holds the whole value', () => {
    const random = new Random(1);
    for (let round = 0; round < 300; round += 1) {
      const value = randomJson(random);
      const text = canonicalJson(value);
      expect(JSON.parse(text)).toEqual(value);
      expect(canonicalJson(reordered(value, random))).toBe(text);
    }
  });

  it('keeps the order of arrays', () => {
    expect(canonicalJson([1, 2])).not.toBe(canonicalJson([2, 1]));
  });

  it.each([
    [Number.NaN],
    [Number.POSITIVE_INFINITY],
    [10n],
    [() => 1],
    [Symbol('s')],
    [[undefined]],
    [{ deep: [Number.NaN] }],
  ])('refuses %s', (value) => {
    expect(() => canonicalJson(value)).toThrow(TypeError);
  });
});

describe('stageKey', () => {
  it('is the hash that stored artifacts are found by', () => {
    // Computed by Python's hashlib and json.dumps(sort_keys=True, separators=(',', ':')).
    expect(stageKey(RECIPE)).toBe('cc317a0c0f2a7436b6d3630e4dfb203a26c6954a1531e47d86274f689b4e0b58');
  });

  it('does not depend on the order in which semantics and inputs are written', () => {
    const inputs = { policy: 'b'.repeat(64), questions: 'a'.repeat(64) };
    expect(
      stageKey({
        inputs,
        semantics: { salt: '', temperature: 0.8, samples: 16 },
        kind: 'programs',
        version: 1,
        stage: 'sampling',
      }),
    ).toBe(stageKey(RECIPE));
  });

  it('changes with stage, version, any semantics, any input digest, and the names of inputs', () => {
    const others: Recipe[] = [
      { ...RECIPE, stage: 'evaluation' },
      { ...RECIPE, version: 2 },
      { ...RECIPE, semantics: { samples: 17, temperature: 0.8, salt: '' } },
      { ...RECIPE, semantics: { samples: 16, temperature: 0.8, salt: 'again' } },
      { ...RECIPE, semantics: { samples: 16, temperature: 0.8 } },
      { ...RECIPE, inputs: { ...RECIPE.inputs, policy: 'c'.repeat(64) } },
      { ...RECIPE, inputs: { questions: RECIPE.inputs['questions']! } },
      { ...RECIPE, inputs: { questions: 'b'.repeat(64), policy: 'a'.repeat(64) } },
    ];
    expect(new Set([RECIPE, ...others].map(stageKey)).size).toBe(others.length + 1);
  });

  const keyOf = (stage: StageName, config: object): string =>
    stageKey({
      stage,
      version: 1,
      kind: 'questions',
      semantics: semanticsOf(StageConfigs[stage].parse(config)),
      inputs: {},
    });

  it.each(STAGES)('of %s is the same for every execution', (stage) => {
    const execution = StageConfigs[stage].parse({}).execution as Record<string, unknown>;
    const other = Object.fromEntries(
      Object.entries(execution).map(([name, value]) => [name, typeof value === 'number' ? value + 1 : value]),
    );
    const patched = {
      execution: 'microBatch' in execution || 'maxRows' in execution ? { ...other, deviceClass: 'a100' } : other,
    };
    expect(StageConfigs[stage].parse(patched).execution).not.toEqual(execution);
    expect(keyOf(stage, patched)).toBe(keyOf(stage, {}));
  });

  it.each(STAGES)('of %s is another with another salt', (stage) => {
    expect(keyOf(stage, { salt: 'again' })).not.toBe(keyOf(stage, {}));
  });
});

describe('artifactDigest', () => {
  const files = [
    { name: 'rows.jsonl', sha256: '1'.repeat(64) },
    { name: 'heldOut.jsonl', sha256: '2'.repeat(64) },
  ];

  it('is the hash of kind, schema version and files in name order', () => {
    expect(artifactDigest('pairs', files)).toBe('481022bfa68766fbdb5e00404ff15ac189aff6d7a0be4f62f1a62281d8665149');
    expect(artifactDigest('pairs', [...files].reverse())).toBe(artifactDigest('pairs', files));
  });

  it('takes nothing else of a file: neither encoding nor size', () => {
    const more = files.map((file) => ({ ...file, bytes: 7, encoding: 'gzip' as const, rows: 3 }));
    expect(artifactDigest('pairs', more)).toBe(artifactDigest('pairs', files));
  });

  it('changes with kind, name and content', () => {
    const [first, second] = files as [(typeof files)[0], (typeof files)[0]];
    const digests = [
      artifactDigest('pairs', files),
      artifactDigest('programs', files),
      artifactDigest('pairs', [first]),
      artifactDigest('pairs', [{ ...first, name: 'rows-000000.jsonl' }, second]),
      artifactDigest('pairs', [
        { ...first, sha256: second.sha256 },
        { ...second, sha256: first.sha256 },
      ]),
    ];
    expect(new Set(digests).size).toBe(digests.length);
  });
});

describe('names of rows and objects', () => {
  it('derives pinned seeds and ids', () => {
    expect(deriveSeed(7, 'q-1', 3)).toBe(175461021108238);
    expect(rowId('p', 'q-1', { temperature: 0.8 }, 3)).toBe('p-f585aa31b491ca06dc60');
    expect(sha256('')).toBe('e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855');
  });

  it('derives seeds that every JSON reader holds, each of its own for its parts', () => {
    const seeds = Array.from({ length: 2000 }, (_, index) => deriveSeed(index % 2, 'q', Math.floor(index / 2)));
    expect(new Set(seeds).size).toBe(seeds.length);
    expect(seeds.every((seed) => Number.isSafeInteger(seed) && seed >= 0 && seed < 2 ** 48)).toBe(true);
    expect(deriveSeed(0, 'a', 'b')).not.toBe(deriveSeed(0, 'a,b'));
    expect(deriveSeed(0, 1)).not.toBe(deriveSeed(0, '1'));
  });

  it('lists shards and checkpoints in their order', () => {
    const shards = [0, 9, 10, 99_999].map((index) => objectKeys.shard('k', index, 'judge'));
    expect([...shards].sort()).toEqual(shards);
    const checkpoints = [5, 40, 300, 2_000_000].map((step) => objectKeys.checkpoint('k', step));
    expect([...checkpoints].sort()).toEqual(checkpoints);
    expect(checkpoints.every((key) => key.startsWith(objectKeys.checkpoints('k')))).toBe(true);
  });
});

describe('safeName', () => {
  it('leaves plain names as they are', () => {
    for (const name of ['quickstart', 'a', 'nightly_2', 'my-run.v1', '0'.repeat(100)])
      expect(safeName(name)).toBe(name);
    for (const name of ['My-Data', 'A']) expect(safeName(name, { keepCase: true })).toBe(name);
  });

  it.each(Object.entries(HOSTILE_TEXTS))('makes a name of any text: %s', (_, text) => {
    for (const keepCase of [false, true])
      expect(safeName(text, { keepCase })).toMatch(/^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$/);
  });

  it('keeps what is readable', () => {
    const readable = (text: string): string => safeName(text).replace(/-sha256-[0-9a-f]{32}$/, '');
    expect(
      ['../../../escape', 'team/run', 'r\u00e9sum\u00e9', '\uff0e\uff0e\uff0fx', '__proto__', '', '/'].map(readable),
    ).toEqual(['escape', 'team-run', 'resume', 'x', 'proto', 'name', 'name']);
  });

  it('gives different texts different names, also where case does not count, and also names of such names', () => {
    const texts = Object.values(HOSTILE_TEXTS);
    const all = [...texts, ...texts.map((text) => safeName(text)), ...texts.map((text) => safeName(safeName(text)))];
    const different = new Set(all);
    expect(new Set([...different].map((text) => safeName(text).toLowerCase())).size).toBe(different.size);
    expect(new Set([...different].map((text) => safeName(text, { keepCase: true }))).size).toBe(different.size);
  });

  it('keeps the keys of data sets', () => {
    const random = new Random(7);
    const characters = [...'abcXYZ019._-'];
    for (let times = 0; times < 1000; times += 1) {
      const name = `n${Array.from({ length: random.integer(0, 99) }, () => random.pick(characters)).join('')}`;
      expect(safeName(name, { keepCase: true })).toBe(name);
    }
  });
});
