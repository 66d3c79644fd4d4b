/** The stage `hardening` on real servers: what it adds, whom that kills, and what later stages make of it. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, inject, it } from 'vitest';
import { collect } from '../../activities/artifacts/collections.js';
import { selectQuestions, withHardenedTests } from '../../activities/policy/questions.js';
import {
  PairRow,
  ProgramRow,
  VerifierRow,
  type ArtifactRef,
  type FilteredQuestionRow,
  type StageResult,
} from '../../workflows/contract/index.js';
import { HeldRuntime } from '../fixtures/held-runtime.js';
import { artifactStore, failureOf, startWorkflow, workerProcess } from '../fixtures/harness.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-hardening-'));

function file(name: string, rows: readonly object[]): string {
  const path = join(folder, name);
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
}

const EVENS: FilteredQuestionRow = {
  id: 'q-evens',
  seedId: 's-evens',
  source: 'own',
  question: 'Write evens(xs), which gives the sum of the even numbers of a list.',
  entryPoint: 'evens',
  reference: 'def evens(xs):\n    return sum(x for x in xs if x % 2 == 0)\n',
  tests: ['assert evens([1, 2, 3, 4]) == 6', 'assert evens([2, 8, 5]) == 10', 'assert evens([7, 6]) == 6'],
  split: 'train',
};
const STRUCTURED: FilteredQuestionRow = {
  ...EVENS,
  id: 'q-echo',
  seedId: 's-echo',
  entryPoint: 'echo',
  reference: 'print(input())\n',
  tests: [{ stdin: 'a', stdout: 'a' }],
};

/** Programs of a question, with what its own tests say of them. */
function programs(
  { id, question, split }: FilteredQuestionRow,
  given: Record<string, [string, boolean[]]>,
): ProgramRow[] {
  return Object.entries(given).map(([name, [program, passes]], index) => ({
    id: name,
    questionId: id,
    split,
    question,
    index,
    program,
    finish: 'stop',
    outcomes: passes.map((pass) => ({ status: pass ? 'pass' : 'assertion_failed' })),
    passRate: passes.filter(Boolean).length / passes.length,
  }));
}

const questions = file('questions.jsonl', [EVENS, STRUCTURED]);
const sampled = file('programs.jsonl', [
  ...programs(EVENS, {
    right: [
      'def evens(xs):\n    t = 0\n    for x in xs:\n        if not x % 2: t += x\n    return t',
      [true, true, true],
    ],
    // Right as long as no even number comes twice.
    wrong: ['def evens(xs):\n    return sum({x for x in xs if x % 2 == 0})', [true, true, true]],
    worse: ['def evens(xs):\n    return sum(xs[1:2])', [false, false, true]],
  }),
  ...programs(STRUCTURED, { echo: ['print(input())', [true]] }),
]);

async function harden(config: object, more: object = {}): Promise<StageResult> {
  const inputs = {
    questions: { kind: 'filteredQuestions', path: questions },
    programs: { kind: 'programs', path: sampled },
    ...more,
  };
  return (await (await startWorkflow('hardening', { inputs, config })).result()) as StageResult;
}

async function ratesOf(ref: ArtifactRef): Promise<Record<string, number>> {
  const rates: Record<string, number> = {};
  for await (const { id, passRate } of artifactStore().rowsOf(ref, ProgramRow)) rates[id] = passRate;
  return rates;
}

