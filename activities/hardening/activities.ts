/**
 * Hardening: tests that kill wrong programs which pass a question's own tests, and the programs rated by all tests.
 *
 * The reference and its mutants run in one process of the sandbox, and programs of the sampler in theirs, judged as all
 * programs are. The reference is judged so too: a test that it fails is none.
 */
import { z } from 'zod';
import {
  CheckedTest,
  FilteredQuestionRow,
  ProgramRow,
  ReplyRow,
  STAGE,
  type ArtifactRef,
  type TestOutcome,
} from '../../workflows/contract/index.js';
import { count } from '../artifacts/collections.js';
import { deriveSeed } from '../artifacts/keys.js';
import { RowIndex } from '../artifacts/row-index.js';
import { contentOf } from '../endpoint/content.js';
import { notesOf } from '../execution/execution.js';
import { HARDENED, HARDENED_QUESTIONS } from '../policy/questions.js';
import { cancellationSignal, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { inShards, ShardedStage } from '../runtime/sharded-stage.js';
import { pairsOf } from './choose.js';
import { harden, TRUSTS, type Trust } from './harden.js';

const QuestionWithPrograms = z.strictObject({ question: FilteredQuestionRow, programs: z.array(ProgramRow) });
type QuestionWithPrograms = z.infer<typeof QuestionWithPrograms>;

/** A test that was added to a question, and why it stands. */
const AddedTest = z.strictObject({
  test: z.union([z.string(), CheckedTest]),
  /** Programs of the sampler, by their ids, and mutants of the reference that pass all tests before it and fail it. */
  kills: z.strictObject({ programs: z.array(z.string()), mutants: z.array(z.string()) }).optional(),
  /** What nothing asked before it, where it kills nobody else. */
  asks: z.string().optional(),
  /** How far its input is from what those of the question have in common. */
  strange: z.number(),
  /** What vouches for its input next to the reference, whatever was asked for. */
  vouched: z.array(z.enum(['contract', 'agreement'])),
  /** Whether the teacher proposed its input. */
  proposed: z.literal(true).optional(),
});

/** What hardening came to for one question. */
const HardenedRow = z.strictObject({
  questionId: z.string(),
  /** Why no test could be added. */
  reason: z.string().optional(),
  added: z.array(AddedTest),
  mutants: z.strictObject({ made: z.int(), survive: z.int(), killed: z.int() }),
  /** In how many independent ways attackers fail on the proposed tests, and on the added ones. */
  rank: z.strictObject({ proposed: z.int(), added: z.int() }),
});

const HardenedQuestion = QuestionWithPrograms.extend({ hardened: HardenedRow, before: z.array(z.number()) });
type HardenedQuestion = z.infer<typeof HardenedQuestion>;

/** Names of the artifact's files next to the rated programs. */
const FILES = { questions: HARDENED_QUESTIONS, hardened: HARDENED } as const;

/** `hardening.plan`, `hardening.attack`, `hardening.seal`. */
export function hardeningActivities({ store, sandbox }: Pick<Services, 'store' | 'sandbox'>) {
  const stage = new ShardedStage(STAGE.hardening);

  /** All texts of the teacher for a seed, as one; undefined where none are read. */
  async function repliesOf(
    recorded: ArtifactRef | undefined,
    rows: readonly QuestionWithPrograms[],
  ): Promise<((seedId: string) => string) | undefined> {
    if (!recorded) return undefined;
    const index = await RowIndex.of(store, recorded);
    const found = await index.rowsOf([...new Set(rows.map(({ question }) => question.seedId))], ReplyRow);
    return (seedId) =>
      (found.get(seedId) ?? [])
        .map((reply) => contentOf(reply))
        .flatMap((content) => ('text' in content ? [content.text] : []))
        .join('\n');
  }

  const plan = stage.plan({
    row: QuestionWithPrograms,
    async run({ config, inputs }) {
      const questions = new Map<string, FilteredQuestionRow>();
      for await (const row of store.rowsOf(inputs['questions']!, FilteredQuestionRow)) questions.set(row.id, row);
      // Counted while the shards are taken.
      const metrics = { questions: 0, programs: 0, notHardened: {} as Record<string, number> };
      const withQuestion = async function* (): AsyncGenerator<QuestionWithPrograms> {
        let current: QuestionWithPrograms | undefined;
        for await (const program of store.rowsOf(inputs['programs']!, ProgramRow)) {
          if (program.questionId !== current?.question.id) {
            if (current) yield current;
            const question = questions.get(program.questionId);
            current = question && { question, programs: [] };
            if (current) metrics.questions += 1;
          }
          if (!current) {
            count(metrics.notHardened, 'programsWithoutQuestion');
            continue;
          }
          metrics.programs += 1;
          current.programs.push(program);
        }
        if (current) yield current;
      };
      return { shards: inShards(withQuestion(), config.shardSize), metrics };
    },
  });

  const attack = stage.step({
    after: [plan],
    row: HardenedQuestion,
    async run({ config, inputs: artifacts, rows }) {
      const replies = await repliesOf(artifacts['replies'], rows);
      const { trust, maximumTests, inputs, mutants, executions, callSeconds, limits } = config;
      const { hardened, refused, about, ...spent } = await harden(
        sandbox,
        rows.map(({ question, programs }) => ({
          question,
          programs: programs.map(({ id, program, passRate }) => ({ id, program, passes: passRate === 1 })),
          replies: replies?.(question.seedId),
          seed: deriveSeed(config.seed, question.id),
        })),
        { trust, maximumTests, budget: { inputs, mutants, executions, callSeconds }, limits },
        {
          signal: cancellationSignal(),
          onProgress: (done, total, message) => reportProgress({ done, total, message }),
        },
      );
      const proposed = hardened.map(({ attack: of }) => of?.proposed ?? 0).reduce((sum, each) => sum + each, 0);
      const tried = hardened.flatMap(({ attack: of }) => of?.candidates ?? []).filter((each) => each.proposed).length;
      const metrics: Record<string, number> = { executions: spent.executions, cpuSeconds: spent.cpuSeconds };
      if (replies) Object.assign(metrics, { 'teacher.proposed': proposed, 'teacher.tried': tried });
      for (const [reason, times] of Object.entries(refused)) count(metrics, `refused.${reason}`, times);
      for (const { reason } of hardened) if (reason !== undefined) count(metrics, `notHardened.${reason}`);
      return {
        rows: rows.map(({ question, programs }, at): HardenedQuestion => {
          const { reason, added, outcomes, mutants: of, rank } = hardened[at]!;
          const { testCases, tests } = question;
          return {
            question: {
              ...question,
              tests: [...tests, ...added.map(({ test }) => test)],
              ...(testCases === undefined ? {} : { testCases: testCases + added.length }),
            },
            programs: programs.map((program) => rated(program, outcomes.get(program.id) ?? [])),
            before: programs.map(({ passRate }) => passRate),
            hardened: {
              questionId: question.id,
              ...(reason === undefined ? {} : { reason }),
              added,
              mutants: of,
              rank,
            },
          };
        }),
        metrics,
        notes: notesOf(about),
      };
    },
  });

  return stage.activities(store, {
    plan,
    steps: { attack },
    async seal({ config, rows, counts, notes, planMetrics }) {
      const tests = { program: 0, mutant: 0, kind: 0 };
      const mutants = { made: 0, survive: 0, killed: 0 };
      const survivors = { programs: 0, killed: 0 };
      const rank = { proposed: 0, added: 0 };
      const trusts = mapTrusts(() => ({ tests: 0, killed: 0 }));
      const sums = { before: 0, after: 0 };
      const pairs = { before: 0, after: 0 };
      const teacher = { ...named(counts, 'teacher.'), tests: 0 };
      let hardened = 0;
      let total = 0;
      const all = async function* (): AsyncGenerator<ProgramRow> {
        for await (const row of rows(attack)) {
          const { added, mutants: of, rank: ways } = row.hardened;
          if (added.length > 0) hardened += 1;
          pairs.before += pairsOf(row.before);
          pairs.after += pairsOf(row.programs.map(({ passRate }) => passRate));
          for (const { kills } of added) tests[!kills ? 'kind' : kills.programs.length > 0 ? 'program' : 'mutant'] += 1;
          teacher.tests += added.filter(({ proposed }) => proposed).length;
          for (const name of ['made', 'survive', 'killed'] as const) mutants[name] += of[name];
          for (const name of ['proposed', 'added'] as const) rank[name] += ways[name];
          const vouchedBy = mapTrusts((trust) =>
            added.map(({ vouched }) => trust === 'reference' || vouched.includes(trust)),
          );
          for (const trust of TRUSTS) trusts[trust].tests += vouchedBy[trust].filter(Boolean).length;
          for (const [at, program] of row.programs.entries()) {
            const before = row.before[at]!;
            total += 1;
            sums.before += before;
            sums.after += program.passRate;
            if (before < 1) continue;
            survivors.programs += 1;
            if (program.passRate < 1) survivors.killed += 1;
            const outcomes = added.length === 0 ? [] : program.outcomes.slice(-added.length);
            for (const trust of TRUSTS)
              if (outcomes.some(({ status }, place) => status !== 'pass' && vouchedBy[trust][place]))
                trusts[trust].killed += 1;
          }
          yield* row.programs;
        }
      };
      const programs = await store.putRows('rows.jsonl', ProgramRow, all());
      const each = async function* <T>(of: (row: HardenedQuestion) => T): AsyncGenerator<T> {
        for await (const row of rows(attack)) yield of(row);
      };
      return {
        files: [
          programs,
          await store.putRows(
            FILES.questions,
            FilteredQuestionRow,
            each(({ question }) => question),
          ),
          await store.putRows(
            FILES.hardened,
            HardenedRow,
            each((row) => row.hardened),
          ),
        ],
        rows: programs.rows!,
        metrics: {
          trust: config.trust,
          hardened,
          tests,
          mutants,
          survivors,
          rank,
          trusts,
          pairs,
          meanPassRate: { before: sums.before / Math.max(1, total), after: sums.after / Math.max(1, total) },
          notHardened: {
            ...(planMetrics.notHardened ?? {}),
            ...named(counts, 'notHardened.'),
          },
          refused: named(counts, 'refused.'),
          ...(config.teacher ? { teacher: { proposed: 0, tried: 0, ...teacher } } : {}),
          executions: counts['executions'] ?? 0,
          cpuSeconds: counts['cpuSeconds'] ?? 0,
          notes,
        },
      };
    },
  });
}

function mapTrusts<T>(of: (trust: Trust) => T): Record<Trust, T> {
  return { reference: of('reference'), contract: of('contract'), agreement: of('agreement') };
}

/** A program with the outcomes of added tests. */
function rated(program: ProgramRow, more: readonly TestOutcome[]): ProgramRow {
  if (more.length === 0) return program;
  const outcomes = [...program.outcomes, ...more];
  return {
    ...program,
    outcomes,
    passRate: outcomes.filter(({ status }) => status === 'pass').length / outcomes.length,
    ...(program.testCases === undefined ? {} : { testCases: program.testCases + more.length }),
  };
}

/** The counts whose names begin so, without that beginning. */
function named(counts: Record<string, number>, prefix: string): Record<string, number> {
  return Object.fromEntries(
    Object.entries(counts)
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, times]) => [name.slice(prefix.length), times]),
  );
}
