/**
 * The questions of a report: each with its tests, programs and verdicts, out of the rows of the stages.
 *
 * Rows are read as a stream. What belongs to one question comes from several artifacts in different orders, so each row
 * goes to the file of its question's shard first, and one shard at a time is put together afterwards. Memory holds the
 * ids of all questions, verdicts and rewards of one RL round, and one shard. `browse.js` shows what this writes.
 */
import { appendFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  ManifestFile,
  POLICIES,
  testText,
  type ArtifactRef,
  type EvaluationRow,
  type VerifierQuality,
  type FilteredQuestionRow,
  type ProgramRow,
  type QuestionRow,
  type QuestionTest,
  type RewardRow,
  type RolloutRow,
  type RoundPromptRow,
  type TestOutcome,
  type Verdict,
  type VerdictRow,
} from '../../workflows/contract/index.js';
import { objectKeys } from '../artifacts/keys.js';
import { linesOf, rowFiles } from '../artifacts/rows.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { isUnjudged } from '../evaluation/figures.js';
import { extractProgram } from '../policy/prompt.js';
import { bestOfN, passAtK } from '../statistics/pass-at-k.js';
import type { RewardParts } from '../reinforcement/rewards.js';
import { verifierOf } from '../statistics/verifier-quality.js';
import { AddedTests, type AddedTestsTally } from './added-tests.js';
import { VerifierTallies, type VerifierTally } from './verifiers.js';
import {
  Ends,
  rewarded,
  roundOfQuestion,
  type RewardedRollout,
  type RoundOfQuestion,
  type RoundSource,
} from './rollouts.js';

/** Questions up to which a report is one file. */
const ONE_FILE = 5_000;
/** Questions of a shard. */
export const SHARD = 250;
/** Characters of texts that a report shows; the artifacts have them whole. */
const CHARACTERS = { question: 6_000, program: 6_000, test: 1_000, reason: 240, excerpt: 100 };
/** Tests of a question that a report shows. */
const TESTS = 100;
/** Different programs of one question and policy that a report shows, in one file and in shards; of a round, half. */
const PROGRAMS = { oneFile: 8, shards: 4 };
/** Examples of each reason for which something was dropped. */
const EXAMPLES = 3;

/** What a question can be found by, one bit each. `page` shows the filters in this order. */
export const FILTERS = {
  noneCorrect: 'no sampled program passes',
  testsDropped: 'tests were dropped',
  questionDropped: 'the question was dropped',
  rewardModelWrong: 'the reward model prefers a wrong program',
  gained: 'wrong before RL, right after it',
  lost: 'right before RL, wrong after it',
  rollouts: 'questions with rollouts of RL rounds',
  passMore: 'rollouts pass more tests in the last round than in the first',
  passFewer: 'rollouts pass fewer tests in the last round than in the first',
  truncated: 'an answer was cut at the token limit',
  unjudged: 'a test could not be judged',
  weak: 'a kept test is weak: nearly every program passes it',
  heldOut: 'held-out questions',
  benchmark: 'tasks of other benchmarks',
} as const;
export type FilterName = keyof typeof FILTERS;
const BITS = Object.fromEntries(Object.keys(FILTERS).map((name, bit) => [name, 1 << bit])) as Record<
  FilterName,
  number
>;

/** The artifacts that rows are read from, as far as they exist. */
export interface QuestionSources {
  questions?: ArtifactRef | undefined;
  filteredQuestions?: ArtifactRef | undefined;
  programs?: ArtifactRef | undefined;
  evaluation?: ArtifactRef | undefined;
  hardening?: ArtifactRef | undefined;
  /** RL rounds, oldest first. */
  rounds?: readonly RoundSource[];
}

/** One letter of each verdict, as programs of a report have them: a text of one letter a test. */
export const VERDICT_LETTERS = {
  pass: 'p',
  assertion_failed: 'a',
  raised: 'r',
  timeout: 't',
  not_run: 'n',
  load_error: 'l',
  killed: 'k',
  refused: 'f',
  vacuous: 'v',
  checker_failed: 'c',
  unjudged: 'u',
} as const satisfies Record<Verdict, string>;

/** A program as the page shows it. Names are short, because a report holds many of them. */
interface ShownProgram {
  /** `sampling`, `rollout`, or the name of a policy. */
  by: string;
  benchmark?: string;
  mode: 'greedy' | 'sample';
  program: string;
  /** Samples that are this program. */
  times: number;
  /** Share of the tests that it passes. */
  rate: number;
  verdicts: string;
  /** What the first failed tests said, by their number. */
  why?: [number, string][];
  cut?: 1;
  score?: number;
  /** Of a rollout: its round, its reward and the parts of that, or why it was left out of training. */
  round?: number;
  reward?: number;
  parts?: { tests?: number; rewardModel?: number; lengthPenalty?: number };
  left?: string;
}

