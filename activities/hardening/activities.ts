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
  STAGE,
  type SandboxLimits,
  type TestOutcome,
} from '../../workflows/contract/index.js';
import { count } from '../artifacts/collections.js';
import { deriveSeed } from '../artifacts/keys.js';
import { judgePrograms, notesOf, settled, type Job } from '../execution/execution.js';
import { HARDENED_QUESTIONS } from '../policy/questions.js';
import { cancellationSignal, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { inShards, ShardedStage } from '../runtime/sharded-stage.js';
import { chooseTests, pairsOf, testOf, vouchedFor, type ChoosingRule, type Offer } from './choose.js';
import { propose, type Attack } from './proposals.js';

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
});

/** What hardening came to for one question. */
const HardenedRow = z.strictObject({
  questionId: z.string(),
  /** Why no test could be added. */
  reason: z.string().optional(),
  added: z.array(AddedTest),
  mutants: z.strictObject({ made: z.int(), survive: z.int(), killed: z.int() }),
});

const HardenedQuestion = QuestionWithPrograms.extend({ hardened: HardenedRow, before: z.array(z.number()) });
type HardenedQuestion = z.infer<typeof HardenedQuestion>;

/** Names of the artifact's files next to the rated programs. */
const FILES = { questions: HARDENED_QUESTIONS, hardened: 'hardened.jsonl' } as const;

/** Tests that survivors are judged on, as a multiple of those that are added. */
const SHORTLIST = 5;
/** CPU time of one question's attack, in seconds. */
const ATTACK_SECONDS = 20;

/** How strange an input may be that kills, and one that only asks something new, by what vouches for it. */
export const STRANGENESS = {
  reference: { killsUpTo: 4, asksUpTo: 2 },
  contract: { killsUpTo: 8, asksUpTo: 4 },
  agreement: { killsUpTo: 8, asksUpTo: 4 },
} as const;

