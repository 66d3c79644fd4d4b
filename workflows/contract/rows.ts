/** Schemas of the rows of every artifact kind that holds rows: JSON Lines, in index order, without measurements. */
import { z } from 'zod';
import { canonicalJson } from './canonical.js';
import { LANGUAGES } from '../../activities/languages/index.js';

/**
 * What became of one test case. `unjudged` is infrastructure and `checker_failed` a fault of the test's checker:
 * neither is a fact about a program.
 */
export const VERDICTS = [
  'pass',
  'assertion_failed',
  'raised',
  'timeout',
  'not_run',
  'load_error',
  'killed',
  'refused',
  'vacuous',
  'checker_failed',
  'unjudged',
] as const;
export const Verdict = z.enum(VERDICTS);
export type Verdict = z.infer<typeof Verdict>;

/**
 * What a script reads and must print. `compare` is how: `floats` line by line, with a tolerance of 1e-6 for numbers
 * with a decimal point; `tokens` word by word, whatever the white space; `exact` as a text; `decimals` line by line,
 * where lines of equal numbers are equal, as LiveCodeBench has it.
 */
export const StdinTest = z.strictObject({
  stdin: z.string(),
  stdout: z.string(),
  compare: z.enum(['floats', 'tokens', 'exact', 'decimals']).optional(),
});
export type StdinTest = z.infer<typeof StdinTest>;

const Expression = z.string().min(1).max(65_536);
/** A call whose arguments may stand in texts, such as JSON: only what is no text has a limit of 65,536 characters. */
const CallExpression = z.string().min(1).max(16_000_000);
const Checker = z.string().min(1).max(65_536);

/**
 * A test with several right answers. The answer of a call, or what a script prints, leaves the process of the program
 * as plain data and is judged in another one:
 * - `expect`, or one of `anyOf`, is an expression for the value, compared `exact`, with a `tolerance` or `unordered`;
 * - `property` is an expression over `result` and `args`, the arguments of the call;
 * - `checker` is a program with a function `check(input, output, answer)`, a special judge. `answer` is the value of
 *   `expect`, or the text `stdout`, where there is one.
 *
 * @example
 * ```ts
 * import { CheckedTest } from 'acecoder-temporal/contract';
 *
 * CheckedTest.parse({ call: 'divisors(12)', expect: '[1, 2, 3, 4, 6, 12]', compare: 'unordered' });
 * CheckedTest.parse({ call: 'root(2.0)', property: 'abs(result * result - args[0]) < 1e-6' });
 * ```
 */
export const CheckedTest = z.union([
  z
    .strictObject({
      call: CallExpression,
      expect: z.string().min(1).optional(),
      anyOf: z.array(z.string().min(1)).min(1).max(100).optional(),
      compare: z.enum(['exact', 'tolerance', 'unordered']).optional(),
      tolerance: z.number().nonnegative().optional(),
    })
    .refine(({ expect, anyOf }) => (expect === undefined) !== (anyOf === undefined), 'give either expect or anyOf')
    .refine(
      ({ compare, tolerance }) => tolerance === undefined || compare === 'tolerance',
      'tolerance is only for compare "tolerance"',
    ),
  z.strictObject({ call: CallExpression, property: Expression }),
  z.strictObject({ call: CallExpression, checker: Checker, expect: z.string().min(1).optional() }),
  z.strictObject({ stdin: z.string(), checker: Checker, stdout: z.string().optional() }),
  z.strictObject({
    stdin: z.string(),
    anyOf: z.array(z.string()).min(1).max(100),
    compare: z.enum(['floats', 'tokens', 'exact', 'decimals']).optional(),
  }),
]);
export type CheckedTest = z.infer<typeof CheckedTest>;

/**
 * Many inputs of one entry point, as one test by the rules of EvalPlus. `suite` is the JSON text of the arguments of
 * each call: a text, because JSON numbers of Python are not those of JavaScript. `task` is the id that EvalPlus knows,
 * `atol` an absolute tolerance, and `expected` what the reference answered, as the sandbox wrote it.
 *
 * @example
 * ```ts
 * import { SuiteTest } from 'acecoder-temporal/contract';
 *
 * SuiteTest.parse({ suite: '[[2], [3]]', task: 'HumanEval/0', entryPoint: 'double', rules: '0.3.1', atol: 0 });
 * ```
 */
