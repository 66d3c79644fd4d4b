/**
 * What a teacher is: who turns seeds into questions with test cases. Each one is a file of this room and a line of the
 * registry, `index.ts`.
 *
 * These files are pure: the contract builds its schemas from them, and they run inside the workflow bundle. Digests are
 * made by `asking.ts`, which knows no teacher by name.
 */
import { z } from 'zod';
import type { EndpointModel, Prompt, Tokens } from '../../../workflows/contract/endpoint.js';
import { MOVED_FIELDS } from '../../../workflows/contract/mistakes.js';
import { registryOf } from '../../../workflows/contract/registry.js';
import type { QuestionRow, ReplyRow, SeedRow, TestOrigin } from '../../../workflows/contract/rows.js';

/** What a teacher makes of a seed: the part of a question's row that is not the seed's. */
export type Taught = Pick<
  QuestionRow,
  'question' | 'entryPoint' | 'form' | 'testCases' | 'checker' | 'failure' | 'failureDetail' | 'rejectedTests'
> & {
  /** What was mended in the reply, in names that are counted. No part of the row. */
  repairs?: readonly string[];
};

/**
 * A request about a seed. `key` holds all that the reply depends on: the digest of it is the key of the reply.
 *
 * @public The declarations of the registry name it.
 */
export interface TeacherRequest {
  prompt: Prompt;
  key: object;
  /** The sampling seed, sent with the request; null: none is sent. */
  seed: number | null;
}

/**
 * A call of a seed's function, and the literal of its value.
 *
 * @public The declarations of the registry name it.
 */
export interface AnsweredCall {
  call: string;
  literal: string;
}

/**
 * Number for everything random about one seed, from the teacher's own seed and what names the use.
 *
 * @public The declarations of the registry name it.
 */
export type Derive = (seed: number, ...parts: (string | number)[]) => number;

/**
 * Why a search found no question in a seed. Each is one reason of the stage's metrics.
 *
 * - `notParsed`, `doesNotLoad`: the text is no Python of this version, or raises when it is loaded;
 * - `nothingToCall`: it has no function and no class with methods;
 * - `noArguments`: every call that was tried raises; `tooFewCalls`: fewer than five give a value;
 * - `noLiteral`: its values are objects without a literal; `returnsNothing`: they are `None`; `oneAnswer`: all are equal;
 * - `linesNotReached`: all are equal, and the calls reach less than nine tenths of the lines;
 * - `nondeterministic`: two runs differ, or it asks the clock or the host; `sideEffects`: it asks for files, the network,
 *   processes or input; `tooSlow`: a call is not cheap; `endsItsProcess`: the search got no answer out of it.
 */
export const SEARCH_FAILURES = [
  'notParsed',
  'doesNotLoad',
  'nothingToCall',
  'noArguments',
  'tooFewCalls',
  'noLiteral',
  'returnsNothing',
  'oneAnswer',
  'linesNotReached',
  'nondeterministic',
  'sideEffects',
  'tooSlow',
  'endsItsProcess',
] as const;

/** What a search is asked for: the seed, the number that all its choices follow from, and its budgets. */
export interface SeedSearch {
  code: string;
  /** The function or class to call; absent: the last public one. */
  entryPoint?: string;
  /** Calls that the seed's own tree holds. */
  calls?: readonly string[];
  /** Calls that are not to be tried. */
  skip?: readonly string[];
  seed: number;
  /** Tests that are wanted, at most. */
  tests: number;
  /** Calls that are tried, at most. */
  attempts: number;
}

/** What a search came to. With a `reason` there are too few tests for a question. */
export interface Searched {
  entryPoint: string;
  /** The header of the function, or those of the class and its methods. */
  header: string;
  documentation: string;
  isClass: boolean;
  tests: (AnsweredCall & { origin: TestOrigin })[];
  /** Lines of the entry point that the tests reach, and all of them. */
  reached: number;
  lines: number;
  /** Examples of the docstring that the seed answers otherwise. */
  wrongClaims: number;
  reason?: (typeof SEARCH_FAILURES)[number] | undefined;
  detail?: string | undefined;
}

/** Answers that come from running the seed, which only the sandbox may do. Steps of a shard: `ask`. */
export interface FromSandbox {
  from: 'sandbox';
  /**
   * The calls to run for a seed, and the question out of those that gave a value.
   *
   * @throws Error that says what in the seed is not understood.
   */
  ask: (seed: SeedRow, derive: Derive) => { calls: string[]; write: (answered: AnsweredCall[]) => Taught };
  /** The search for calls of a seed that `ask` does not understand, or that answers too few of its calls. */
  search?: (seed: SeedRow, derive: Derive) => { search: SeedSearch; write: (found: Searched) => Taught };
}

