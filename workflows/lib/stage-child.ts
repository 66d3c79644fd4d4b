/** A stage as a child of a workflow for which nothing is a result too: a preview, and a nightly data set. */
import { WorkflowExecutionAlreadyStartedError } from '@temporalio/common';
import {
  ApplicationFailure,
  ChildWorkflowFailure,
  executeChild,
  getExternalWorkflowHandle,
  log,
  sleep,
  workflowInfo,
} from '@temporalio/workflow';
import type { StageName, StageResult } from '../contract/index.js';

/** The result of a stage, also of one that made nothing: its artifact says why. */
export async function stageOrNothing(stage: StageName, input: object, staticSummary: string): Promise<StageResult> {
  const workflowId = `${workflowInfo().workflowId}/${stage}`;
  for (;;) {
    try {
      return (await executeChild(stage, { workflowId, args: [input], staticSummary })) as StageResult;
    } catch (error) {
      if (error instanceof WorkflowExecutionAlreadyStartedError) {
        // After a reset the earlier run's child still runs, and this run cannot wait for it. It is cancelled first.
        log.info('a child of an earlier run is still running; it is cancelled first', { workflowId });
        await getExternalWorkflowHandle(workflowId)
          .cancel()
          .catch(() => undefined);
        await sleep('2 seconds', { summary: `the ${stage} of an earlier run ends` });
        continue;
      }
      const cause = error instanceof ChildWorkflowFailure ? error.cause : undefined;
      if (!(cause instanceof ApplicationFailure) || cause.type !== 'NoRows' || !cause.details?.[0]) throw error;
      return cause.details[0] as StageResult;
    }
  }
}
