/** An experiment is started as its user would: by the Temporal CLI. */
import { randomBytes } from 'node:crypto';
import { WorkflowNotFoundError, type Client } from '@temporalio/client';
import { payloadCodec } from '../../workers/payloads/codec.js';
import { startCodecServer } from '../../workers/payloads/codec-server.js';
import { QUEUES } from '../../workflows/contract/index.js';
import { COMMAND_TIMEOUT, runTemporalCli, type Stack } from '../stack/embedded-stack.js';

/**
 * Starts an experiment of a file by the Temporal CLI, or says that it runs or has finished. With a key in
 * `ACECODER_PAYLOAD_KEY`, its input is encrypted before it leaves this machine.
 *
 * @throws Error where the CLI refuses it.
 * @example
 * await startExperiment(stack, client, 'infra/experiments/quickstart.json', 'quickstart', console.log);
 */
export async function startExperiment(
  stack: Stack,
  client: Client,
  file: string,
  workflowId: string,
  say: (line: string) => void,
  env: NodeJS.ProcessEnv = process.env,
): Promise<void> {
  const existing = await client.workflow
    .getHandle(workflowId)
    .describe()
    .then(
      ({ status }) => status.name,
      (error: unknown) => {
        if (error instanceof WorkflowNotFoundError) return undefined;
        throw error;
      },
    );
  if (existing === 'RUNNING') return say(`The experiment '${workflowId}' is running; following it.`);
  if (existing === 'COMPLETED')
    return say(`The experiment '${workflowId}' has finished; \`npm run quickstart -- --fresh\` runs it anew.`);
  const args = [
    'workflow',
    'start',
    '--type',
    'experiment',
    '--task-queue',
    QUEUES.pipeline,
    '--workflow-id',
    workflowId,
    '--input-file',
    file,
    '--id-reuse-policy',
    'AllowDuplicate',
    '--static-summary',
    `experiment ${workflowId}`,
    ...COMMAND_TIMEOUT,
  ];
  const { code, stderr } = await withCodec(env, (codec) => runTemporalCli(stack, args, codec));
  if (code !== 0) throw new Error(`temporal workflow start failed: ${stderr.trim()}`);
  say(
    existing
      ? `The last run ended as ${existing}; started again. Finished work is taken from the store.`
      : `Started the experiment '${workflowId}'.`,
  );
}

/** Runs a command of the CLI with what it asks a codec server of this process by; nothing where there is no key. */
async function withCodec<T>(env: NodeJS.ProcessEnv, run: (codec: Record<string, string>) => Promise<T>): Promise<T> {
  const codec = payloadCodec(env);
  if (!codec) return run({});
  const token = randomBytes(32).toString('hex');
  const server = await startCodecServer(codec, { host: '127.0.0.1', port: 0, token });
  try {
    return await run({ TEMPORAL_CODEC_ENDPOINT: server.url, TEMPORAL_CODEC_AUTH: `Bearer ${token}` });
  } finally {
    await server.close();
  }
}