export const SuiteTest = z.strictObject({
  suite: z.string().min(2),
  task: z.string().min(1),
  entryPoint: z.string().min(1),
  rules: z.enum(['0.2.1', '0.3.1']),
  atol: z.number().nonnegative(),
  expected: z.string().optional(),
});
export type SuiteTest = z.infer<typeof SuiteTest>;

/**
 * A text with `unittest` classes that runs in the module of the program, as BigCodeBench runs it. The process of the
 * program makes the verdict, which is weaker evidence than other tests give.
 *
 * @example
 * ```ts
 * import { ModuleTest } from 'acecoder-temporal/contract';
 *
 * ModuleTest.parse({ module: 'import unittest\nclass TestCases(unittest.TestCase): ...' });
 * ```
 */
export const ModuleTest = z.strictObject({ module: z.string().min(1).max(1_000_000) });
export type ModuleTest = z.infer<typeof ModuleTest>;

/**
 * A test as the sandbox judges it: Python statements, a `unittest.TestCase` class, what a script reads and must print,
 * a checked answer, or the inputs of a suite.
 */
export type Test = string | StdinTest | CheckedTest | SuiteTest | ModuleTest;

/** Tests that are data. The last two leave it to their question's `checker` how an answer is judged. */
export const TEST_OBJECTS = [
  StdinTest,
  CheckedTest,
  z.strictObject({ call: CallExpression, expect: z.string().min(1).optional() }),
  z.strictObject({ stdin: z.string(), stdout: z.string().optional() }),
] as const;

/**
 * A test of a question: a text, or data. A question with a `checker` has it judge the tests `{call, expect?}` and
 * `{stdin, stdout?}`.
 */
export const QuestionTest = z.union([z.string().min(1), ...TEST_OBJECTS], {
  error:
    'a test: Python statements, {stdin, stdout}, {call, expect}, {call, anyOf}, {call, property}, or one with a ' +
    'checker',
});
export type QuestionTest = z.infer<typeof QuestionTest>;

/**
 * A test as people read it, and as tests are told apart: itself, or its JSON value.
 *
 * @example
 * testText({ call: 'f(2)', expect: '4' }); // '{"call":"f(2)","expect":"4"}'
 */
export function testText(test: QuestionTest | SuiteTest | ModuleTest): string {
  return typeof test === 'string' ? test : canonicalJson(test);
}

/** The checker program of a question's tests `{call, expect?}` and `{stdin, stdout?}`. */
const questionChecker = Checker.optional();

/**
 * Statements over the parameters of a reference that raise where an input is none that the question means, such as
 * `assert n >= 0`. Hardening proposes no input that they refuse, where they are trusted.
 */
const Contract = z.string().min(1).max(65_536);

/** Whether a test leaves it to its question how its answer is judged. */
function isBare(test: object): boolean {
  return Object.keys(test).every((name) => ['call', 'expect', 'stdin', 'stdout'].includes(name));
}

/**
 * A test of a question as the sandbox judges it, with the checker of the question where the test leaves that open;
 * undefined where nothing says which answers are right.
 *
 * @example
 * judgedTest({ call: 'f(1)' }, 'def check(input, output, answer):\n    return output > 0');
 */
export function judgedTest(test: QuestionTest | SuiteTest | ModuleTest, checker?: string): Test | undefined {
  if (typeof test === 'string' || 'suite' in test || 'module' in test) return test;
  const whole = checker !== undefined && isBare(test) ? { ...test, checker } : test;
  return z.union([StdinTest, CheckedTest]).safeParse(whole).data;
}

/**
 * The tests of a question as the sandbox judges them, in order.
 *
 * @throws Error naming the test that says nothing of right answers; a row of a question holds none.
 */
export function judgedTests({
  tests,
  checker,
}: {
  tests: readonly (QuestionTest | SuiteTest | ModuleTest)[];
  checker?: string | undefined;
}): Test[] {
  return tests.map((test, index) => {
    const judged = judgedTest(test, checker);
    if (judged === undefined) throw new Error(`tests.${index}: ${NO_ANSWER}`);
    return judged;
  });
}

const NO_ANSWER = 'give it an expected answer, a property or a checker';

