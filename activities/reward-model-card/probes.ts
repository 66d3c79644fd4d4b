/**
 * The texts that a reward model is asked about: sampled programs, mutants of right ones, and variants that do the same.
 *
 * `workers/sent/variants.py` writes variants and mutants in the sandbox. What may have changed a program runs on the
 * tests of its question: a variant stays where every test says of it what it says of the program, and a mutant where
 * some test fails it. Knows no Temporal and stores nothing.
 */
import { z } from 'zod';
import {
  judgedTests,
  StageFailure,
  type CardRow,
  type CardText,
  type FilteredQuestionRow,
  type ProgramRow,
  type SandboxLimits,
} from '../../workflows/contract/index.js';
import { count, groupedBy } from '../artifacts/collections.js';
import { judgePrograms, settled, type Job, type Judged } from '../execution/execution.js';
import { keyedLanguage } from '../languages/index.js';
import type { SandboxOperation } from '../runtime/operations.js';
import { sentProgram } from '../runtime/package.js';
import type { PythonProcess } from '../runtime/python-service.js';

/** A question with its sampled programs, and the seed of what is random about it. */
export interface Asked {
  question: FilteredQuestionRow;
  programs: readonly ProgramRow[];
  seed: number;
}

export interface ProbingRule {
  samples: number;
  mutants: number;
  visibleTests: number;
  limits: SandboxLimits;
}

/** A program whose variants are made. Mutants are made of right ones. */
interface Subject {
  program: string;
  isRight: boolean;
}

const Told = z.union([
  z.strictObject({ reason: z.string() }),
  z.strictObject({
    plain: z.string(),
    variants: z.record(z.string(), z.string()),
    /** Variants with the syntax tree of `plain`. */
    sameTree: z.array(z.string()),
    mutants: z.array(z.string()),
  }),
]);
type Told = z.infer<typeof Told>;

/** Variants that can change what a program does, in a way that only running them tells. */
const RUN = ['filledCode', 'filledText', 'names'] as const;
/** Variants that cannot: a reader takes the fence off, and two lines at the top are read by nothing. */
const SAFE = new Set(['fence', 'topCode', 'topText']);

/** CPU seconds of writing the variants of a question. */
const WRITING_SECONDS = 20;
const MEMORY_BYTES = 1024 ** 3;

/**
 * The texts of each question, in order, without scores.
 *
 * @throws StageFailure `SandboxUnavailable` where the host could not judge.
 * @example
 * const { rows } = await probeQuestions(sandbox, [{ question, programs, seed: 1 }], rule);
 * rows[0].texts.filter(({ as }) => as === 'mutant');
 */
export async function probeQuestions(
  sandbox: PythonProcess<SandboxOperation>,
  asked: readonly Asked[],
  rule: ProbingRule,
  {
    signal,
    onProgress = () => undefined,
  }: { signal?: AbortSignal; onProgress?: (done: number, total: number, message: string) => void } = {},
): Promise<{
  rows: CardRow[];
  notProbed: Record<string, number>;
  cpuSeconds: number;
  about: Pick<Judged, 'harness' | 'host'>;
}> {
  const notProbed: Record<string, number> = {};
  const common = signal ? { signal } : {};
  const subjects = asked.map((each) => subjectsOf(each));
  const told = await written(sandbox, asked, subjects, rule.mutants, {
    ...common,
    onProgress: (done) => onProgress(done, asked.length, 'variants written'),
  });
  const jobs = asked.flatMap(({ question }, at): Job[] =>
    told[at]!.flatMap((each, place) => {
      if ('reason' in each) {
        count(notProbed, each.reason);
        return [];
      }
      const { plain, variants, mutants } = each;
      const names = RUN.filter((name) => name in variants);
      const texts = [plain, ...names.map((name) => variants[name]!), ...mutants];
      const tests = judgedTests(question);
      return texts.map((program, number) => ({
        id: `${at}/${place}/${number}`,
        program,
        tests,
        limits: question.limits,
      }));
    }),
  );
  const judged = await judgePrograms(sandbox, jobs, {
    limits: rule.limits,
    ...common,
    onProgress: (done, total) => onProgress(done, total, 'variants run'),
  });
  const passes = new Map(
    settled(judged.judgements).map((each) => [
      each.id,
      each.judged ? each.outcomes.map(({ status }) => status === 'pass') : undefined,
    ]),
  );
  const rows = asked.map(({ question, programs }, at): CardRow => {
    const { id: questionId, question: text, language, source, form } = question;
    const probed = told[at]!.flatMap((each, place) =>
      'reason' in each
        ? []
        : textsOf(each, subjects[at]![place]!, {
            subject: place,
            passed: (number) => passes.get(`${at}/${place}/${number}`),
            notProbed,
          }),
    );
    return {
      ...{ questionId, question: text, ...keyedLanguage(language), source },
      ...(form === undefined ? {} : { form }),
      texts: [...sampledTexts(programs, rule), ...probed],
    };
  });
  return { rows, notProbed, cpuSeconds: judged.cpuSeconds, about: judged };
}

