/** Which Temporal server a command talks to: the user's where one is configured, or else the embedded stack's. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { Connection } from '@temporalio/client';
import { loadClientConnectConfig } from '@temporalio/envconfig';
import { attachStack, stackEnvironment, type Stack } from './embedded-stack.js';
import { home as acecoderHome } from '../setup/paths.mjs';

export interface Server {
  /** The process's environment, with the server in it as `TEMPORAL_*` variables or as a profile. */
  environment: Record<string, string | undefined>;
  /** Absent where the user's own server was chosen. */
  stack?: Stack;
}

/** Order of choice, as `--help` of the commands tells it. */
export const SERVER_HELP = `\
  1. that of TEMPORAL_ADDRESS, TEMPORAL_PROFILE or TEMPORAL_CONFIG_FILE where one of them is set,
  2. that of the profile file in ~/.config/temporalio where it exists,
  3. otherwise the embedded stack (npm run stack).`;

/**
 * Chooses the server; `embedded` says that it is the embedded stack's, whatever is configured.
 *
 * @throws Error when that one does not run.
 */
export async function chooseServer({ embedded }: { embedded: boolean }): Promise<Server> {
  const configured =
    ['TEMPORAL_ADDRESS', 'TEMPORAL_PROFILE', 'TEMPORAL_CONFIG_FILE'].some((name) => process.env[name]) ||
    existsSync(join(homedir(), '.config', 'temporalio', 'temporal.toml'));
  if (configured && !embedded) return { environment: { ...process.env } };
  const stack = await attachStack({ home: acecoderHome() });
  if (!stack)
    throw new Error(
      'No Temporal server is configured (TEMPORAL_ADDRESS or a profile), and the embedded stack does not run: ' +
        'npm run stack starts it.',
    );
  return { environment: stackEnvironment(stack), stack };
}

/**
 * Connects to the server that {@link chooseServer} chooses. Close the connection in the end.
 *
 * @throws Error with a sentence where it does not run or does not answer.
 */
export async function connectToServer(choice: {
  embedded: boolean;
}): Promise<{ connection: Connection; namespace: string }> {
  const { environment } = await chooseServer(choice);
  const variables = Object.fromEntries(
    Object.entries(environment).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  const { connectionOptions, namespace = 'default' } = loadClientConnectConfig({ overrideEnvVars: variables });
  const connection = await Connection.connect(connectionOptions).catch((error: unknown) => {
    throw new Error(
      `The Temporal server at ${connectionOptions.address ?? 'localhost:7233'} (TEMPORAL_ADDRESS or profile) ` +
        `does not answer: ${(error as Error).message}`,
    );
  });
  return { connection, namespace };
}