interface ShownTest {
  test: string;
  /** Why it was dropped: the oracle's verdict, or what could not be used in it. */
  dropped?: string;
  reason?: string;
}

/** A question of a shard. */
interface ShownQuestion {
  id: string;
  name: string;
  group: string;
  source?: string;
  seed?: string;
  question: string;
  reference?: string;
  dropped?: string;
  tests: ShownTest[];
  moreTests?: number;
  programs: ShownProgram[];
  /** Samples of which the programs are some. */
  samples?: number;
  /** The quality of the kept tests, from the sampled programs. */
  verifier?: VerifierQuality;
  /** The first and the last RL round with this question. */
  rounds?: RoundOfQuestion[];
}

/** What one row says about a question, on its way to the question's shard. */
type Part =
  | { part: 'written'; row: Omit<ShownQuestion, 'programs' | 'group'>; rejected: [string, string][] }
  | { part: 'kept'; row: Omit<ShownQuestion, 'programs'>; heldOut: boolean }
  | { part: 'dropped'; reason: string }
  | { part: 'test'; test: ShownTest }
  | { part: 'task'; name: string; reference: string; tests: ShownTest[]; moreTests?: number }
  | { part: 'programs'; programs: ShownProgram[]; samples: number; verifier?: VerifierQuality; flags: number }
  | { part: 'rollouts'; programs: ShownProgram[]; round: RoundOfQuestion; flags: number }
  | { part: 'answers'; programs: ShownProgram[]; flags: number; greedy?: boolean; policy: string; task?: string[] };

/** Answers of one policy or of the sampler, and what is wrong with them. */
export interface Answers {
  answers: number;
  /** Cut at the token limit. */
  truncated: number;
  /** Tests without a verdict, weak ones, and all. */
  unjudged: number;
  weak: number;
  tests: number;
}

/** Tasks of a benchmark that both policies answered greedily: passed by one of them alone, by both, by neither. */
export interface PairedTasks {
  benchmark: string;
  before: string;
  after: string;
  gained: number;
  lost: number;
  both: number;
  neither: number;
}

/** Rates over the tasks of a benchmark by the number of samples N that are chosen from. */
export interface SampleCurve {
  benchmark: string;
  policy: string;
  tasks: number;
  /** `bestOf` is absent where no reward model scored the samples. */
  points: { n: number; bestOf?: number; oracle: number; mean: number }[];
}

/** One thing that was dropped: what it is, and the question that tells more. */
export interface DropExample {
  text: string;
  question?: string;
}

/** What all rows together say. */
export interface Tallies {
  questions: number;
  sampling?: Answers;
  /** The tests as verifiers, over the questions with sampled programs. */
  verifiers?: VerifierTally;
  /** What the tests that hardening added decide in RL; empty where it did not run. */
  addedTests: AddedTestsTally[];
  evaluation: { benchmark: string; policy: string; answers: Answers }[];
  paired: PairedTasks[];
  curves: SampleCurve[];
  /** By `<stage> <what> <reason>`. */
  examples: Record<string, DropExample[]>;
  found: Record<FilterName, number>;
}

/** What the page's script needs to find questions: `[id, name, excerpt, flags, group]` each, in order. */
export type QuestionIndex = [id: string, name: string, excerpt: string, flags: number, group: string][];

export interface WrittenQuestions {
  tallies: Tallies;
  index: QuestionIndex;
  /** Files with {@link SHARD} questions each, in the folder of the report; in one file, their texts instead. */
  shards: { files: string[] } | { texts: string[] };
}

type Reading = Pick<ArtifactStore, 'fetch' | 'getJson' | 'manifest'>;

/**
 * Reads the rows of an experiment and writes its questions.
 *
 * @param folder of the report. Shards are files in its folder `questions`, where there are more than `oneFile`.
 * @example
 * const { tallies, index, shards } = await writeQuestions(store, { programs }, '/tmp/report');
 */
export async function writeQuestions(
  store: Reading,
  sources: QuestionSources,
  folder: string,
  { oneFile = ONE_FILE, onRow = () => undefined }: { oneFile?: number; onRow?: (rows: number) => void } = {},
): Promise<WrittenQuestions> {
  const spool = join(folder, '.rows');
  await rm(spool, { recursive: true, force: true });
  await mkdir(spool, { recursive: true });
  try {
    const reader = new Reader(store, new Spool(spool), onRow);
    await reader.read(sources, oneFile);
    return await reader.write(folder, oneFile);
  } finally {
    await rm(spool, { recursive: true, force: true });
  }
}

/** A row of the filter's list of dropped test cases, and of that of dropped questions. */
type DroppedTest = { questionId: string; test: QuestionTest } & TestOutcome;
interface DroppedQuestion {
  questionId: string;
  reason: string;
}
/** A row of what hardening did. */
interface HardenedQuestion {
  questionId: string;
  added: readonly { test: QuestionTest }[];
}

