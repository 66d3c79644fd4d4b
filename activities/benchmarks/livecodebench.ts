/**
 * LiveCodeBench (arXiv 2403.07974), from a file of the user's in its published form: problems of contests with their
 * dates. Public and private tests are judged together, by the rules of its own `testing_util.py`: programs find many
 * names imported, methods stand in a class `Solution` or at the top level, and numbers on a line may be spelled in
 * other ways.
 */
import { z } from 'zod';
import type { CheckedTest, StdinTest } from '../../workflows/contract/rows.js';
import { defineBenchmark, everyNth, sliced, sliceName, slicing, taskRows, type Task } from './benchmark.js';

/** Problems of release v6, for the estimate. */
const PROBLEMS = 1_055;

/** Modules whose names every program finds imported, in an order that decides which name hides which. */
const STARRED =
  'string re datetime collections heapq bisect copy math random statistics itertools functools operator io sys json ' +
  'builtins typing';
const NAMED = STARRED.split(' ').filter((name) => name !== 'builtins' && name !== 'typing');
/** One line, so that it hides little of a program that is shown. */
const PRECEDES = `${[
  ...STARRED.split(' ').map((name) => `from ${name} import *`),
  `import ${NAMED.join(', ')}`,
  'sys.setrecursionlimit(50000)',
].join('; ')}\n`;

/** CPU seconds of one test. */
const SECONDS = 6;

/** The field whose pickles an import opens. */
export const PICKLED_FIELD = 'private_test_cases';

const Tests = z.array(z.object({ input: z.string(), output: z.string(), testtype: z.enum(['stdin', 'functional']) }));
const jsonText = z.string().transform((text, context): unknown => {
  try {
    return JSON.parse(text);
  } catch {
    context.addIssue({ code: 'custom', message: 'a JSON text' });
    return z.NEVER;
  }
});
const Problem = z.object({
  question_id: z.string().min(1),
  question_content: z.string(),
  contest_date: z.string().regex(/^\d{4}-\d{2}-\d{2}/),
  starter_code: z.string().default(''),
  public_test_cases: jsonText.pipe(Tests),
  private_test_cases: jsonText.pipe(Tests),
  metadata: jsonText.pipe(z.looseObject({ func_name: z.string().optional() })).optional(),
});
type Problem = z.infer<typeof Problem>;
const Dated = Problem.pick({ contest_date: true });

const date = z
  .string()
  .regex(/^\d{4}-\d{2}-\d{2}$/, 'a day, such as 2024-08-01')
  .optional();

/** The name of a problem's method, where its tests are functional. */
function methodOf({ question_id: id, metadata, starter_code: starter }: Problem): string {
  const name = metadata?.func_name ?? /def\s+(\w+)\s*\(\s*self/.exec(starter)?.[1];
  if (name === undefined || !/^[A-Za-z_]\w*$/.test(name))
    throw new Error(`task ${id}: its tests are of a function, and its metadata has no func_name`);
  return name;
}

/** The object whose method is called: one for all tests, as LiveCodeBench makes it. */
const SOLUTION = "(globals().get('__solution__') or globals().setdefault('__solution__', Solution()))";

/**
 * A call with arguments that are JSON, one on each line. A tuple counts as a list. The program's process reads the
 * JSON, so that numbers stay what they are.
 */
function functionalTest(method: string, input: string, output: string): CheckedTest {
  const loads = "__import__('json').loads";
  const lines = JSON.stringify(input.split('\n').filter((line) => line.trim() !== ''));
  const called = `(${SOLUTION}.${method} if 'Solution' in globals() else ${method})(*map(${loads}, ${lines}))`;
  return {
    call: `(lambda value: list(value) if isinstance(value, tuple) else value)(${called})`,
    expect: `${loads}(${JSON.stringify(output)})`,
  };
}

function testsOf(problem: Problem): Task['tests'] {
  const given = [...problem.public_test_cases, ...problem.private_test_cases];
  if (given.length === 0) throw new Error(`task ${problem.question_id}: it has no tests`);
  return given.map(({ input, output, testtype }): StdinTest | CheckedTest =>
    testtype === 'stdin'
      ? { stdin: input, stdout: output, compare: 'decimals' }
      : functionalTest(methodOf(problem), input, output),
  );
}

function questionOf({ question_content: content, starter_code: starter }: Problem): string {
  return starter.trim() === ''
    ? `${content.trim()}\n\nRead the input from standard input, and write the answer to standard output.`
    : `${content.trim()}\n\nComplete this code:\n\n${starter.trim()}`;
}

export const livecodebench = defineBenchmark({
  shape: {
    kind: z.literal('livecodebench').describe('LiveCodeBench, from a file of yours: one release of it'),
    data: taskRows,
    from: date.describe('first day of the contests that are asked; absent: all before `to`'),
    to: date.describe('last day of the contests that are asked; absent: all from `from` on'),
    ...slicing,
  },
  check: sliced,
  version: 2,
  name: (slice) => {
    const window = (slice.from ?? slice.to) ? `(${slice.from ?? ''}..${slice.to ?? ''})` : '';
    return sliceName(`livecodebench${window}`, slice);
  },
  data: { from: 'file' },
  resultFiles: 'livecodebench',
  references: false,
  rowId: 'question_id',
  public: true,
  size: ({ every, offset }) => Math.ceil((PROBLEMS - offset) / every),
  holds: ({ from, to }, row) => {
    const { data } = Dated.safeParse(row);
    // A row without a date is none, which its own schema tells.
    const day = data?.contest_date.slice(0, 10);
    return day === undefined || ((from === undefined || day >= from) && (to === undefined || day <= to));
  },
  tasks: (slice, rows) =>
    everyNth(rows, slice).map((row): Task => {
      const problem = Problem.parse(row);
      const tests = testsOf(problem);
      const functional = problem.public_test_cases.concat(problem.private_test_cases)[0]?.testtype === 'functional';
      return {
        id: problem.question_id,
        question: questionOf(problem),
        entryPoint: functional ? methodOf(problem) : '',
        programPrefix: '',
        tests,
        reference: '',
        precedes: PRECEDES,
        // All tests together have as long as LiveCodeBench waits for them.
        limits: { cpuSecondsPerTest: SECONDS, cpuSecondsPerProgram: (SECONDS + 1) * tests.length + 5 },
      };
    }),
});