/** What is wrong about the tests of one question together, with the place of the test. */
function mistakeOf(tests: readonly QuestionTest[], checker?: string): [number, string] | undefined {
  const open = tests.findIndex((test) => judgedTest(test, checker) === undefined);
  if (open >= 0) return [open, NO_ANSWER];
  const isScript = (test: QuestionTest): boolean => typeof test !== 'string' && 'stdin' in test;
  const other = tests.findIndex((test) => isScript(test) !== isScript(tests[0]!));
  return other < 0 ? undefined : [other, 'texts and calls cannot be mixed with {stdin, stdout}'];
}

/** Tests of one question, at most: what the sandbox judges of one program. */
export const MAX_TESTS = 1_000;

export const Split = z.enum(['train', 'heldOut']);
export type Split = z.infer<typeof Split>;

/** The language of a program. It is absent where it is Python, in rows as in keys. */
export const Language = z.enum(LANGUAGES.map(({ name }) => name));
export type Language = z.infer<typeof Language>;

const Domain = z.record(
  z.string(),
  z.strictObject({
    min: z.number().optional(),
    max: z.number().optional(),
    minLength: z.number().int().nonnegative().optional(),
    maxLength: z.number().int().nonnegative().optional(),
    alphabet: z.string().optional(),
  }),
);

/**
 * Changed tests of one question: all of them, or those that come and go. A test is whatever the sandbox judges: a text,
 * `{stdin, stdout}`, or another object. `checker` takes the place of the question's. A task of a benchmark is named by
 * its id.
 *
 * @example
 * ```ts
 * import { TestsRow } from 'acecoder-temporal/contract';
 *
 * TestsRow.parse({ questionId: 'q-1', add: ['assert double(0) == 0'], remove: ['assert double(1) == 3'] });
 * ```
 */
export const TestsRow = z.union(
  [
    z.strictObject({
      questionId: z.string().min(1),
      tests: z.array(z.json()).min(1).max(MAX_TESTS),
      checker: questionChecker,
    }),
    z.strictObject({
      questionId: z.string().min(1),
      checker: questionChecker,
      add: z.array(z.json()).max(MAX_TESTS).optional(),
      remove: z.array(z.json()).max(MAX_TESTS).optional(),
    }),
  ],
  { error: 'changed tests {questionId, tests, checker?}, or {questionId, add, remove, checker?}' },
);
export type TestsRow = z.infer<typeof TestsRow>;

/**
 * A row of a benchmark's file, in the form of that benchmark.
 *
 * @example
 * ```ts
 * import { TaskRow } from 'acecoder-temporal/contract';
 *
 * TaskRow.parse({ task_id: 1, prompt: 'Write a function', code: 'def f(): ...' });
 * ```
 */
export const TaskRow = z.record(z.string(), z.json());
export type TaskRow = z.infer<typeof TaskRow>;

/**
 * Samples of a model for a benchmark, as EvalPlus, BigCodeBench and LiveCodeBench write them: one program of a task
 * (`solution`), what continues the task's prompt (`completion`), or all programs (`code_list`) or answers
 * (`output_list`) of a task. Other fields are ignored.
 *
 * @example
 * ```ts
 * import { BenchmarkSampleRow } from 'acecoder-temporal/contract';
 *
 * BenchmarkSampleRow.parse({ task_id: 'HumanEval/0', solution: 'def double(n):\n    return 2 * n' });
 * ```
 */
export const BenchmarkSampleRow = z.union(
  [
    z.object({ task_id: z.string().min(1), solution: z.string() }),
    z.object({ task_id: z.string().min(1), completion: z.string() }),
    z.object({ question_id: z.string().min(1), code_list: z.array(z.string()).min(1) }),
    z.object({ question_id: z.string().min(1), output_list: z.array(z.string()).min(1) }),
  ],
  {
    error:
      'a sample {task_id, solution}, {task_id, completion}, {question_id, code_list} or {question_id, output_list}',
  },
);
export type BenchmarkSampleRow = z.infer<typeof BenchmarkSampleRow>;

/**
 * What a reference of a benchmark came to: whether it passes, by which limits programs are run, and what it answers to
 * the inputs of suites, as the sandbox writes it.
 */
