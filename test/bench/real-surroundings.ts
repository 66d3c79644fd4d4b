/** The stack, the workers and the clients of a bench of a real model, in a home that a later run goes on in. */
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import {
  createArtifactStore,
  storeOptionsFromEnvironment,
  type ArtifactStore,
} from '../../activities/artifacts/store.js';
import { home as acecoderHome, venvPython } from '../../infra/setup/paths.mjs';
import { onEndSignal } from '../../infra/setup/processes.mjs';
import { startStack, stackEnvironment, stopStack } from '../../infra/stack/embedded-stack.js';
import { startWorker } from '../fixtures/start-worker.js';

/** What a bench of a real model runs in. */
export interface RealSurroundings {
  client: Client;
  store: ArtifactStore;
  /** Process ids of the servers. */
  servers: readonly number[];
  /** Ends the bench as a signal does. */
  signal: AbortSignal;
  /** Rejects when a signal comes, or when the workers end. */
  ended: Promise<never>;
  /** Ends the workers and the stack. */
  close: () => Promise<void>;
}

/**
 * Starts the stack of a home, and workers on a queue, with more variables of the environment for them.
 *
 * @throws Error where a server does not start.
 * @example
 * const { client, store, close } = await realSurroundings('/data/bench', 'real');
 */
export async function realSurroundings(
  home: string,
  queue: string,
  more: Record<string, string> = {},
): Promise<RealSurroundings> {
  const stack = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 } });
  const environment = {
    ...Object.fromEntries(
      Object.entries(stackEnvironment(stack)).filter((entry): entry is [string, string] => entry[1] !== undefined),
    ),
    ACECODER_PYTHON: venvPython(),
    ACECODER_VENV: join(acecoderHome(), 'venv'),
    // A bench that takes what others leave of the cores may stand still for long.
    ACECODER_IDLE_SECONDS: '3600',
    ...more,
  };
  const connection = await Connection.connect({ address: stack.address });
  const client = new Client({ connection, namespace: stack.namespace });
  const store = createArtifactStore(storeOptionsFromEnvironment(environment, join(home, 'bench-cache')));
  const workers = startWorker(queue, environment);
  const stop = new AbortController();
  onEndSignal((signal) => stop.abort(new Error(`Ended by ${signal}; the same command goes on from here.`)));
  const ended = new Promise<never>((_, reject) => {
    stop.signal.addEventListener('abort', () => reject(stop.signal.reason as Error));
    workers.child.once('exit', (code) => {
      if (!stop.signal.aborted) reject(new Error(`The workers ended with ${code}; see ${join(home, 'logs')}.`));
    });
  });
  ended.catch(() => undefined);
  return {
    client,
    store,
    servers: Object.values(stack.pids),
    signal: stop.signal,
    ended,
    async close() {
      stop.abort(new Error('The bench has ended.'));
      await workers.stop();
      await connection.close();
      await stopStack({ home });
    },
  };
}
