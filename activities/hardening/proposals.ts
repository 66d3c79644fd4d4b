/**
 * Inputs that are proposed for one question, with what its reference answers and which of its mutants each kills.
 *
 * The work is done by one program in the sandbox, `workers/sandbox/attackers.py`, per question. Programs of others are
 * no part of it: they would share a process with the reference.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { StageFailure, type QuestionTest } from '../../workflows/contract/index.js';
import type { SandboxOperation } from '../runtime/operations.js';
import { ROOT } from '../runtime/package.js';
import type { PythonProcess } from '../runtime/python-service.js';

/** What is proposed and tried per question, at most. */
export interface AttackBudget {
  /** Inputs. */
  inputs: number;
  /** Mutants of the reference. */
  mutants: number;
  /** Calls of the reference, its contract and its mutants. */
  executions: number;
  /** CPU time of one call of the reference, in seconds. */
  callSeconds: number;
  /** CPU time of all, in seconds. */
  seconds: number;
}

/** A question as it is attacked. */
export interface Target {
  id: string;
  reference: string;
  entryPoint: string;
  tests: readonly QuestionTest[];
  /** Asserts over the parameters of the reference that hold for the inputs it is made for. */
  contract?: string | undefined;
  /** Whether an input that the contract refuses is none; else it is only told of each. */
  obeysContract: boolean;
  /** Texts of a teacher, whose calls are proposed before all others. */
  replies?: string | undefined;
  /** Chooses the inputs. */
  seed: number;
}

const Candidate = z.strictObject({
  /** The call, as an expression. */
  call: z.string(),
  /** What the reference answers, as a literal. */
  answer: z.string(),
  /** Whether the answer holds floats. */
  inexact: z.boolean(),
  /** How far the input is from what the known inputs have in common: 0 where nothing tells it apart. */
  strange: z.number(),
  /** Whether the contract of the question allows the input; null where it has none that can be run. */
  allowed: z.boolean().nullable(),
  /** What input, path and answer are like, in a few words. */
  kinds: z.array(z.string()),
  /** Numbers of the surviving mutants that answer otherwise. */
  kills: z.array(z.int().nonnegative()),
  /** Whether a reply of the teacher proposes it. */
  proposed: z.literal(true).optional(),
});
export type Candidate = z.infer<typeof Candidate>;

const Attack = z.strictObject({
  /** The known inputs. */
  known: z.array(z.strictObject({ answer: z.string(), kinds: z.array(z.string()) })),
  /** How the tests of the question ask: an expression with `__call__` in the place of the call. */
  form: z.string(),
  tolerance: z.number().nullable(),
  /** What holds between the arguments of all known inputs. */
  relations: z.array(z.string()),
  mutants: z.strictObject({
    made: z.int(),
    /** Those that no known input kills, and whether a proposed one does. */
    survivors: z.array(z.strictObject({ id: z.string(), killed: z.boolean() })),
  }),
  candidates: z.array(Candidate),
  /** Proposed inputs that are no candidates, by reason. */
  refused: z.record(z.string(), z.int()),
  /** Different inputs that the teacher's replies propose; absent where there are no replies. */
  proposed: z.int().optional(),
  executions: z.int(),
});
export type Attack = z.infer<typeof Attack>;

const Told = z.union([z.strictObject({ reason: z.string() }), Attack]);
/** What was proposed for a question, or why nothing could be. */
export type Proposals = z.infer<typeof Told>;

/** Kills of one mutant that are looked for, at most: more of them choose no better. */
const KILLS_PER_MUTANT = 40;
const MEMORY_BYTES = 1024 ** 3;

let program: Promise<string> | undefined;

/** The text of the program that attacks. */
function attackers(): Promise<string> {
  program ??= readFile(join(ROOT, 'workers/sandbox/attackers.py'), 'utf8');
  return program;
}

/**
 * Proposes inputs for questions, in their order. The same target and budget give the same proposals.
 *
 * @throws StageFailure `SandboxUnavailable` where the host could not run a question.
 * @example
 * const [proposals] = await propose(sandbox, [target], { budget, strangest: 4, signal });
 * if ('reason' in proposals!) console.log(proposals.reason);
 */
export async function propose(
  sandbox: PythonProcess<SandboxOperation>,
  targets: readonly Target[],
  {
    budget,
    strangest,
    signal,
    onProgress,
  }: {
    budget: AttackBudget;
    /** Inputs that are stranger are not even tried. */
    strangest: number;
    signal?: AbortSignal;
    onProgress?: (done: number) => void;
  },
): Promise<Proposals[]> {
  if (targets.length === 0) return [];
  const text = await attackers();
  const { runs } = await sandbox.call(
    'run',
    {
      jobs: targets.map(({ id, reference, entryPoint, tests, contract, obeysContract, replies, seed }) => ({
        id,
        program: text,
        stdin: JSON.stringify({
          reference,
          entryPoint,
          tests: tests.filter((test) => typeof test === 'string'),
          ...(contract === undefined ? {} : { contract }),
          obeysContract,
          ...(replies === undefined ? {} : { replies }),
          seed,
          pool: budget.inputs,
          mutants: budget.mutants,
          executions: budget.executions,
          callSeconds: budget.callSeconds,
          strangest,
          killsPerMutant: KILLS_PER_MUTANT,
        }),
      })),
      limits: {
        cpuSecondsPerTest: budget.seconds,
        cpuSecondsPerProgram: budget.seconds,
        memoryBytes: MEMORY_BYTES,
      },
    },
    { ...(signal ? { signal } : {}), onProgress: ({ done }) => onProgress?.(done) },
  );
  return runs.map(({ id, status, stdout }): Proposals => {
    if (status === 'unjudged') throw new StageFailure('SandboxUnavailable', `question ${id} could not be attacked`);
    if (status !== 'ended') return { reason: status };
    const told = Told.safeParse(lastLine(stdout));
    // A reference that writes to the descriptor itself breaks the answer, and with it nothing but its own question.
    return told.success ? told.data : { reason: 'noAnswer' };
  });
}

function lastLine(text: string): unknown {
  try {
    return JSON.parse(text.trimEnd().split('\n').at(-1)!);
  } catch {
    return undefined;
  }
}
