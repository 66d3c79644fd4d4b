/**
 * Points in Weights & Biases or trackio, by the Python client of each: neither has an interface for others. The client
 * runs in an environment of its own, and gets points on its standard input. The id of the run follows from the workflow
 * id, so that a tracker that was killed goes on with the same run, and a point is sent once.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { text } from 'node:stream/consumers';
import { z } from 'zod';
import { StageFailure } from '../../workflows/contract/index.js';
import type { TrackedRun } from './mlflow.js';
import type { Point } from './points.js';

/** Trackers with a Python client. */
export const CLIENTS = ['wandb', 'trackio'] as const;
export type ClientName = (typeof CLIENTS)[number];

const Answer = z.object({ sent: z.number() });
/** Characters of what a client says where it fails. */
const SAID = 500;

export class ClientTracker {
  /** @param python interpreter whose environment has the client; `script` is `workers/trackers/send.py`. */
  constructor(
    private readonly name: ClientName,
    private readonly python: string,
    private readonly script: string,
  ) {}

  /**
   * Sends the points that the run does not have yet. Where to, and with which key, the client reads from its own
   * variables of the environment.
   *
   * @returns how many were sent.
   * @throws StageFailure `InvalidExperiment` with the last words of the client.
   * @example
   * await new ClientTracker('trackio', python, script).send({ workflowId: 'my-run', project: 'acecoder' }, points);
   */
  async send({ workflowId, project }: TrackedRun, points: readonly Point[]): Promise<{ sent: number }> {
    const child = spawn(this.python, [this.script, this.name, project, runIdOf(workflowId), workflowId], {
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    const lines = Readable.from(points.map((point) => `${JSON.stringify(point)}\n`));
    const [code, said, complaint] = await Promise.all([
      once(child, 'exit').then(([status]) => status as number | null),
      text(child.stdout),
      text(child.stderr),
      // A client that has failed reads no more.
      pipeline(lines, child.stdin).catch(() => undefined),
    ]);
    if (code === 0) return Answer.parse(JSON.parse(said.trimEnd().split('\n').at(-1) ?? ''));
    throw new StageFailure(
      'InvalidExperiment',
      `the client of ${this.name} failed: ${complaint.trimEnd().slice(-SAID) || `it ended with ${String(code)}`}`,
    );
  }
}

/** The id of an experiment's run: W&B takes at most 64 characters, and no slash. */
export function runIdOf(workflowId: string): string {
  return createHash('sha256').update(workflowId).digest('hex').slice(0, 16);
}
