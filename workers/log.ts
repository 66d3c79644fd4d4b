/** The log of a worker process: what it prints. */

/**
 * Lets the process run on where its output cannot be written: the disk of the log is full, or its reader has gone.
 * Lines are lost until there is room again. Without this, Node ends the process at the first such line.
 */
export function keepRunningWithoutLog(): void {
  for (const stream of [process.stdout, process.stderr]) stream.on('error', () => undefined);
}
