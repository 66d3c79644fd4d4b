/**
 * Traces over a store of a few artifacts: back to the seed, on to what was built, and what is told where one is
 * not.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import {
  Manifest,
  StageFailure,
  type ArtifactKind,
  type ArtifactRef,
  type TestOutcome,
} from '../../workflows/contract/index.js';
import { artifactDigest, sha256, stageKey } from '../artifacts/keys.js';
import { refOf } from '../artifacts/manifests.js';
import { digestsOf } from '../artifacts/produce.js';
import { traceText } from './text.js';
import { Tracer, type Step } from './trace.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-trace-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const TEST = 'assert double(2) == 4';
const pass: TestOutcome = { status: 'pass' };
const fail: TestOutcome = { status: 'assertion_failed' };
const SEED = { id: 'own/double', source: 'own', code: 'def double(x):\n    return 2 * x\n' };
const OTHER = { id: 'own/half', source: 'own', code: 'def half(x):\n    return x / 2\n' };
const QUESTION = {
  id: 'q-1',
  seedId: 'own/double',
  source: 'own',
  question: 'Double it.',
  entryPoint: 'double',
  reference: SEED.code,
};
const taught = { ...QUESTION, testCases: [{ test: 'assert double(1) == 3', corrupted: true }, { test: TEST }] };
const filtered = { ...QUESTION, tests: [TEST], testCases: 2, split: 'train' };

/** A store of manifests and files, which counts what is read of it. */
class Shelf {
  readonly manifests = new Map<string, Manifest>();
  readonly pruned = new Set<string>();
  reads = 0;
  listings = 0;

  put(
    kind: ArtifactKind,
    rows: object[] | undefined,
    inputs: Record<string, ArtifactRef> = {},
    {
      stage = kind,
      config = {},
      version = 1,
      metrics = {},
    }: Partial<Pick<Manifest, 'stage' | 'config' | 'metrics'>> & {
      version?: number | Record<string, number>;
    } = {},
  ): ArtifactRef {
    const text = (rows ?? []).map((row) => `${JSON.stringify(row)}\n`).join('');
    const files = rows
      ? [{ name: 'rows.jsonl', sha256: sha256(text), bytes: text.length, encoding: 'gzip' as const, rows: rows.length }]
      : [];
    for (const file of files) writeFileSync(join(folder, file.sha256), text);
    const manifest = Manifest.parse({
      schema: 1,
      kind,
      stage,
      stageKey: stageKey({ stage, version, kind, semantics: config, inputs: digestsOf(inputs) }),
      digest: artifactDigest(kind, [...files, { name: stage, sha256: sha256(JSON.stringify([config, inputs])) }]),
      files,
      rows: rows?.length,
      bytes: text.length,
      inputs,
      config,
      metrics,
      producer: { workflowId: 'run', runId: 'r', activity: stage, attempt: 1, host: 'h', package: 'p@1', versions: {} },
      createdAt: '2026-01-01T00:00:00.000Z',
      seconds: 1,
    });
    const ref = refOf(manifest);
    this.manifests.set(ref.key, manifest);
    return ref;
  }

  findManifest(key: string): Promise<Manifest | undefined> {
    this.reads += 1;
    return Promise.resolve(this.manifests.get(key));
  }

  fetch({ sha256: name }: { sha256: string }): Promise<string> {
    return Promise.resolve(join(folder, name));
  }

  list(): Promise<{ key: string; modified: Date; bytes: number }[]> {
    this.listings += 1;
    return Promise.resolve([...this.manifests.keys()].map((key) => ({ key, modified: new Date(0), bytes: 0 })));
  }

  prunedFailure({ key }: { key: string }): Promise<StageFailure | undefined> {
    return Promise.resolve(this.pruned.has(key) ? new StageFailure('ArtifactPruned', `${key} was pruned`) : undefined);
  }
}