/** Tests that a program fails. */
const failsOf = ({ outcomes }: Pick<ProgramRow, 'outcomes'>): number =>
  outcomes.filter(({ status }) => status !== 'pass').length;

/** A right program, or else the reference; and the wrong one that fails fewest tests and runs. */
function subjectsOf({ question: { reference, language }, programs }: Asked): Subject[] {
  if (keyedLanguage(language).language !== undefined) return [];
  const right = programs.find((program) => failsOf(program) === 0)?.program ?? reference;
  const [wrong] = programs
    .filter(({ passRate }) => passRate > 0 && passRate < 1)
    .sort((a, b) => failsOf(a) - failsOf(b) || a.index - b.index);
  return [
    ...(right === '' ? [] : [{ program: right, isRight: true }]),
    ...(wrong ? [{ program: wrong.program, isRight: false }] : []),
  ];
}

async function written(
  sandbox: PythonProcess<SandboxOperation>,
  asked: readonly Asked[],
  subjects: readonly (readonly Subject[])[],
  mutants: number,
  { signal, onProgress }: { signal?: AbortSignal; onProgress: (done: number) => void },
): Promise<Told[][]> {
  if (asked.length === 0) return [];
  const mutation = sentProgram('../runtime/mutation.py');
  const { runs } = await sandbox.call(
    'run',
    {
      jobs: asked.map(({ question: { id }, seed }, at) => ({
        id,
        program: sentProgram('variants.py'),
        stdin: JSON.stringify({
          programs: subjects[at]!.map(({ program, isRight }) => ({ program, mutants: isRight ? mutants : 0 })),
          seed,
          mutation,
        }),
      })),
      limits: {
        cpuSecondsPerTest: WRITING_SECONDS,
        cpuSecondsPerProgram: WRITING_SECONDS,
        memoryBytes: MEMORY_BYTES,
      },
    },
    { ...(signal ? { signal } : {}), onProgress: ({ done }) => onProgress(done) },
  );
  return runs.map(({ id, status, stdout, reason }, at): Told[] => {
    if (status === 'unjudged')
      throw new StageFailure('SandboxUnavailable', `variants of question ${id} could not be written: ${reason ?? '?'}`);
    const answer = z.strictObject({ told: z.array(Told) }).safeParse(lastLine(stdout)).data;
    // One program that is too deep or too large for the parser takes those of its question with it.
    return answer?.told.length === subjects[at]!.length
      ? answer.told
      : subjects[at]!.map(() => ({ reason: status === 'ended' ? 'noAnswer' : status }));
  });
}

function lastLine(text: string): unknown {
  try {
    return JSON.parse(text.trimEnd().split('\n').at(-1)!);
  } catch {
    return undefined;
  }
}

/** What stays of the variants and mutants of a program. */
function textsOf(
  { plain, variants, sameTree, mutants }: Exclude<Told, { reason: string }>,
  { isRight }: Subject,
  {
    subject,
    passed,
    notProbed,
  }: {
    subject: number;
    passed: (number: number) => boolean[] | undefined;
    notProbed: Record<string, number>;
  },
): CardText[] {
  const own = passed(0);
  if (!own || (isRight && !own.every(Boolean))) {
    count(notProbed, own ? 'failsItsTests' : 'unjudged');
    return [];
  }
  const names = RUN.filter((name) => name in variants);
  const same = new Set([
    ...sameTree,
    ...SAFE,
    ...names.filter((_, at) => passed(at + 1)?.every((pass, test) => pass === own[test])),
  ]);
  const texts: CardText[] = [{ as: 'plain', subject, program: plain, fails: own.filter((pass) => !pass).length }];
  for (const [as, program] of Object.entries(variants)) {
    if (same.has(as)) texts.push({ as, subject, program });
    else count(notProbed, 'changed');
  }
  for (const [at, program] of mutants.entries()) {
    const fails = passed(1 + names.length + at)?.filter((pass) => !pass).length;
    if (fails === undefined) count(notProbed, 'unjudged');
    else if (fails === 0) count(notProbed, 'mutantPasses');
    else texts.push({ as: 'mutant', subject, program, fails });
  }
  return texts;
}

/** The first samples of each model, with what tests say of them. */
function sampledTexts(programs: readonly ProgramRow[], { samples, visibleTests }: ProbingRule): CardText[] {
  return [...groupedBy(programs, ({ sampler = '' }) => sampler).values()].flatMap((group) =>
    group.slice(0, samples).map((row): CardText => {
      const visible = row.outcomes.slice(0, visibleTests);
      return {
        as: 'sampled',
        program: row.program,
        fails: failsOf(row),
        visiblePassRate: visible.filter(({ status }) => status === 'pass').length / Math.max(1, visible.length),
        ...(row.sampler === undefined ? {} : { sampler: row.sampler }),
      };
    }),
  );
}