describe('hardening', () => {
  it('tries what a recorded teacher proposes, and keeps what kills', async () => {
    const replies = file('replies.jsonl', [
      { seedId: 's-evens', text: 'Try `evens([4, 2, 8, 6])`, or ["evens(\\"a\\")"].' },
      { seedId: 's-of-nobody', text: 'evens([2, 4])' },
    ]);
    const [first] = programs(EVENS, {
      // Wrong for one list alone, which no attacker finds.
      hardCoded: [
        'def evens(xs):\n    return 1 if xs == [4, 2, 8, 6] else sum(x for x in xs if x % 2 == 0)',
        [true, true, true],
      ],
    });
    const more = { programs: { kind: 'programs', path: file('hard-coded.jsonl', [first!]) } };
    const alone = await harden({ maximumTests: 8 }, more);
    expect((await ratesOf(alone.ref))['hardCoded']).toBe(1);
    expect(alone.metrics).not.toHaveProperty('teacher');
    const config = { maximumTests: 8, teacher: { kind: 'recorded' } };
    const taught = await harden(config, { ...more, replies: { kind: 'replies', path: replies } });
    expect(taught.metrics['teacher']).toEqual({ proposed: 2, tried: 1, tests: 1 });
    expect((await ratesOf(taught.ref))['hardCoded']).toBeLessThan(1);
    expect(await failureOf(await startWorkflow('hardening', { inputs: { questions, ...more }, config }))).toMatchObject(
      {
        type: 'InvalidExperiment',
        message: expect.stringContaining("inputs.replies: needed, because config.teacher.kind is 'recorded'") as string,
      },
    );
  });

  it('kills the wrong program that passes the tests of its question, and no right one', async () => {
    const { ref, metrics } = await harden({ maximumTests: 8 });
    expect(metrics).toMatchObject({
      questions: 2,
      hardened: 1,
      programs: 4,
      notHardened: { noAsserts: 1 },
      survivors: { programs: 3, killed: 1 },
      // No row has a contract. The right program agrees with the reference everywhere, and where the wrong one does not,
      // one of two is no majority.
      trusts: {
        reference: { tests: 8, killed: 1 },
        contract: { tests: 0, killed: 0 },
        agreement: { tests: 6, killed: 0 },
      },
    });
    const { rank } = metrics as { rank: { proposed: number; added: number } };
    expect(rank.added).toBeGreaterThan(0);
    expect(rank.proposed).toBeGreaterThanOrEqual(rank.added);
    const rates = await ratesOf(ref);
    expect(rates).toMatchObject({ right: 1, echo: 1 });
    expect(rates['wrong']).toBeLessThan(1);

    // Rewards of RL are by the same tests.
    const plain = await selectQuestions(artifactStore(), await questionsRef(ref), 'train', undefined, '');
    const hardened = await withHardenedTests(artifactStore(), plain, ref);
    expect(hardened.find(({ id }) => id === EVENS.id)!.tests).toHaveLength(EVENS.tests.length + 8);
    expect(hardened.find(({ id }) => id === STRUCTURED.id)!.tests).toEqual(STRUCTURED.tests);

    // Where all that passed was equal, pairs come of it.
    const pairsOf = async (programsOf: object): Promise<number> => {
      const inputs = { programs: programsOf };
      const config = { labels: 'strict' };
      const result = (await (await startWorkflow('preferences', { inputs, config })).result()) as StageResult;
      const pairs: PairRow[] = [];
      for await (const pair of artifactStore().rowsOf(result.ref, PairRow)) pairs.push(pair);
      return pairs.filter(({ rejected }) => rejected.includes('sum({x')).length;
    };
    expect(await pairsOf({ kind: 'programs', path: sampled })).toBe(0);
    expect(await pairsOf(ref)).toBe(1);
  });

  it('makes the same tests again, whatever the size of its shards', async () => {
    const one = await harden({ maximumTests: 4, salt: 'one', shardSize: 1 });
    const two = await harden({ maximumTests: 4, salt: 'two' });
    expect(one.reused || two.reused).toBe(false);
    expect(two.ref.digest).toBe(one.ref.digest);
  });

  it('loses the shard in which its worker is killed, and no other', { tags: 'long' }, async () => {
    const named = (name: string): FilteredQuestionRow => ({
      ...EVENS,
      id: `q-${name}`,
      seedId: `s-${name}`,
      entryPoint: name,
      reference: EVENS.reference.replace('evens', name),
      tests: EVENS.tests.map((test) => (typeof test === 'string' ? test.replace('evens', name) : test)),
    });
    const asked = ['first', 'second', 'third'].map(named);
    const written = asked.flatMap((question) =>
      programs(question, { [`${question.id} a`]: [question.reference, [true, true, true]] }),
    );
    const inputs = {
      questions: { kind: 'filteredQuestions', path: file('three-questions.jsonl', asked) },
      programs: { kind: 'programs', path: file('three-programs.jsonl', written) },
    };
    const config = { maximumTests: 4, shardSize: 1, execution: { window: 1 } };
    const undisturbed = (await (
      await startWorkflow('hardening', { inputs, config: { ...config, salt: 'undisturbed' } })
    ).result()) as StageResult;

    const queue = 'hardening-killed';
    const held = new HeldRuntime(join(inject('stack').home, queue));
    held.hold('run', 'def second');
    const first = workerProcess(
      queue,
      { ...inject('environment'), ACECODER_SANDBOX_PYTHON: held.python },
      'without-gpu',
    );
    const handle = await startWorkflow(
      'hardening',
      { inputs, config: { ...config, salt: 'killed' } },
      { taskQueue: queue },
    );
    await held.held('run');
    await first.kill();
    const second = workerProcess(queue, undefined, 'without-gpu');
    try {
      const { ref } = (await handle.result()) as StageResult;
      expect(ref.key).not.toBe(undisturbed.ref.key);
      expect(ref.digest).toBe(undisturbed.ref.digest);
      const attempts = new Map<string, number>();
      for (const event of (await handle.fetchHistory()).events ?? []) {
        const { activityTaskScheduledEventAttributes: asks, activityTaskStartedEventAttributes: starts } = event;
        if (asks?.activityType?.name === 'hardening.attack') attempts.set(String(event.eventId), 0);
        const started = String(starts?.scheduledEventId);
        if (attempts.has(started)) attempts.set(started, starts!.attempt!);
      }
      expect([...attempts.values()]).toEqual([1, 2, 1]);
    } finally {
      await second.stop();
    }
  });

  it('takes an input only where another program agrees, if that is asked for', async () => {
    const { metrics } = await harden({ maximumTests: 4, trust: 'agreement', salt: 'agreement' });
    expect(metrics).toMatchObject({ hardened: 1, survivors: { programs: 3 } });
  });
});