export const ReferenceRow = z.strictObject({
  taskId: z.string().min(1),
  failure: z.string().optional(),
  limits: z
    .strictObject({ cpuSecondsPerTest: z.number().positive(), cpuSecondsPerProgram: z.number().positive() })
    .optional(),
  expected: z.array(z.string()).optional(),
});
export type ReferenceRow = z.infer<typeof ReferenceRow>;

/**
 * A seed program: one function that a teacher turns into a question.
 *
 * @example
 * ```ts
 * import { SeedRow } from 'acecoder-temporal/contract';
 *
 * SeedRow.parse({ id: 'own/add', source: 'own', code: 'def add(a, b):\n    return a + b\n' });
 * ```
 */
export const SeedRow = z.strictObject({
  id: z.string().min(1),
  source: z.string().min(1),
  difficulty: z.number().int().min(1).max(3).optional(),
  /** What the program was written for, where its source says so. */
  instruction: z.string().optional(),
  code: z.string().min(1),
  /** The function or class that the question is about, where the code holds what it needs too. */
  entryPoint: z.string().min(1).optional(),
  /** Calls of it that stand in its tree, such as those of the tree's own tests. */
  calls: z.array(z.string().min(1).max(2_000)).max(100).optional(),
  language: Language.optional(),
  domain: Domain.optional(),
});
export type SeedRow = z.infer<typeof SeedRow>;

/** Where a test that was made by running comes from: an example in a docstring, a call in the seed's tree, a trial. */
export const TestOrigin = z.enum(['docstring', 'tree', 'trial']);
export type TestOrigin = z.infer<typeof TestOrigin>;

/** A test case as the teacher wrote it. `corrupted` is known only where the teacher injects errors itself. */
export const TestCase = z.strictObject({
  test: QuestionTest,
  corrupted: z.boolean().optional(),
  origin: TestOrigin.optional(),
});
export type TestCase = z.infer<typeof TestCase>;

/** Tokens of one reply; `estimated` from characters where the endpoint reported none. */
export const Usage = z.strictObject({
  promptTokens: z.number().int().nonnegative(),
  completionTokens: z.number().int().nonnegative(),
  estimated: z.boolean(),
});
export type Usage = z.infer<typeof Usage>;

/**
 * A reply as it arrived. `key` is the SHA-256 of model, prompt version, seed and sampling parameters. `status` is the
 * HTTP status. `body` is the answer's body; what is too long is `cut` off.
 */
export const RawReply = z.strictObject({
  seedId: z.string().min(1),
  key: z.string().regex(/^[0-9a-f]{64}$/),
  status: z.number().int(),
  body: z.string(),
  cut: z.literal(true).optional(),
  /** Came out of a batch, at the price of one. */
  batch: z.literal(true).optional(),
  usage: Usage,
});
export type RawReply = z.infer<typeof RawReply>;

/**
 * A stored reply: as it arrived, or, from elsewhere, what the model wrote.
 *
 * @example
 * ```ts
 * import { ReplyRow } from 'acecoder-temporal/contract';
 *
 * ReplyRow.parse({ seedId: 'own/add', text: '{}' });
 * ```
 */
export const ReplyRow = z.union([RawReply, z.strictObject({ seedId: z.string().min(1), text: z.string() })], {
  error: 'a reply {seedId, text}, or one as this system stores it {seedId, key, status, body, usage}',
});
export type ReplyRow = z.infer<typeof ReplyRow>;

/**
 * A program that somebody else had written for a seed's question: a model's answer, with or without a fence.
 *
 * @example
 * ```ts
 * import { SampleRow } from 'acecoder-temporal/contract';
 *
 * SampleRow.parse({ seedId: 'own/add', text: 'def add(a, b):\n    return a + b' });
 * ```
 */
export const SampleRow = z.strictObject({ seedId: z.string().min(1), text: z.string() });
export type SampleRow = z.infer<typeof SampleRow>;

/** What a question asks for, where that is no function that is called. */
export const QuestionForm = z.enum(['class', 'method', 'async', 'script']);
export type QuestionForm = z.infer<typeof QuestionForm>;

/**
 * A question with test cases. `failure` is the reason why the teacher gave none, `rejectedTests` which of its tests cannot be
 * used. `checker` judges the tests that leave that open.
 *
 * @example
 * ```ts
 * import { QuestionRow } from 'acecoder-temporal/contract';
 *
 * const rows = lines.map((line) => QuestionRow.parse(JSON.parse(line)));
 * ```
 */