/** One question of two, through a round of RL, to the evaluation of its policy. */
function chain() {
  const shelf = new Shelf();
  const seeds = shelf.put('seeds', [OTHER, SEED], {}, { stage: 'import' });
  const replies = shelf.put(
    'replies',
    [
      { seedId: 'own/half', text: 'half' },
      { seedId: 'own/double', text: '{"question": "Double it."}' },
    ],
    { seeds },
    { stage: 'synthesis.request' },
  );
  const questions = shelf.put('questions', [taught], { seeds, replies }, { stage: 'synthesis' });
  const filtering = { stage: 'filtering', version: { plan: 1, judge: 2, seal: 1 } };
  const kept = shelf.put('filteredQuestions', [filtered], { questions }, filtering);
  const model = shelf.put('model', undefined, {}, { stage: 'models.import' });
  const programs = shelf.put(
    'programs',
    [good('p-1', [pass], 1), good('p-2', [fail], 0)],
    { questions: kept, policy: model },
    { stage: 'sampling' },
  );
  const pairs = shelf.put(
    'pairs',
    [{ id: 'pair-1', questionId: 'q-1', split: 'train', question: 'Double it.', chosen: 'p-1', rejected: 'p-2' }],
    { programs },
    { stage: 'preferences' },
  );
  const rewardModel = shelf.put('rewardModel', undefined, { pairs, backbone: model });
  const round = { config: { round: 1 } };
  const plan = shelf.put(
    'roundPlan',
    [{ questionId: 'q-1', question: 'Double it.', tests: [TEST], seeds: [1] }],
    { questions: kept },
    { stage: 'reinforcement.plan', ...round },
  );
  const rollouts = shelf.put(
    'rollouts',
    [{ id: 'r-1', questionId: 'q-1', index: 0, text: SEED.code, finish: 'stop', promptIds: [1], completionIds: [2] }],
    { plan, policy: model },
    { stage: 'reinforcement.rollouts', ...round },
  );
  const verdicts = shelf.put(
    'verdicts',
    [{ id: 'r-1', outcomes: [pass], passRate: 1 }],
    { plan, rollouts },
    { stage: 'reinforcement.judge', version: 2, ...round },
  );
  const rewards = shelf.put(
    'rewards',
    [{ id: 'r-1', questionId: 'q-1', passRate: 1, reward: 1 }],
    { rollouts, verdicts },
    { stage: 'reinforcement.reward', ...round },
  );
  const policy = shelf.put(
    'policy',
    undefined,
    { policy: model, reference: model, rollouts, rewards },
    { stage: 'reinforcement.update', ...round },
  );
  const answer = (name: string, taskId: string) => ({
    ...{ id: `e-${name}`, policy: name, benchmark: 'humaneval', taskId, mode: 'greedy', sample: 0, question: 'Q' },
    ...{ program: SEED.code, response: SEED.code, programPrefix: '', finish: 'stop', outcomes: [pass], passed: true },
  });
  const evaluation = shelf.put(
    'evaluation',
    [answer('initial', 'HumanEval/0'), answer('trained', 'HumanEval/0')],
    { questions: kept, rewardModel, 'policy:initial': model, 'policy:trained': policy },
    { stage: 'evaluation' },
  );
  return { shelf, seeds, replies, kept, programs, pairs, rewardModel, rollouts, policy, evaluation, model };
}

function good(id: string, outcomes: TestOutcome[], passRate: number) {
  return {
    ...{ id, questionId: 'q-1', split: 'train', question: 'Double it.', index: 0, program: id, finish: 'stop' },
    ...{ outcomes, passRate },
  };
}

/** Every step, in the order in which it is told. */
const flat = (steps: readonly Step[]): Step[] => steps.flatMap((step) => [step, ...flat(step.next)]);
const names = (steps: readonly Step[]): string[] => flat(steps).map(({ what, row }) => (row ? `${what} ${row}` : what));

let store: ReturnType<typeof chain>;
beforeEach(() => {
  store = chain();
});
const tracer = (options: { rows?: number; depth?: number } = {}): Tracer =>
  new Tracer(store.shelf, { rows: 1, depth: Infinity, ...options });

