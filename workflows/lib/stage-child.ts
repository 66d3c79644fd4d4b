/** Children that run alone under their id, and stages of workflows for which nothing is a result too. */
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

/**
 * The result of a child. After a reset the earlier run's child still runs, and this run cannot wait for it: it is
 * cancelled first.
 *
 * @throws ChildWorkflowFailure
 */
export async function executeAlone(
  type: string,
  options: { workflowId: string; args: [unknown]; staticSummary: string },
  name: string,
): Promise<unknown> {
  const { workflowId } = options;
  for (;;) {
    try {
      return (await executeChild(type, options)) as unknown;
    } catch (error) {
      if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
      log.info('a child of an earlier run is still running; it is cancelled first', { workflowId });
      await getExternalWorkflowHandle(workflowId)
        .cancel()
        .catch(() => undefined);
      await sleep('2 seconds', { summary: `the ${name} of an earlier run ends` });
    }
  }
}

/**
 * The result of a stage, also of one that made nothing: its artifact says why. `name` tells apart stages of one kind.
 */
export async function stageOrNothing(
  stage: StageName,
  input: object,
  staticSummary: string,
  name: string = stage,
): Promise<StageResult> {
  const workflowId = `${workflowInfo().workflowId}/${name}`;
  try {
    return (await executeAlone(stage, { workflowId, args: [input], staticSummary }, stage)) as StageResult;
  } catch (error) {
    const cause = error instanceof ChildWorkflowFailure ? error.cause : undefined;
    if (!(cause instanceof ApplicationFailure) || cause.type !== 'NoRows' || !cause.details?.[0]) throw error;
    return cause.details[0] as StageResult;
  }
}
