/** Where the results of a workflow lie, and how they are got. */
import type { ArtifactRef } from './artifacts.js';
import { shellWord } from './safe-text.js';

/** A result in the store. */
export interface PublishedResult {
  artifact: ArtifactRef;
  /** Opens its page or data set without a key until it expires; absent where the worker makes no links. */
  link?: { url: string; expires: string };
}

/**
 * The command that gets the results of a workflow out of the store, without a worker.
 *
 * @example
 * fetchCommand('my-run'); // npm run fetch -- my-run
 */
export function fetchCommand(workflowId: string): string {
  // A second `--`, because the first one is npm's.
  return `npm run fetch -- ${workflowId.startsWith('-') ? '-- ' : ''}${shellWord(workflowId)}`;
}

/**
 * Markdown that says where a result lies: a copy on a worker's disk, its key, its link with the expiry. Version 0.1.0
 * had the copy alone.
 */
export function resultText(
  what: string,
  { artifact, link }: Partial<PublishedResult>,
  workflowId: string,
  local?: string,
): string {
  return [
    `${what}: \`${local ?? artifact?.key}\``,
    ...(local !== undefined && artifact ? [`in the store \`${artifact.key}\``] : []),
    ...(link ? [`[open it](${link.url}) until ${link.expires.slice(0, 16).replace('T', ' ')} UTC`] : []),
    ...(artifact ? [`get it by \`${fetchCommand(workflowId)}\``] : []),
  ].join(', ');
}