export const QuestionRow = z
  .strictObject({
    id: z.string().min(1),
    seedId: z.string().min(1),
    source: z.string().min(1),
    question: z.string(),
    entryPoint: z.string(),
    reference: z.string(),
    language: Language.optional(),
    /** A class, a method of one, an asynchronous function, or a whole program; absent: a function. */
    form: QuestionForm.optional(),
    testCases: z.array(TestCase).max(MAX_TESTS),
    checker: questionChecker,
    contract: Contract.optional(),
    failure: z.string().optional(),
    /** What a person wants to know of the failure, such as the exception that most calls end with. */
    failureDetail: z.string().max(2_000).optional(),
    rejectedTests: z.array(z.strictObject({ test: z.string(), reason: z.string() })).optional(),
  })
  .superRefine(({ testCases, checker }, context) => {
    const [at, message] =
      mistakeOf(
        testCases.map(({ test }) => test),
        checker,
      ) ?? [];
    if (message !== undefined) context.addIssue({ code: 'custom', path: ['testCases', at!, 'test'], message });
  });
export type QuestionRow = z.infer<typeof QuestionRow>;

/**
 * CPU seconds that programs for one question get. They are derived from the CPU time of its reference and stored, so
 * that verdicts repeat.
 */
export const CpuLimits = z.strictObject({
  cpuSecondsPerTest: z.number().positive(),
  cpuSecondsPerProgram: z.number().positive(),
});
export type CpuLimits = z.infer<typeof CpuLimits>;

/** What verdicts were made with, beside the limits: they may differ where one of these does. */
export const Harness = z.strictObject({ version: z.string(), python: z.string(), importPolicy: z.string() });
export type Harness = z.infer<typeof Harness>;

/**
 * A question whose test cases the oracle has confirmed.
 *
 * @example
 * ```ts
 * import { FilteredQuestionRow } from 'acecoder-temporal/contract';
 *
 * const rows = lines.map((line) => FilteredQuestionRow.parse(JSON.parse(line)));
 * ```
 */
export const FilteredQuestionRow = z
  .strictObject({
    id: z.string().min(1),
    seedId: z.string().min(1),
    source: z.string().min(1),
    question: z.string().min(1),
    entryPoint: z.string(),
    reference: z.string(),
    language: Language.optional(),
    form: QuestionForm.optional(),
    /** Kept tests, in the teacher's order. */
    tests: z.array(QuestionTest).min(1).max(MAX_TESTS),
    /** The checker program of the tests that leave it open how an answer is judged. */
    checker: questionChecker,
    contract: Contract.optional(),
    /** Test cases before filtering. */
    testCases: z.number().int().positive().optional(),
    /** Absent in artifacts made elsewhere: the limits of the stage's configuration then hold. */
    limits: CpuLimits.optional(),
    split: Split,
  })
  .superRefine(({ tests, checker }, context) => {
    const [at, message] = mistakeOf(tests, checker) ?? [];
    if (message !== undefined) context.addIssue({ code: 'custom', path: ['tests', at!], message });
  });
export type FilteredQuestionRow = z.infer<typeof FilteredQuestionRow>;

export const TestOutcome = z.strictObject({
  status: Verdict,
  reason: z.string().optional(),
  /** True when the verdict was made inside the process that ran the program: weaker evidence. */
  inside: z.boolean().optional(),
  /** True where nearly every program passes the test, such as one that only asks for the type of a value. */
  weak: z.boolean().optional(),
  /** True where the test was judged as what it was meant to assert, such as a comparison without `assert`. */
  repaired: z.boolean().optional(),
  /** Version of the checker program that decided: the first 16 digits of its SHA-256. */
  checker: z.string().optional(),
});
export type TestOutcome = z.infer<typeof TestOutcome>;

/**
 * A program with its verdicts. `passRate` is passed over kept test cases.
 *
 * @example
 * ```ts
 * import { ProgramRow } from 'acecoder-temporal/contract';
 *
 * const rows = lines.map((line) => ProgramRow.parse(JSON.parse(line)));
 * ```
 */