/** `hardening.plan`, `hardening.attack`, `hardening.seal`. */
export function hardeningActivities({ store, sandbox }: Pick<Services, 'store' | 'sandbox'>) {
  const stage = new ShardedStage(STAGE.hardening);

  const plan = stage.plan({
    row: QuestionWithPrograms,
    async run({ config, inputs }) {
      const questions = new Map<string, FilteredQuestionRow>();
      for await (const row of store.rowsOf(inputs['questions']!, FilteredQuestionRow)) questions.set(row.id, row);
      const metrics = { questions: 0, programs: 0 };
      const notHardened: Record<string, number> = {};
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
            count(notHardened, 'programsWithoutQuestion');
            continue;
          }
          metrics.programs += 1;
          current.programs.push(program);
        }
        if (current) yield current;
      };
      return { shards: inShards(withQuestion(), config.shardSize), metrics: { ...metrics, notHardened } };
    },
  });

  const attack = stage.step({
    after: [plan],
    row: HardenedQuestion,
    async run({ config, rows }) {
      const { trust, maximumTests, inputs, mutants, executions, callSeconds, limits } = config;
      const signal = cancellationSignal();
      const rule: ChoosingRule = { maximum: maximumTests, ...STRANGENESS[trust] };
      const metrics: Record<string, number> = {};
      const reasons = rows.map((row) => reasonAgainst(row, trust));
      const asked = rows.flatMap(({ question }, at) => (reasons[at] === undefined ? [{ question, at }] : []));
      const proposals = await propose(
        sandbox,
        asked.map(({ question: { id, reference, entryPoint, tests, contract } }) => ({
          id,
          reference,
          entryPoint,
          tests,
          ...(trust === 'contract' ? { contract } : {}),
          seed: deriveSeed(config.seed, id),
        })),
        {
          budget: { inputs, mutants, executions, callSeconds, seconds: ATTACK_SECONDS },
          signal,
          onProgress: (done) => reportProgress({ done, total: asked.length, message: 'questions attacked' }),
        },
      );
      const attacked = asked.flatMap(({ question, at }, place) => {
        const proposed = proposals[place]!;
        if ('reason' in proposed) {
          reasons[at] = proposed.reason;
          return [];
        }
        for (const [reason, times] of Object.entries(proposed.refused)) count(metrics, `refused.${reason}`, times);
        count(metrics, 'executions', proposed.executions);
        const shortlist = chooseTests(offersOf(proposed), proposed.known, {
          ...rule,
          maximum: SHORTLIST * maximumTests,
        }).map(({ offer }) => offer);
        const survivors = rows[at]!.programs.filter(({ passRate }) => passRate === 1);
        return [{ question, at, attack: proposed, shortlist, survivors }];
      });

      const jobs = attacked.flatMap(({ question, attack: how, shortlist, survivors }): Job[] => {
        const tests = shortlist.map((offer) => testOf(offer, how));
        const own = limitsOf(question, limits, tests.length);
        return [{ id: question.id, program: question.reference }, ...survivors].map(({ id, program }) => ({
          id,
          program,
          tests,
          limits: own,
        }));
      });
      const judged = await judgePrograms(sandbox, jobs.filter(({ tests }) => tests.length > 0), {
        limits,
        signal,
        onProgress: (done, total) => reportProgress({ done, total, message: 'programs run on proposed tests' }),
      });
      const verdicts = new Map(settled(judged.judgements).map(({ id, outcomes }) => [id, outcomes]));
      const chosen = attacked.map(({ question, at, attack: how, shortlist, survivors }) => {
        const reference = verdicts.get(question.id) ?? [];
        const own = survivors.map(({ id, program }) => ({ id, program, outcomes: verdicts.get(id) ?? [] }));
        const offers = shortlist.flatMap((offer, place) => {
          if (reference[place]?.status !== 'pass') return refuse(metrics, 'unconfirmed');
          const said = own.map(({ id, program, outcomes }) => ({ id, program, status: outcomes[place]!.status }));
          if (said.some(({ status }) => OUT_OF_RESOURCES.has(status))) return refuse(metrics, 'slowForSurvivor');
          if (trust === 'agreement' && !vouchedFor(said, question.reference)) return refuse(metrics, 'noAgreement');
          const kills = said.filter(({ status }) => status !== 'pass').map(({ id }) => `${PROGRAM}${id}`);
          return [{ ...offer, kills: [...offer.kills, ...kills], place }];
        });
        return { question, at, attack: how, chosen: chooseTests(offers, how.known, rule) };
      });

      // The programs that fail a test already are judged on the added ones too: a rate is over all tests.
      const rest = chosen.flatMap(({ question, at, attack: how, chosen: tests }): Job[] =>
        tests.length === 0
          ? []
          : rows[at]!.programs
              .filter(({ passRate }) => passRate < 1)
              .map(({ id, program }) => ({
                id,
                program,
                tests: tests.map(({ offer }) => testOf(offer, how)),
                limits: limitsOf(question, limits, tests.length),
              })),
      );
      const others = await judgePrograms(sandbox, rest, {
        limits,
        signal,
        onProgress: (done, total) => reportProgress({ done, total, message: 'programs rated' }),
      });
      for (const { id, outcomes } of settled(others.judgements)) verdicts.set(id, outcomes);
      metrics['cpuSeconds'] = judged.cpuSeconds + others.cpuSeconds;

      const byPlace = new Map(chosen.map((each) => [each.at, each]));
      const result = rows.map(({ question, programs }, at): HardenedQuestion => {
        const found = byPlace.get(at);
        const before = programs.map(({ passRate }) => passRate);
        const none = { made: 0, survive: 0, killed: 0 };
        if (!found || found.chosen.length === 0) {
          const reason = reasons[at] ?? 'noTest';
          count(metrics, `notHardened.${reason}`);
          const made = found ? mutantsOf(found.attack, []) : none;
          return {
            question,
            programs,
            before,
            hardened: { questionId: question.id, reason, added: [], mutants: made },
          };
        }
        const added = found.chosen.map(({ offer, why }) => ({
          test: testOf(offer, found.attack),
          ...('asks' in why ? { asks: why.asks } : { kills: victims(why.kills) }),
          strange: offer.strange,
        }));
        const tests = added.map(({ test }) => test);
        const { length } = tests;
        return {
          question: {
            ...question,
            tests: [...question.tests, ...tests],
            ...(question.testCases === undefined ? {} : { testCases: question.testCases + length }),
          },
          programs: programs.map((program): ProgramRow => {
            const said = verdicts.get(program.id)!;
            const more =
              program.passRate === 1 ? found.chosen.map(({ offer: { place } }) => said[place]!) : [...said];
            return rated(program, more);
          }),
          before,
          hardened: {
            questionId: question.id,
            added,
            mutants: mutantsOf(
              found.attack,
              found.chosen.map(({ offer }) => offer),
            ),
          },
        };
      });
      return { rows: result, metrics, notes: notesOf(judged) };
    },
  });

  return stage.activities(store, {
    plan,
    steps: { attack },
    async seal({ rows, counts, notes, planMetrics }) {
      const tests = { program: 0, mutant: 0, kind: 0 };
      const mutants = { made: 0, survive: 0, killed: 0 };
      const survivors = { programs: 0, killed: 0 };
      const sums = { before: 0, after: 0 };
      const pairs = { before: 0, after: 0 };
      let hardened = 0;
      let total = 0;
      const all = async function* (): AsyncGenerator<ProgramRow> {
        for await (const row of rows(attack)) {
          const { added, mutants: of } = row.hardened;
          if (added.length > 0) hardened += 1;
          pairs.before += pairsOf(row.before);
          pairs.after += pairsOf(row.programs.map(({ passRate }) => passRate));
          for (const { kills } of added) tests[!kills ? 'kind' : kills.programs.length > 0 ? 'program' : 'mutant'] += 1;
          for (const name of ['made', 'survive', 'killed'] as const) mutants[name] += of[name];
          for (const [at, program] of row.programs.entries()) {
            const before = row.before[at]!;
            total += 1;
            sums.before += before;
            sums.after += program.passRate;
            if (before < 1) continue;
            survivors.programs += 1;
            if (program.passRate < 1) survivors.killed += 1;
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
          hardened,
          tests,
          mutants,
          survivors,
          pairs,
          meanPassRate: { before: sums.before / Math.max(1, total), after: sums.after / Math.max(1, total) },
          notHardened: {
            ...(planMetrics.notHardened ?? {}),
            ...named(counts, 'notHardened.'),
          },
          refused: named(counts, 'refused.'),
          executions: counts['executions'] ?? 0,
          cpuSeconds: counts['cpuSeconds'] ?? 0,
          notes,
        },
      };
    },
  });
}

