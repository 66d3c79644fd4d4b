/** The sandbox for the workflows of an application: programs in, verdicts out, without a store. */
import { z } from 'zod';
import {
  describeMistakes,
  mistakesOf,
  SandboxLimits,
  StageFailure,
  type TestOutcome,
} from '../../workflows/contract/index.js';
import { cancellationSignal, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { judgePrograms, settled } from './execution.js';
import { jobOf, referenceOf, SandboxRow } from './rows.js';

const JudgeInput = z.strictObject({
  /** At most what a Temporal payload holds: 2 MiB with a server's own settings. */
  rows: z.array(SandboxRow).min(1).max(1_000),
  limits: SandboxLimits.prefault({}),
});

export interface SandboxVerdict {
  id: string;
  /** Outcome of each test, in the order of the row's tests. */
  outcomes: TestOutcome[];
  /** Passed over all tests of the row. */
  passRate: number;
  flags: string[];
}

/** A row without a verdict, because the checker of one of its tests has a fault. */
export interface DroppedRow {
  id: string;
  reason: string;
  outcomes: TestOutcome[];
}

/**
 * The activities of the part `sandbox`, for `proxyActivities` of an application's workflow.
 *
 * @example
 * ```ts
 * import { proxyActivities } from '@temporalio/workflow';
 * import type { SandboxActivities, SandboxRow } from 'acecoder-temporal';
 *
 * const { 'sandbox.judge': judge } = proxyActivities<SandboxActivities>({
 *   taskQueue: 'grading',
 *   startToCloseTimeout: '10 minutes',
 *   heartbeatTimeout: '15s',
 * });
 *
 * export async function grade(rows: SandboxRow[]): Promise<number[]> {
 *   const { verdicts } = await judge({ rows });
 *   return verdicts.map(({ passRate }) => passRate);
 * }
 * ```
 */
export type SandboxActivities = ReturnType<typeof sandboxActivities>;

/** `sandbox.judge`. */
export function sandboxActivities({ sandbox }: Pick<Services, 'sandbox'>) {
  return {
    /**
     * Verdicts in row order. What the infrastructure could not judge is tried again by Temporal, and is never a
     * verdict. Rows whose checker has a fault are `dropped`.
     *
     * @throws StageFailure `InvalidExperiment` with all mistakes of the rows.
     */
    'sandbox.judge': async (
      input: z.input<typeof JudgeInput>,
    ): Promise<{ verdicts: SandboxVerdict[]; dropped: DroppedRow[]; isolation: string }> => {
      const parsed = JudgeInput.safeParse(input);
      if (!parsed.success)
        throw new StageFailure('InvalidExperiment', describeMistakes(mistakesOf(parsed.error, input, JudgeInput)));
      const { rows, limits } = parsed.data;
      const jobs = rows.map((row, index) => {
        try {
          return jobOf(row);
        } catch (error) {
          throw new StageFailure('InvalidExperiment', `rows.${index}: ${(error as Error).message}`);
        }
      });
      const { level } = await sandbox.versions();
      const references = rows.flatMap((row, index) => {
        const reference = referenceOf(row);
        return reference ? [{ ...reference, id: String(index) }] : [];
      });
      const { judgements, brokenReferences } = await judgePrograms(sandbox, jobs, {
        limits,
        references,
        signal: cancellationSignal(),
        onProgress: (done, total) => reportProgress({ done, total, message: 'programs run' }),
      });
      if (brokenReferences.length > 0) {
        const broken = brokenReferences.map(({ id, test }) => `rows.${id}: the reference fails its test ${test}`);
        throw new StageFailure('InvalidExperiment', broken.join('\n'));
      }
      const verdicts: SandboxVerdict[] = [];
      const dropped: DroppedRow[] = [];
      for (const each of settled(judgements)) {
        const { id, outcomes, flags } = each;
        if (each.judged) verdicts.push({ id, outcomes, passRate: each.passRate, flags });
        else dropped.push({ id, reason: each.fault, outcomes });
      }
      return { verdicts, dropped, isolation: String(level) };
    },
  };
}