export const ProgramRow = z.strictObject({
  id: z.string().min(1),
  questionId: z.string().min(1),
  /** Model that wrote it, where programs of several stand with one question: pairs are made within each of them. */
  sampler: z.string().min(1).optional(),
  split: Split,
  question: z.string(),
  index: z.number().int().nonnegative(),
  program: z.string(),
  language: Language.optional(),
  finish: z.enum(['stop', 'length']),
  outcomes: z.array(TestOutcome),
  passRate: z.number().min(0).max(1),
  /** Test cases of the question before filtering. */
  testCases: z.number().int().positive().optional(),
  limits: CpuLimits.optional(),
  harness: Harness.optional(),
});
export type ProgramRow = z.infer<typeof ProgramRow>;

/**
 * How good the tests of a question are as a verifier, from the verdicts of its programs on them. Rates are estimates
 * without a reference: `docs/explanation/verifier-quality.md` says what each figure means. They are absent where all
 * programs are alike.
 */
export const VerifierQuality = z.strictObject({
  programs: z.number().int().positive(),
  tests: z.number().int().positive(),
  /** Tests with the verdicts of an earlier one on all programs. */
  duplicates: z.number().int().nonnegative(),
  /** Tests with one verdict for all programs. */
  constant: z.number().int().nonnegative(),
  rank: z.number().int().nonnegative(),
  /** Share of the pairs of programs that at least one test tells apart. */
  discrimination: z.number().min(0).max(1),
  truePositive: z.number().min(0).max(1).optional(),
  falsePositive: z.number().min(0).max(1).optional(),
  j: z.number().min(-1).max(1).optional(),
  /** Share of the mutants of the reference that a test fails, where hardening made some. */
  mutationScore: z.number().min(0).max(1).optional(),
});
export type VerifierQuality = z.infer<typeof VerifierQuality>;

/** The tests of one question as a verifier. */
export const VerifierRow = VerifierQuality.extend({ questionId: z.string().min(1) });
export type VerifierRow = z.infer<typeof VerifierRow>;

/**
 * A preference pair: two programs for one question, the first with the higher pass rate.
 *
 * @example
 * ```ts
 * import { PairRow } from 'acecoder-temporal/contract';
 *
 * const rows = lines.map((line) => PairRow.parse(JSON.parse(line)));
 * ```
 */
export const PairRow = z.strictObject({
  id: z.string().min(1),
  questionId: z.string().min(1),
  split: Split,
  question: z.string(),
  language: Language.optional(),
  chosen: z.string(),
  rejected: z.string(),
  /** Absent where pairs come from elsewhere without them. */
  chosenPassRate: z.number().min(0).max(1).optional(),
  rejectedPassRate: z.number().min(0).max(1).optional(),
  /** The tests that rated the programs, where the stage was told to look at them. */
  verifier: VerifierQuality.optional(),
});
export type PairRow = z.infer<typeof PairRow>;

/** One prompt of an RL round with the seeds of its samples. */
export const RoundPromptRow = z.strictObject({
  questionId: z.string().min(1),
  question: z.string(),
  language: Language.optional(),
  tests: z.array(QuestionTest),
  checker: questionChecker,
  limits: CpuLimits.optional(),
  seeds: z.array(z.number().int().nonnegative()),
  /** Places of the tests that no reward reads; absent where nothing is hidden. */
  hiddenTests: z.array(z.number().int().nonnegative()).optional(),
  /** The draw of the round that asks it, where it replaces a group without signal; absent: the first. */
  draw: z.number().int().positive().optional(),
});
export type RoundPromptRow = z.infer<typeof RoundPromptRow>;

/** One sampled answer with the token ids that the policy saw and wrote. */
export const RolloutRow = z.strictObject({
  id: z.string().min(1),
  questionId: z.string().min(1),
  index: z.number().int().nonnegative(),
  text: z.string(),
  finish: z.enum(['stop', 'length']),
  promptIds: z.array(z.number().int().nonnegative()),
  completionIds: z.array(z.number().int().nonnegative()),
  /** The sampler's log-probability of each completion token, in nats; where the rounds are asynchronous. */
  logProbs: z.array(z.number()).optional(),
  /** Of a repair turn: which answer of its conversation it is, and the rollout that it mends. Absent: the first. */
  turn: z.number().int().min(2).optional(),
  repairs: z.string().min(1).optional(),
});
export type RolloutRow = z.infer<typeof RolloutRow>;