const PROGRAM = 'program ';
const MUTANT = 'mutant ';
/** What says of an input that it is large, and not that a program is wrong. */
const OUT_OF_RESOURCES: ReadonlySet<TestOutcome['status']> = new Set(['timeout', 'killed', 'not_run']);

function refuse(metrics: Record<string, number>, reason: string): never[] {
  count(metrics, `refused.${reason}`);
  return [];
}

/** Why a question is not even attacked. */
function reasonAgainst(
  { question: { reference, language, tests, checker, contract } }: QuestionWithPrograms,
  trust: 'reference' | 'contract' | 'agreement',
): string | undefined {
  if (reference === '') return 'noReference';
  if (language !== undefined && language !== 'python') return 'otherLanguage';
  if (checker !== undefined || tests.some((test) => typeof test !== 'string' && 'stdin' in test)) return 'noAsserts';
  return trust === 'contract' && contract === undefined ? 'noContract' : undefined;
}

function offersOf({ candidates, mutants: { survivors } }: Attack): (Offer & { call: string })[] {
  return candidates.map((candidate) => ({
    ...candidate,
    kills: candidate.kills.map((at) => `${MUTANT}${survivors[at]!.id}`),
  }));
}

/** Those who are killed, by what they are. */
function victims(kills: readonly string[]): { programs: string[]; mutants: string[] } {
  const of = (kind: string): string[] =>
    kills.filter((each) => each.startsWith(kind)).map((each) => each.slice(kind.length));
  return { programs: of(PROGRAM), mutants: of(MUTANT) };
}

function mutantsOf({ mutants: { made, survivors } }: Attack, kept: readonly Offer[]) {
  const killed = new Set(kept.flatMap(({ kills }) => kills));
  return {
    made,
    survive: survivors.length,
    killed: survivors.filter(({ id }) => killed.has(`${MUTANT}${id}`)).length,
  };
}

/** Limits of a program on so many tests: the CPU time of a program is meant for the tests that its question has. */
function limitsOf({ limits, tests }: FilteredQuestionRow, most: SandboxLimits, length: number): Partial<SandboxLimits> {
  const own = limits ?? most;
  const times = Math.max(1, length / tests.length);
  return { cpuSecondsPerTest: own.cpuSecondsPerTest, cpuSecondsPerProgram: own.cpuSecondsPerProgram * times };
}

/** A program with the outcomes of added tests. */
function rated(program: ProgramRow, more: readonly TestOutcome[]): ProgramRow {
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
