/** Tasks of the user's own, from a JSON Lines file in the form of this project. */
import { z } from 'zod';
import { CheckedTest, CpuLimits, StdinTest } from '../../workflows/contract/rows.js';
import { defineBenchmark, everyNth, sliced, sliceName, slicing, taskRows, type Task } from './benchmark.js';

/** Tasks that the estimate counts on, whose number a configuration does not say. */
const NOMINAL = 100;

const Call = z.strictObject({ call: z.string().min(1), expect: z.string().min(1).optional() });
const Stdin = z.strictObject({ stdin: z.string(), stdout: z.string().optional() });

const Row = z
  .strictObject({
    id: z.string().min(1),
    question: z.string().min(1),
    tests: z
      .array(z.union([z.string().min(1), StdinTest, CheckedTest, Call, Stdin]))
      .min(1)
      .max(1_000),
    checker: z.string().min(1).max(65_536).optional(),
    entryPoint: z.string().default(''),
    programPrefix: z.string().default(''),
    reference: z.string().default(''),
    limits: CpuLimits.optional(),
  })
  .refine(({ tests }) => new Set(tests.map((test) => typeof test !== 'string' && 'stdin' in test)).size === 1, {
    path: ['tests'],
    error: 'tests of scripts ({stdin, …}) and of functions cannot be mixed',
  });
type Row = z.infer<typeof Row>;

/** A test with the checker of its row, where it says nothing of right answers itself. */
function judged(test: Row['tests'][number], { id, checker }: Row, at: number): Task['tests'][number] {
  if (typeof test === 'string') return test;
  const isBare = Object.keys(test).every((name) => ['call', 'expect', 'stdin', 'stdout'].includes(name));
  const { data } = z
    .union([StdinTest, CheckedTest])
    .safeParse(checker !== undefined && isBare ? { ...test, checker } : test);
  if (!data)
    throw new Error(`task ${id}: tests.${at} says nothing of right answers; give it 'expect' or the row a checker`);
  return data;
}

export const ownTasks = defineBenchmark({
  shape: {
    kind: z.literal('ownTasks').describe('tasks of yours, from a JSON Lines file in the form of this project'),
    data: taskRows,
    name: z
      .string()
      .regex(/^[\w.+-]{1,60}$/, 'letters, digits, dot, plus, dash and underscore')
      .default('ownTasks')
      .describe('its name in results'),
    ...slicing,
  },
  check: sliced,
  version: 1,
  name: (slice) => sliceName(slice.name, slice),
  data: { from: 'file' },
  public: true,
  size: ({ every, offset }) => Math.ceil((NOMINAL - offset) / every),
  tasks: (slice, rows) =>
    everyNth(rows, slice).map((given): Task => {
      const row = Row.parse(given);
      const { id, question, entryPoint, programPrefix, reference, limits } = row;
      return {
        id,
        question,
        entryPoint,
        programPrefix,
        tests: row.tests.map((test, at) => judged(test, row, at)),
        reference,
        ...(limits ? { limits } : {}),
      };
    }),
});