/** Verdict of one rollout or evaluation sample; `passRate` is absent exactly when some test is unjudged. */
export const VerdictRow = z.strictObject({
  id: z.string().min(1),
  outcomes: z.array(TestOutcome),
  passRate: z.number().min(0).max(1).optional(),
  limits: CpuLimits.optional(),
  harness: Harness.optional(),
});
export type VerdictRow = z.infer<typeof VerdictRow>;

export const ScoreRow = z.strictObject({ id: z.string().min(1), score: z.number() });
export type ScoreRow = z.infer<typeof ScoreRow>;

/** The reward of a rollout, or the reason why it is left out of training. */
export const RewardRow = z.strictObject({
  id: z.string().min(1),
  questionId: z.string().min(1),
  passRate: z.number().min(0).max(1).optional(),
  /** Share of passed tests by their weights, where the reward asks for it. */
  weightedPassRate: z.number().min(0).max(1).optional(),
  /** Share of passed tests of those that no reward reads, where some are hidden. */
  hiddenPassRate: z.number().min(0).max(1).optional(),
  /** What its tests earn before their weight, where tests are weighed by their rarity or corrected by their quality. */
  earned: z.number().optional(),
  /** True where tests tell the rollouts of its question apart, and the reward model is asked only where they do not. */
  separated: z.literal(true).optional(),
  score: z.number().optional(),
  reward: z.number().optional(),
  /** Where there are repair turns: the place of an answer that is not the first, and the reward before credit. */
  turn: z.number().int().min(2).optional(),
  ownReward: z.number().optional(),
  /** Why the watch for reward hacking flags it. */
  flagged: z.enum(['hiddenTests', 'rewardModel']).optional(),
  /**
   * `promptTooLong`: the policy has no room for an answer to its question; `tooLongToScore`: the reward model cannot
   * read it; `empty`: the answer has no token; `truncated`: the limit of tokens cut it, and such answers are masked;
   * `weakVerifier`: the tests of its question are not good enough; `flagged`: an operator left out what the watch flags.
   */
  dropped: z
    .enum([
      'unjudged',
      'degenerateGroup',
      'smallGroup',
      'empty',
      'promptTooLong',
      'tooLongToScore',
      'truncated',
      'weakVerifier',
      'flagged',
    ])
    .optional(),
});
export type RewardRow = z.infer<typeof RewardRow>;

/**
 * A text that a reward model was asked about for its card. `as` is `sampled`, `mutant`, or a variant of the probed
 * program `subject`, of which `plain` is the one that the others start from.
 */
export const CardText = z.strictObject({
  as: z.string(),
  subject: z.number().int().nonnegative().optional(),
  program: z.string(),
  /** Tests that it fails; absent for variants, which do what their program does. */
  fails: z.number().int().nonnegative().optional(),
  /** Share of the leading tests that it passes, of a sampled program. */
  visiblePassRate: z.number().min(0).max(1).optional(),
  sampler: z.string().optional(),
  /** Absent where the text is too long for the reward model. */
  score: z.number().optional(),
});
export type CardText = z.infer<typeof CardText>;

/** What a reward model was asked about one question for its card. */
export const CardRow = z.strictObject({
  questionId: z.string().min(1),
  question: z.string(),
  language: Language.optional(),
  source: z.string(),
  form: QuestionForm.optional(),
  texts: z.array(CardText),
});
export type CardRow = z.infer<typeof CardRow>;

/** One evaluated sample of one policy on one task. `sample` 0 of `mode` greedy is the greedy answer. */
export const EvaluationRow = z.strictObject({
  id: z.string().min(1),
  policy: z.string(),
  benchmark: z.string(),
  taskId: z.string(),
  mode: z.enum(['greedy', 'sample']),
  sample: z.number().int().nonnegative(),
  question: z.string(),
  language: Language.optional(),
  program: z.string(),
  /** What the policy wrote after the opened answer; the program is `programPrefix` and this. */
  response: z.string(),
  programPrefix: z.string(),
  /** `promptTooLong`: the policy could not read the task, and wrote nothing. */
  finish: z.enum(['stop', 'length', 'promptTooLong']),
  outcomes: z.array(TestOutcome),
  /** True when every test passed. */
  passed: z.boolean(),
  limits: CpuLimits.optional(),
  harness: Harness.optional(),
  score: z.number().optional(),
});
export type EvaluationRow = z.infer<typeof EvaluationRow>;