/**
 * Answers that come from a language model at an endpoint. Steps of a shard: `request` and `parse`.
 *
 * A teacher that needs two requests about a seed returns both from `requests` where they do not depend on each other.
 * Where the second one quotes the reply to the first, `rounds` is 2. `requests` is then called with no replies, and
 * again with the replies of the first round. `read` gets all replies, in the order of the requests.
 */
export interface FromEndpoint {
  from: 'endpoint';
  model: EndpointModel;
  /** How often `requests` is called for a seed, each time with all replies so far. */
  rounds: number;
  requests: (seed: SeedRow, replies: readonly ReplyRow[]) => TeacherRequest[];
  read: (seed: SeedRow, replies: readonly ReplyRow[]) => Taught;
  /** Tokens for `seeds` seeds of `seedBytes` bytes on average. */
  tokens: (seeds: number, seedBytes: number) => Tokens;
  /** What of that was not measured, in words. */
  extrapolated: string;
}

/**
 * Answers that are stored replies, the input `replies` of the stage. Steps of a shard: `request` and `parse`. The
 * table in `workflows/contract/recorded.ts` says for which kind that input is needed.
 *
 * @public The declarations of the registry name it.
 */
export interface FromRecorded {
  from: 'recorded';
  /** `replies` are empty where none is stored for the seed. */
  read: (seed: SeedRow, replies: readonly ReplyRow[]) => Taught;
}

const STEPS = { sandbox: ['ask'], endpoint: ['request', 'parse'], recorded: ['request', 'parse'] } as const;

/**
 * A teacher with its settings.
 *
 * @public The declarations of the registry name it.
 */
export interface Teaching {
  answers: FromSandbox | FromEndpoint | FromRecorded;
  /** Share of its test cases that an oracle keeps, for the estimate. */
  keptShare: number;
}

type Shape = z.core.$ZodLooseShape & { kind: z.ZodLiteral<string>; testCases: z.ZodType<number> };

/** What a teacher says of itself. */
export interface TeacherDefinition<S extends Shape> {
  /** Its settings: `kind`, `testCases`, and what else decides its questions. Part of every key. */
  shape: S;
  /** Settings that it no longer has, with their new places. */
  moved?: Readonly<Record<string, string>>;
  /** Whether its replies are paid for. One that asks an endpoint is; the price may be 0. */
  paid: boolean;
  /** What is paid for in a few words, or why nothing is: for the line on costs in Temporal UI. */
  cost: string;
  /** Whether it makes some expected values wrong on purpose, so that the report can measure the filter. */
  injectsErrors: boolean;
  /** Who wrote the questions, in sentences: for the report. */
  note: string;
  /** The teacher with these settings. */
  teach: (settings: z.output<z.ZodObject<S, z.core.$strip>>) => Teaching;
}

/** A teacher as others use it, whatever its settings are. */
export interface Teacher extends Pick<TeacherDefinition<Shape>, 'paid' | 'cost' | 'injectsErrors' | 'note'> {
  kind: string;
  /** The teacher with the settings of a configuration, and its steps of a shard. */
  with: (given: object) => Teaching & { steps: readonly ('ask' | 'request' | 'parse')[] };
}

/**
 * A teacher out of its definition, with the schema that the contract needs.
 *
 * @example
 * export const mine = defineTeacher({
 *   shape: { kind: z.literal('mine').describe('questions of mine'), testCases },
 *   paid: false, cost: 'questions of mine', injectsErrors: false, note: 'I wrote the questions.',
 *   teach: () => ({ keptShare: 1, answers: { from: 'recorded', read: (seed, replies) => taughtBy(replies) } }),
 * });
 */
export function defineTeacher<S extends Shape>({ shape, moved, teach, ...rest }: TeacherDefinition<S>) {
  const schema = z.strictObject(shape);
  if (moved) schema.register(MOVED_FIELDS, moved);
  const kind = shape.kind.value;
  const reader = z.object(shape);
  const teacher: Teacher = {
    ...rest,
    kind,
    with(given) {
      const teaching = teach(reader.parse(given));
      const { from } = teaching.answers;
      if (rest.paid !== (from === 'endpoint')) throw new Error(`teacher '${kind}': paid means asking an endpoint`);
      return { ...teaching, steps: STEPS[from] };
    },
  };
  return { ...teacher, schema };
}

type Registered = Teacher & { schema: z.core.$ZodTypeDiscriminable };

/**
 * What others need of a list of teachers: the schema of their settings, and each one by its kind.
 *
 * @example
 * teacherRegistry([offline, openai]).named('offline').note;
 */
export function teacherRegistry<const T extends readonly [Registered, ...Registered[]]>(teachers: T) {
  const registry = registryOf<Teacher>('teacher', teachers);
  const schemas = teachers.map(({ schema }) => schema) as [T[number]['schema'], ...T[number]['schema'][]];
  return {
    ...registry,
    schema: z.discriminatedUnion('kind', schemas),
    /** The teacher that a configuration names, with its settings. */
    of: (given: { kind: string }) => registry.named(given.kind).with(given),
  };
}
