/** Results in the memo of a run, where lists of runs show them. */
import { upsertMemo, workflowInfo } from '@temporalio/workflow';
import { fetchCommand, type ArtifactRef } from '../contract/index.js';

/**
 * Writes the key of a result into the memo, with the command that gets it, and returns that command. A run of version
 * 0.1.0, whose activities stored no result, goes on without.
 */
export function resultMemo(name: string, artifact: ArtifactRef | undefined): string {
  const fetch = fetchCommand(workflowInfo().workflowId);
  if (artifact) upsertMemo({ [name]: artifact.key, fetch });
  return fetch;
}