describe('a trace back', () => {
  it('of a figure leads over the samples, the round and the question to the seed, each step once', async () => {
    const where = { policy: 'trained', mode: 'greedy' };
    const steps = await tracer().back({ key: store.evaluation.key, where });
    expect(names(steps)).toEqual([
      'evaluation sample e-trained',
      'policy of round 1',
      'reward of round 1 r-1',
      'verdict of round 1 r-1',
      'rollout of round 1 r-1',
      'prompt of round 1 q-1',
      'question q-1',
      'question as the teacher wrote it q-1',
      'test case q-1',
      "teacher's reply own/double",
      'seed own/double',
      'seed own/double',
      'model as it was given',
      'rollout of round 1 r-1',
      'rollout of round 1 r-1',
      'model as it was given',
      'model as it was given',
      'question q-1',
      'reward model',
      'preference pair pair-1',
      'program p-1',
      'question q-1',
      'model as it was given',
      'program p-2',
      'question q-1',
      'model as it was given',
      'model as it was given',
    ]);
    expect(store.shelf.listings).toBe(0);
    const test = flat(steps).find(({ what }) => what === 'test case');
    expect(test?.shows).toBe(`2 of 2: ${TEST}`);
  });

  it('tells the version of the code that the key proves, and the configuration', async () => {
    const versions = flat(await tracer().back({ key: store.rollouts.key, row: 'r-1' })).map(({ code }) => code);
    expect(versions.find(({ stage }) => stage === 'reinforcement.rollouts')?.version).toBe(1);
    expect(versions.find(({ stage }) => stage === 'filtering')?.version).toEqual({ plan: 1, judge: 2, seal: 1 });
    const [step] = await tracer().back({ key: store.rollouts.key, row: 'r-1' });
    expect(step?.configuration).toEqual({ round: 1 });
    expect(step?.by).toMatchObject({ workflowId: 'run' });
  });

  it('says of a key that no version leads to that it does not know', async () => {
    const key = store.shelf.put('model', undefined, {}, { stage: 'models.import', config: { a: 1 }, version: 99 }).key;
    expect((await tracer().back({ key }))[0]?.code.version).toBeNull();
  });

  it('marks an input that decides nothing of the row', async () => {
    const steps = await tracer().back({ key: store.evaluation.key, where: { policy: 'initial' } });
    const question = flat(steps).find(({ what }) => what === 'question');
    expect(question?.notes.join()).toContain('decides nothing of that row');
  });

  it('goes as deep as asked, and follows as many rows', async () => {
    expect(flat(await tracer({ depth: 2 }).back({ key: store.policy.key })).map(({ what }) => what)).toEqual([
      'policy of round 1',
      'reward of round 1',
      'rollout of round 1',
      'model as it was given',
      'model as it was given',
    ]);
    expect(await tracer({ rows: 2 }).back({ key: store.programs.key })).toHaveLength(2);
  });

  it('of a policy whose files were pruned goes on by its manifest', async () => {
    store.shelf.pruned.add(store.policy.key);
    const steps = await tracer().back({ key: store.policy.key });
    expect(steps[0]?.notes).toEqual(['its files were pruned, its manifest stays']);
    expect(names(steps)).toContain('seed own/double');
  });

  it.each([
    ['an unknown key', { key: 'artifacts/pairs/none.json' }, 'this store holds no artifact artifacts/pairs/none.json'],
    ['a row of an artifact without rows', { row: 'p-1' }, 'has no rows'],
  ])('of %s is refused in one sentence', async (_, target, sentence) => {
    await expect(tracer().back({ key: store.model.key, ...target })).rejects.toThrow(sentence);
  });

  it('of an unknown row is refused in one sentence', async () => {
    await expect(tracer().back({ key: store.programs.key, row: 'p-9' })).rejects.toThrow('has no row p-9');
  });
});

describe('a trace forward', () => {
  it('of a seed tells what was built of it, by rows', async () => {
    const all = await tracer().closure([store.evaluation.key]);
    const steps = await tracer().forward({ key: store.seeds.key, row: 'own/double' }, all.values());
    expect(new Set(names(steps).map((name) => name.replace(/ (of round 1|[pqre]-\w+|own.*)/g, '')))).toEqual(
      new Set([
        'seed',
        "teacher's reply",
        'question as the teacher wrote it',
        'question',
        'program',
        'preference pair pair-1',
        'reward model',
        'prompt',
        'rollout',
        'verdict',
        'reward',
        'policy',
        'evaluation sample',
      ]),
    );
    expect(store.shelf.listings).toBe(0);
  });

  it('of a seed that nothing was made of tells nothing', async () => {
    const all = await tracer().everything();
    expect(store.shelf.listings).toBe(1);
    const [step] = await tracer().forward({ key: store.seeds.key, row: 'own/half' }, all.values());
    expect(flat(step!.next).map(({ what }) => what)).toEqual(["teacher's reply"]);
  });

  it('of a test tells its verdicts', async () => {
    const all = await tracer().closure([store.evaluation.key]);
    const steps = await tracer().forward({ key: store.kept.key, row: 'q-1', test: 1 }, all.values());
    const programs = flat(steps).find(({ kind }) => kind === 'programs');
    expect(programs).toMatchObject({ rows: 2, notes: ['such as p-1', 'test 1: 1 pass, 1 assertion_failed'] });
  });
});

describe('the text of a trace', () => {
  it('has the key, the code and the settings of each step', async () => {
    const [what, key, made] = traceText(await tracer().back({ key: store.rollouts.key, row: 'r-1' }));
    expect(what).toMatch(/^rollout of round 1 r-1: 1 tokens, stop: def double\(x\):/);
    expect(key).toBe(`  ${store.rollouts.key}`);
    expect(made).toBe('  by reinforcement.rollouts, version 1, p@1, in run, 2026-01-01 00:00; with {"round":1}');
  });
});