/** The questions that an artifact was made of. */
async function questionsRef(ref: ArtifactRef): Promise<ArtifactRef> {
  const { inputs } = await artifactStore().manifest(ref);
  return inputs['questions'] as ArtifactRef;
}

describe('preferences of hardened programs', () => {
  it('know how good the tests of each question are, and drop those that are worth too little', async () => {
    const { ref: programs } = await harden({ maximumTests: 8 });
    const made = async (config: object): Promise<StageResult> =>
      (await (
        await startWorkflow('preferences', { inputs: { programs }, config: { labels: 'strict', ...config } })
      ).result()) as StageResult;
    const store = artifactStore();
    const { ref, metrics } = await made({ verifier: {} });
    const files = (await store.manifest(ref)).files.filter(({ name }) => name === 'verifiers.jsonl');
    const verifiers = await collect(store.readRows(files, VerifierRow));
    // A question without a pair has its row too, and one without mutants no mutation score.
    expect(verifiers.map(({ questionId }) => questionId)).toEqual([EVENS.id, STRUCTURED.id]);
    const [{ questionId: _evens, ...evens }, structured] = verifiers as [VerifierRow, VerifierRow];
    expect(evens).toMatchObject({ programs: 3, tests: EVENS.tests.length + 8, discrimination: 1 });
    expect(evens.mutationScore).toBeGreaterThan(0.5);
    expect(structured).not.toHaveProperty('mutationScore');
    const pairs = await collect(store.rowsOf(ref, PairRow));
    expect(pairs.length).toBeGreaterThan(0);
    for (const { verifier } of pairs) expect(verifier).toEqual(evens);

    const plain = await made({});
    expect((await store.manifest(plain.ref)).files.map(({ name }) => name)).not.toContain('verifiers.jsonl');
    expect(plain.ref.key).not.toBe(ref.key);
    const without = pairs.map(({ verifier: _, ...pair }) => pair);
    expect(await collect(store.rowsOf(plain.ref, PairRow))).toEqual(without);

    expect(metrics['skipped']).not.toHaveProperty('weakVerifier');
    const config = { labels: 'strict', verifier: { minimumRank: 100 } };
    expect(await failureOf(await startWorkflow('preferences', { inputs: { programs }, config }))).toMatchObject({
      message: expect.stringContaining(
        'made no pairs of 4 programs for 2 questions (0 pairs are held out): weakVerifier 2',
      ) as string,
    });
  });
});