/** What the plan of an evaluation says of its tasks. */
const Plan = z.object({ shards: z.array(ManifestFile) });
interface PlannedTask {
  benchmark: string;
  task: { id: string; entryPoint: string; reference: string; tests: Parameters<typeof testText>[0][]; more?: number };
}

class Reader {
  readonly #ordinals = new Map<string, number>();
  readonly #evaluated = new Map<string, { answers: Answers; curve: CurveSums }>();
  readonly #examples: Tallies['examples'] = {};
  readonly #verifiers = new VerifierTallies();
  #addedTests = new AddedTests(new Map());
  #sampled: Answers | undefined;
  #rows = 0;
  #programs = PROGRAMS.oneFile;

  constructor(
    private readonly store: Reading,
    private readonly spool: Spool,
    private readonly onRow: (rows: number) => void,
  ) {}

  async read(sources: QuestionSources, oneFile: number): Promise<void> {
    const { questions, filteredQuestions, programs, evaluation, hardening, rounds = [] } = sources;
    if (Math.max(questions?.rows ?? 0, filteredQuestions?.rows ?? 0) > oneFile) this.#programs = PROGRAMS.shards;
    if (questions) for await (const row of this.#rowsOf<QuestionRow>(questions)) await this.#written(row);
    if (filteredQuestions) {
      for await (const row of this.#rowsOf<FilteredQuestionRow>(filteredQuestions)) await this.#kept(row);
      for await (const row of this.#rowsOf<DroppedQuestion>(filteredQuestions, /^dropped\./)) await this.#dropped(row);
      for await (const row of this.#rowsOf<DroppedTest>(filteredQuestions, /^droppedTests\./))
        await this.#droppedTest(row);
    }
    // Rows of one question follow each other, so that its programs are told apart before they are kept.
    if (programs)
      for await (const run of runs(this.#rowsOf<ProgramRow>(programs), ({ questionId }) => questionId))
        await this.#sampling(run);
    if (hardening) {
      const added = new Map<string, string[]>();
      for await (const row of this.#rowsOf<HardenedQuestion>(hardening, /^hardened\./))
        if (row.added.length > 0)
          added.set(
            row.questionId,
            row.added.map(({ test }) => testText(test)),
          );
      this.#addedTests = new AddedTests(added);
    }
    await this.#rounds(rounds);
    if (evaluation) {
      await this.#tasks(evaluation);
      for await (const run of runs(this.#rowsOf<EvaluationRow>(evaluation), ({ policy, benchmark, taskId }) =>
        [policy, benchmark, taskId].join('\n'),
      ))
        await this.#evaluation(run);
    }
  }

  /** Tests of a benchmark's tasks, which the answers do not repeat: the plan of the evaluation has them. */
  async #tasks(evaluation: ArtifactRef) {
    const { stageKey } = await this.store.manifest(evaluation);
    const { data: plan } = Plan.safeParse(await this.store.getJson(objectKeys.plan(stageKey)));
    const seen = new Set<string>();
    for (const file of plan?.shards ?? [])
      for await (const { benchmark, task } of this.#rowsIn<PlannedTask>(file)) {
        const name = `${benchmark} ${task.id}`;
        // Each policy is planned to answer the same tasks. Questions of the experiment have their tests already.
        if (this.#ordinals.has(task.id) || seen.has(name)) continue;
        seen.add(name);
        await this.#keep(name, {
          part: 'task',
          name: task.entryPoint,
          reference: cut(task.reference, CHARACTERS.program),
          ...shownTests(task.tests, task.more),
        });
      }
  }

  async #written({
    id,
    seedId,
    source,
    question,
    entryPoint,
    reference,
    testCases,
    failure,
    failureDetail,
    rejectedTests,
  }: QuestionRow) {
    const why = failureDetail === undefined ? seedId : `${seedId}: ${failureDetail}`;
    if (failure !== undefined) this.#example('synthesis', 'question', failure, { text: why, question: id });
    for (const { test, reason } of rejectedTests ?? [])
      this.#example('synthesis', 'testCase', reason, { text: test, question: id });
    await this.#keep(id, {
      part: 'written',
      row: {
        id,
        name: entryPoint,
        source,
        seed: seedId,
        question: cut(question, CHARACTERS.question),
        reference: cut(reference, CHARACTERS.program),
        ...(failure === undefined ? {} : { dropped: failure }),
        ...shownTests(testCases.map(({ test }) => test)),
      },
      rejected: (rejectedTests ?? []).slice(0, TESTS).map(({ test, reason }) => [cut(test, CHARACTERS.test), reason]),
    });
  }

  async #kept({ id, seedId, source, question, entryPoint, reference, tests, split }: FilteredQuestionRow) {
    await this.#keep(id, {
      part: 'kept',
      heldOut: split === 'heldOut',
      row: {
        id,
        name: entryPoint,
        group: split === 'heldOut' ? 'held-out question' : 'train question',
        source,
        seed: seedId,
        question: cut(question, CHARACTERS.question),
        reference: cut(reference, CHARACTERS.program),
        ...shownTests(tests),
      },
    });
  }

  async #dropped({ questionId, reason }: DroppedQuestion) {
    this.#example('filtering', 'question', reason, { text: questionId, question: questionId });
    await this.#keep(questionId, { part: 'dropped', reason });
  }

  async #droppedTest({ questionId, test, status, reason }: DroppedTest) {
    // An earlier test in another spelling passes as well.
    const why = status === 'pass' ? 'repeated' : status;
    this.#example('filtering', 'testCase', why, { text: testText(test), question: questionId });
    await this.#keep(questionId, {
      part: 'test',
      test: {
        test: cut(testText(test), CHARACTERS.test),
        dropped: why,
        ...(reason === undefined ? {} : { reason: cut(reason, CHARACTERS.reason) }),
      },
    });
  }

  async #sampling(rows: readonly ProgramRow[]) {
    this.#sampled ??= noAnswers();
    for (const { finish, outcomes } of rows) tally(this.#sampled, finish, outcomes);
    const { questionId } = rows[0]!;
    const verifier = verifierOf(rows.map(({ outcomes }) => outcomes));
    if (verifier) this.#verifiers.add(verifier);
    await this.#keep(questionId, {
      part: 'programs',
      samples: rows.length,
      ...(verifier ? { verifier: shortVerifier(verifier) } : {}),
      flags: (rows.some(({ passRate }) => passRate === 1) ? 0 : BITS.noneCorrect) | flagsOf(rows),
      programs: different(
        rows.map(({ program, passRate, outcomes, finish }) =>
          shown({ by: 'sampling', mode: 'sample' }, program, passRate, outcomes, finish),
        ),
        this.#programs,
      ),
    });
  }

  /** Of each question the rollouts of its first round and of its last. */
  async #rounds(rounds: readonly RoundSource[]) {
    const ends = new Ends();
    for (const { round, rewards } of rounds)
      for await (const { id, questionId, dropped } of this.#rowsOf<RewardRow>(rewards)) {
        ends.add(questionId, round);
        if (dropped !== undefined)
          this.#example('reinforcement', 'rollout', dropped, { text: `round ${round}: ${id}`, question: questionId });
      }
    const shownRounds = ends.rounds();
    for (const { round, rule, ...refs } of rounds.filter((each) => shownRounds.has(each.round))) {
      const tests = new Map<string, RoundPromptRow['tests']>();
      if (refs.plan)
        for await (const row of this.#rowsOf<RoundPromptRow>(refs.plan)) {
          if (this.#addedTests.has(row.questionId)) tests.set(row.questionId, row.tests);
          await this.#prompt(row);
        }
      const rewards = await byId(this.#rowsOf<RewardRow>(refs.rewards));
      const verdicts = refs.verdicts ? await byId(this.#rowsOf<VerdictRow>(refs.verdicts)) : undefined;
      for await (const run of runs(this.#rowsOf<RolloutRow>(refs.rollouts), ({ questionId }) => questionId)) {
        const { questionId } = run[0]!;
        if (!ends.has(questionId, round)) continue;
        const rollouts = run.map((row) => rewarded(row, rewards.get(row.id), verdicts?.get(row.id), rule));
        await this.#rollouts(questionId, round, rollouts);
        const by = ends.first(questionId) === round ? 'first' : 'last';
        this.#addedTests.add(by, { questionId, tests: tests.get(questionId) ?? [], programs: rollouts });
      }
    }
  }

  /** The question of a prompt, where no stage of the experiment has written it. */
  async #prompt({ questionId, question, tests }: RoundPromptRow) {
    if (this.#ordinals.has(questionId)) return;
    await this.#keep(questionId, {
      part: 'kept',
      heldOut: false,
      row: {
        id: questionId,
        name: '',
        group: 'train question',
        question: cut(question, CHARACTERS.question),
        ...shownTests(tests),
      },
    });
  }

  async #rollouts(questionId: string, round: number, rollouts: readonly RewardedRollout[]) {
    const programs = rollouts.map(
      ({ text, finish, outcomes, reward, dropped, passRate, score, parts }): ShownProgram => ({
        ...shown(
          { by: 'rollout', mode: 'sample' },
          extractProgram(text),
          passRate ?? passRateOf(outcomes),
          outcomes,
          finish,
        ),
        ...(score === undefined ? {} : { score: short(score) }),
        round,
        ...(reward === undefined ? {} : { reward: short(reward) }),
        ...(parts === undefined ? {} : { parts: shownParts(parts) }),
        ...(dropped === undefined ? {} : { left: dropped }),
      }),
    );
    await this.#keep(questionId, {
      part: 'rollouts',
      round: roundOfQuestion(round, rollouts),
      flags:
        BITS.rollouts |
        preferredFlag(rollouts.map(({ passRate, score }) => ({ passed: passRate === 1, score }))) |
        flagsOf(rollouts),
      programs: different(programs, Math.ceil(this.#programs / 2)),
    });
  }

  async #evaluation(rows: readonly EvaluationRow[]) {
    const { policy, benchmark, taskId, question } = rows[0]!;
    const name = JSON.stringify([benchmark, policy]);
    const own = this.#evaluated.get(name) ?? { answers: noAnswers(), curve: new CurveSums() };
    this.#evaluated.set(name, own);
    for (const { finish, outcomes } of rows) tally(own.answers, finish, outcomes);
    const greedy = rows.find(({ mode }) => mode === 'greedy');
    const samples = rows.filter(({ mode }) => mode === 'sample');
    // An answer without a verdict is no wrong one.
    const judged = samples.filter((row) => !isUnjudged(row));
    own.curve.add(judged);
    const programs = (of: readonly EvaluationRow[]): ShownProgram[] =>
      of.map(({ program, outcomes, finish, mode, score }) => ({
        ...shown({ by: policy, benchmark, mode }, program, passRateOf(outcomes), outcomes, finish),
        ...(score === undefined ? {} : { score: short(score) }),
      }));
    // A held-out question is the question that it is elsewhere; any other task is one by itself.
    const isQuestion = this.#ordinals.has(taskId);
    await this.#keep(isQuestion ? taskId : `${benchmark} ${taskId}`, {
      part: 'answers',
      policy: JSON.stringify([benchmark, policy]),
      ...(greedy && !isUnjudged(greedy) ? { greedy: greedy.passed } : {}),
      ...(isQuestion ? {} : { task: [benchmark, taskId, cut(question, CHARACTERS.question)] }),
      flags: preferredFlag(judged) | flagsOf(rows),
      programs: [...programs(greedy ? [greedy] : []), ...different(programs(samples), this.#programs)],
    });
  }

  #example(stage: string, what: string, reason: string, example: DropExample): void {
    const examples = (this.#examples[`${stage} ${what} ${reason}`] ??= []);
    if (examples.length < EXAMPLES) examples.push({ ...example, text: cut(example.text, CHARACTERS.reason) });
  }

  async #keep(id: string, part: Part): Promise<void> {
    let ordinal = this.#ordinals.get(id);
    if (ordinal === undefined) {
      ordinal = this.#ordinals.size;
      this.#ordinals.set(id, ordinal);
    }
    const full = this.spool.add(Math.floor(ordinal / SHARD), `${JSON.stringify([ordinal % SHARD, part])}\n`);
    if (full) await full;
  }

  async *#rowsOf<T>(ref: ArtifactRef, files: RegExp | undefined = undefined): AsyncGenerator<T> {
    const manifest = await this.store.manifest(ref);
    const read: readonly ManifestFile[] = files
      ? manifest.files.filter(({ name }) => files.test(name))
      : rowFiles(manifest);
    for (const file of read) yield* this.#rowsIn<T>(file);
  }

  async *#rowsIn<T>(file: ManifestFile): AsyncGenerator<T> {
    for await (const lines of linesOf(await this.store.fetch(file))) {
      for (const line of lines) {
        // A row was checked when it was written, and the file's digest when it was fetched.
        yield JSON.parse(line) as T;
        this.#rows += 1;
      }
      this.onRow(this.#rows);
    }
  }

  /** Puts the shards together, one after the other. */
  async write(folder: string, oneFile: number): Promise<WrittenQuestions> {
    await this.spool.end();
    const ids = [...this.#ordinals.keys()];
    const inOneFile = ids.length <= oneFile;
    const index: QuestionIndex = [];
    const paired = new Map<string, PairedTasks>();
    const [files, texts]: [string[], string[]] = [[], []];
    if (!inOneFile) await mkdir(join(folder, 'questions'), { recursive: true });
    for (let shard = 0; shard * SHARD < ids.length; shard += 1) {
      const size = Math.min(SHARD, ids.length - shard * SHARD);
      const parts = Array.from({ length: size }, (): Part[] => []);
      for await (const lines of linesOf(this.spool.path(shard)))
        for (const line of lines) {
          const [at, part] = JSON.parse(line) as [number, Part];
          parts[at]!.push(part);
        }
      const questions = parts.map((of, at) => together(ids[shard * SHARD + at]!, of, paired));
      index.push(...questions.map(({ entry }) => entry));
      const text = embeddedJson(questions.map(({ question }) => question));
      if (inOneFile) texts.push(text);
      else {
        const file = `questions/${String(shard).padStart(5, '0')}.js`;
        // A script, because a page that is opened from disk may load no JSON.
        await writeFile(join(folder, file), `acecoderShard(${shard}, ${text});\n`);
        files.push(file);
      }
    }
    const found = Object.fromEntries(Object.keys(FILTERS).map((name) => [name, 0])) as Record<FilterName, number>;
    for (const [, , , flags] of index)
      for (const name of Object.keys(FILTERS) as FilterName[]) if (flags & BITS[name]) found[name] += 1;
    const verifiers = this.#verifiers.result();
    return {
      index,
      shards: inOneFile ? { texts } : { files },
      tallies: {
        questions: ids.length,
        ...(this.#sampled ? { sampling: this.#sampled } : {}),
        ...(verifiers ? { verifiers } : {}),
        addedTests: this.#addedTests.result(),
        evaluation: [...this.#evaluated].map(([name, { answers }]) => ({ ...resultOf(name), answers })),
        paired: [...paired.values()],
        curves: [...this.#evaluated].flatMap(([name, { curve }]) => {
          const { tasks, points } = curve.means();
          return points.length > 0 ? [{ ...resultOf(name), tasks, points }] : [];
        }),
        examples: this.#examples,
        found,
      },
    };
  }
}

/** One question out of its parts, with its line of the index. */
function together(
  id: string,
  parts: readonly Part[],
  paired: Map<string, PairedTasks>,
): { question: ShownQuestion; entry: QuestionIndex[number] } {
  const question: ShownQuestion = { id, name: '', group: 'dropped question', question: '', tests: [], programs: [] };
  let flags = 0;
  let kept = false;
  const dropped: ShownTest[] = [];
  const greedy = new Map<string, boolean>();
  for (const part of parts) {
    switch (part.part) {
      case 'written': {
        Object.assign(question, part.row);
        dropped.push(...part.rejected.map(([test, reason]) => ({ test, dropped: 'unusable', reason })));
        if (part.row.dropped !== undefined) flags |= BITS.questionDropped;
        break;
      }
      case 'kept':
        kept = true;
        delete question.moreTests;
        Object.assign(question, part.row);
        if (part.heldOut) flags |= BITS.heldOut;
        break;
      case 'dropped':
        question.dropped = part.reason;
        flags |= BITS.questionDropped;
        break;
      case 'test':
        dropped.push(part.test);
        break;
      case 'task':
        Object.assign(question, { name: part.name, reference: part.reference, tests: part.tests });
        if (part.moreTests !== undefined) question.moreTests = part.moreTests;
        break;
      case 'programs':
        question.programs.push(...part.programs);
        question.samples = part.samples;
        if (part.verifier) question.verifier = part.verifier;
        flags |= part.flags;
        break;
      case 'rollouts':
        question.programs.push(...part.programs);
        (question.rounds ??= []).push(part.round);
        flags |= part.flags;
        break;
      case 'answers':
        question.programs.push(...part.programs);
        flags |= part.flags;
        if (part.greedy !== undefined) greedy.set(part.policy, part.greedy);
        if (part.task) {
          const [benchmark, taskId, text] = part.task as [string, string, string];
          Object.assign(question, { name: taskId, group: benchmark, question: text });
          flags |= BITS.benchmark;
        }
        break;
    }
  }
  if (dropped.length > 0) flags |= BITS.testsDropped;
  // What the teacher wrote holds the dropped tests too; what the filter kept does not.
  const texts = new Set(kept ? [] : dropped.map(({ test }) => test));
  question.tests = [...question.tests.filter(({ test }) => !texts.has(test)), ...dropped];
  flags |= pairedFlags(greedy, paired) | roundFlags(question.rounds);
  const name = question.name || id;
  const { length } = question.question;
  const excerpt = `${question.question.slice(0, CHARACTERS.excerpt)}${length > CHARACTERS.excerpt ? '…' : ''}`;
  return { question, entry: [id, name === id ? '' : name, excerpt, flags, question.group] };
}

/** Compares the greedy answers before and after RL, and counts the task. */
function pairedFlags(greedy: ReadonlyMap<string, boolean>, paired: Map<string, PairedTasks>): number {
  let flags = 0;
  for (const [name, before] of greedy) {
    const { benchmark, policy } = resultOf(name);
    if (policy !== POLICIES.before) continue;
    for (const [other, passed] of greedy) {
      const { benchmark: same, policy: after } = resultOf(other);
      if (same !== benchmark || after === POLICIES.before) continue;
      const tasks = paired.get(other) ?? { benchmark, before: policy, after, gained: 0, lost: 0, both: 0, neither: 0 };
      paired.set(other, tasks);
      tasks[before ? (passed ? 'both' : 'lost') : passed ? 'gained' : 'neither'] += 1;
      if (after === POLICIES.after && before !== passed) flags |= passed ? BITS.gained : BITS.lost;
    }
  }
  return flags;
}

/** Compares the rollouts of the first round of a question with those of its last. */
function roundFlags(rounds: readonly RoundOfQuestion[] = []): number {
  const [first, last] = [rounds[0]?.rate, rounds.at(-1)?.rate];
  if (first === undefined || last === undefined || first === last) return 0;
  return last > first ? BITS.passMore : BITS.passFewer;
}

/** A policy on a benchmark, by the name that maps have for it. */
function resultOf(name: string): { benchmark: string; policy: string } {
  const [benchmark, policy] = z.tuple([z.string(), z.string()]).parse(JSON.parse(name));
  return { benchmark, policy };
}

/** Best-of-N, oracle and mean over tasks, for N of 1, 2, 4, … and all samples. */
class CurveSums {
  #tasks = 0;
  readonly #sums = new Map<number, { tasks: number; scored: number; bestOf: number; oracle: number; mean: number }>();

  add(samples: readonly { passed: boolean; score?: number | undefined }[]): void {
    if (samples.length === 0) return;
    this.#tasks += 1;
    const passed = samples.filter((sample) => sample.passed).length;
    const scored = samples.flatMap((sample) =>
      sample.score === undefined ? [] : [{ passed: sample.passed, score: sample.score }],
    );
    for (const n of sizesUpTo(samples.length)) {
      const sums = this.#sums.get(n) ?? { tasks: 0, scored: 0, bestOf: 0, oracle: 0, mean: 0 };
      this.#sums.set(n, sums);
      sums.tasks += 1;
      sums.oracle += passAtK(samples.length, passed, n);
      sums.mean += passed / samples.length;
      if (scored.length === samples.length) {
        sums.scored += 1;
        sums.bestOf += bestOfN(scored, n);
      }
    }
  }

  /** Of each N that every task has as many samples for. */
  means(): Pick<SampleCurve, 'tasks' | 'points'> {
    const points = [...this.#sums]
      .filter(([, { tasks }]) => tasks === this.#tasks)
      .sort(([a], [b]) => a - b)
      .map(([n, { tasks, scored, bestOf, oracle, mean }]) => ({
        n,
        ...(scored === tasks ? { bestOf: bestOf / tasks } : {}),
        oracle: oracle / tasks,
        mean: mean / tasks,
      }));
    return { tasks: this.#tasks, points };
  }
}

function sizesUpTo(samples: number): number[] {
  const sizes: number[] = [];
  for (let n = 1; n < samples; n *= 2) sizes.push(n);
  return [...sizes, samples];
}

/** The files of the shards while rows come in. */
class Spool {
  readonly #waiting = new Map<number, string[]>();
  readonly #sizes = new Map<number, number>();

  constructor(private readonly folder: string) {}

  path(shard: number): string {
    return join(this.folder, String(shard));
  }

  /** Takes a line; a promise where many wait, which the caller must await. */
  add(shard: number, line: string): Promise<void> | undefined {
    const lines = this.#waiting.get(shard) ?? [];
    lines.push(line);
    this.#waiting.set(shard, lines);
    const size = (this.#sizes.get(shard) ?? 0) + line.length;
    this.#sizes.set(shard, size);
    return size > 100_000 ? this.#write(shard) : undefined;
  }

  async end(): Promise<void> {
    for (const shard of this.#waiting.keys()) await this.#write(shard);
  }

  async #write(shard: number): Promise<void> {
    const lines = this.#waiting.get(shard)!;
    this.#waiting.delete(shard);
    this.#sizes.delete(shard);
    await appendFile(this.path(shard), lines.join(''));
  }
}

/** Rows that follow each other under one name. */
async function* runs<T>(rows: AsyncIterable<T>, nameOf: (row: T) => string): AsyncGenerator<T[]> {
  let run: T[] = [];
  let name: string | undefined;
  for await (const row of rows) {
    const own = nameOf(row);
    if (own !== name && run.length > 0) {
      yield run;
      run = [];
    }
    name = own;
    run.push(row);
  }
  if (run.length > 0) yield run;
}

async function byId<T extends { id: string }>(rows: AsyncIterable<T>): Promise<Map<string, T>> {
  const all = new Map<string, T>();
  for await (const row of rows) all.set(row.id, row);
  return all;
}

function noAnswers(): Answers {
  return { answers: 0, truncated: 0, unjudged: 0, weak: 0, tests: 0 };
}

function tally(answers: Answers, finish: EvaluationRow['finish'], outcomes: readonly TestOutcome[]): void {
  answers.answers += 1;
  if (finish === 'length') answers.truncated += 1;
  for (const { status, weak } of outcomes) {
    answers.tests += 1;
    if (status === 'unjudged') answers.unjudged += 1;
    if (weak) answers.weak += 1;
  }
}

function flagsOf(rows: readonly { finish: EvaluationRow['finish']; outcomes: readonly TestOutcome[] }[]): number {
  let flags = 0;
  for (const { finish, outcomes } of rows) {
    if (finish === 'length') flags |= BITS.truncated;
    for (const { status, weak } of outcomes) {
      if (status === 'unjudged') flags |= BITS.unjudged;
      if (weak) flags |= BITS.weak;
    }
  }
  return flags;
}

/** Whether the reward model scores a wrong program highest though a right one was there. */
function preferredFlag(programs: readonly { passed: boolean; score?: number | undefined }[]): number {
  let best: { passed: boolean; score: number } | undefined;
  let isOneRight = false;
  for (const { passed, score } of programs) {
    if (score === undefined) continue;
    isOneRight ||= passed;
    if (best === undefined || score > best.score) best = { passed, score };
  }
  return best && !best.passed && isOneRight ? BITS.rewardModelWrong : 0;
}

function passRateOf(outcomes: readonly TestOutcome[]): number {
  return outcomes.length === 0 ? 0 : outcomes.filter(({ status }) => status === 'pass').length / outcomes.length;
}

/** Reasons of failed tests that a program is shown with. */
const REASONS = 3;

function shown(
  about: Pick<ShownProgram, 'by' | 'benchmark' | 'mode'>,
  program: string,
  rate: number,
  outcomes: readonly TestOutcome[],
  finish: EvaluationRow['finish'],
): ShownProgram {
  const why: [number, string][] = [];
  let verdicts = '';
  outcomes.forEach(({ status, reason }, at) => {
    verdicts += VERDICT_LETTERS[status];
    if (status !== 'pass' && reason && why.length < REASONS) why.push([at, cut(reason, CHARACTERS.reason)]);
  });
  return {
    ...about,
    program: cut(program, CHARACTERS.program),
    times: 1,
    rate: Number(rate.toFixed(4)),
    verdicts,
    ...(why.length > 0 ? { why } : {}),
    ...(finish === 'length' ? { cut: 1 } : {}),
  };
}

/** The different ones of some programs, the best and the worst where there are more than `most`, the best first. */
function different(programs: readonly ShownProgram[], most: number): ShownProgram[] {
  const byText = new Map<string, ShownProgram>();
  for (const program of programs) {
    const known = byText.get(program.program);
    if (known) known.times += 1;
    else byText.set(program.program, { ...program });
  }
  const sorted = [...byText.values()].sort((a, b) => b.rate - a.rate || (b.score ?? 0) - (a.score ?? 0));
  if (sorted.length <= most) return sorted;
  const best = Math.ceil(most / 2);
  return [...sorted.slice(0, best), ...sorted.slice(sorted.length - (most - best))];
}

/** Tests as far as a report shows them. */
function shownTests(
  tests: readonly Parameters<typeof testText>[0][],
  more = 0,
): { tests: ShownTest[]; moreTests?: number } {
  const left = Math.max(0, tests.length - TESTS) + more;
  return {
    tests: tests.slice(0, TESTS).map((test) => ({ test: cut(testText(test), CHARACTERS.test) })),
    ...(left > 0 ? { moreTests: left } : {}),
  };
}

/** A number as far as a report shows it. */
function short(value: number): number {
  return Number(value.toPrecision(4));
}

/** The figures of a verifier as far as a report shows them. */
function shortVerifier(verifier: VerifierQuality): VerifierQuality {
  const { discrimination, truePositive, falsePositive, j } = verifier;
  return {
    ...verifier,
    discrimination: short(discrimination),
    ...(j === undefined
      ? {}
      : { truePositive: short(truePositive!), falsePositive: short(falsePositive!), j: short(j) }),
  };
}

/** Parts of a reward without those that add nothing. */
function shownParts({ tests, rewardModel, lengthPenalty }: RewardParts): NonNullable<ShownProgram['parts']> {
  return {
    ...(tests === undefined ? {} : { tests: short(tests) }),
    ...(rewardModel === undefined ? {} : { rewardModel: short(rewardModel) }),
    ...(lengthPenalty === 0 ? {} : { lengthPenalty: short(lengthPenalty) }),
  };
}

/** A text as far as a report shows it. */
function cut(text: string, characters: number): string {
  return text.length <= characters ? text : `${text.slice(0, characters)} … (${text.length} characters)`;
}

/**
 * JSON that can stand inside a `script` element, and in a script: no `<` ends the element, and no line separator a
 * string.
 *
 * @example
 * embeddedJson('</script>'); // "\u003c/script>"
 */
export function embeddedJson(value: unknown): string {
  return JSON.stringify(value).replaceAll(
    /[<\u2028\u2029]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
