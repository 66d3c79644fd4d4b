import { CancellationScope, condition, setCurrentDetails, setHandler, workflowInfo } from '@temporalio/workflow';
import { z } from 'zod';
import type { ReverifyShard } from '../activities/reverify/activities.js';
import { resultText, type ArtifactRef, type Reverification } from './contract/index.js';
import { call } from './lib/activities.js';
import { parseInput, resolveInputs } from './lib/inputs.js';
import { onSignal, pauseSignal, resumeSignal, stageStatusQuery } from './lib/messages.js';
import { resultMemo } from './lib/result-memo.js';

export interface ReverifyResult {
  /** Changed verdicts, pairs and rewards row by row, with `summary.json` and `summary.md`. */
  table: ArtifactRef;
  /** The command that gets it, without a worker. */
  fetch: string;
  /** Cells that this run has run: one test of one program each. The other verdicts of the table were known. */
  cells: number;
  verdicts: number;
  /** Programs that ran all tests in one process too, and those of them with another verdict for one. */
  compared: number;
  differing: string[];
  summary: Reverification;
  /** The input `programs` with the verdicts of today. */
  programs?: ArtifactRef;
  /** Folder on a worker that keeps results on its disk. */
  folder?: string;
}

/**
 * Judges stored programs, answers or rollouts again under changed tests, limits or rules. Only cells
 * that were never run are run. Neither a GPU nor a teacher is used, and what is stored stays as it is.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes of the input.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { reverify } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { cells, summary } = await client.workflow.execute<typeof reverify>('reverify', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'reverify-1',
 *   args: [{
 *     inputs: {
 *       programs: { kind: 'programs', path: '/data/programs.jsonl' },
 *       questions: { kind: 'filteredQuestions', path: '/data/questions.jsonl' },
 *       tests: { kind: 'tests', path: '/data/changed-tests.jsonl' },
 *     },
 *   }],
 * });
 * console.log(cells, summary.pairs);
 * ```
 */
export async function reverify(input: unknown): Promise<ReverifyResult> {
  const { inputs: given, $schema: _schema, ...settings } = parseInput('reverify', input);
  const { execution, compare } = settings;
  let isPaused = false;
  let done = 0;
  let total = 0;
  const show = (): void => setCurrentDetails(`**reverify**${isPaused ? ' (paused)' : ''}: ${done} of ${total} shards`);
  setHandler(stageStatusQuery, () => ({
    state: isPaused ? ('paused' as const) : ('running' as const),
    progress: { done, total, unit: 'shards' },
  }));
  const pause = (paused: boolean) => (): void => {
    isPaused = paused;
    show();
  };
  onSignal(pauseSignal, z.unknown(), pause(true));
  onSignal(resumeSignal, z.unknown(), pause(false));

  const resolved = await resolveInputs('reverify', given, { at: 'inputs.' });
  const inputs = Object.fromEntries(
    Object.entries(resolved).filter((entry): entry is [string, ArtifactRef] => entry[1] !== undefined),
  );
  const plan = await call('reverify.plan', { summary: 'find what is unknown' }, { inputs, settings });
  const { stageKey, work } = plan;
  total = work.length;
  show();

  const judged: ReverifyShard[] = [];
  await CancellationScope.cancellable(async () => {
    let next = 0;
    const lane = async (): Promise<void> => {
      for (;;) {
        await condition(() => !isPaused);
        const at = next++;
        if (at >= total) return;
        judged[at] = await call(
          'reverify.judge',
          { summary: `judge: shard ${at + 1} of ${total}` },
          { stageKey, shard: work[at]!, execution, compare: Math.ceil(compare / total) },
        );
        done += 1;
        show();
      }
    };
    const lanes = Array.from({ length: Math.min(execution.window, total) }, lane);
    try {
      await Promise.all(lanes);
    } catch (error) {
      CancellationScope.current().cancel();
      await Promise.allSettled(lanes);
      throw error;
    }
  });
  const made = await call('reverify.table', { summary: 'write the table' }, { stageKey });
  const { artifact, summary, programs, folder } = made;
  const { workflowId } = workflowInfo();
  const cells = judged.reduce((sum, shard) => sum + shard.cells, 0);
  setCurrentDetails(
    [
      resultText(`**reverify**: ${cells} of ${plan.verdicts} verdicts were run`, made, workflowId, folder),
      ...(summary.firstChangedRound === undefined
        ? []
        : [`first round whose policy is no longer what it would be: ${summary.firstChangedRound ?? 'none'}`]),
    ].join('\n\n'),
  );
  return {
    table: artifact,
    fetch: resultMemo('table', artifact),
    cells,
    verdicts: plan.verdicts,
    compared: judged.reduce((sum, shard) => sum + shard.compared, 0),
    differing: judged.flatMap((shard) => shard.differing),
    summary,
    ...(programs === undefined ? {} : { programs }),
    ...(folder === undefined ? {} : { folder }),
  };
}
