/** A stage as a child of a workflow for which nothing is a result too: a preview, and a nightly data set. */
import { ApplicationFailure, ChildWorkflowFailure, executeChild, workflowInfo } from '@temporalio/workflow';
import type { StageName, StageResult } from '../contract/index.js';

/** The result of a stage, also of one that made nothing: its artifact says why. */
export async function stageOrNothing(stage: StageName, input: object, staticSummary: string): Promise<StageResult> {
  try {
    return (await executeChild(stage, {
      workflowId: `${workflowInfo().workflowId}/${stage}`,
      args: [input],
      staticSummary,
    })) as StageResult;
  } catch (error) {
    const cause = error instanceof ChildWorkflowFailure ? error.cause : undefined;
    if (!(cause instanceof ApplicationFailure) || cause.type !== 'NoRows' || !cause.details?.[0]) throw error;
    return cause.details[0] as StageResult;
  }
}
