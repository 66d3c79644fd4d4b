/** The store that a command works on, without a worker. */
import { attachStack, stackEnvironment } from '../stack/embedded-stack.js';
import { home as acecoderHome } from '../setup/paths.mjs';

/** What a command's help says about it. */
export const WHICH_STORE = `Which store: that of ACECODER_S3_ENDPOINT, ACECODER_S3_BUCKET, ACECODER_S3_ACCESS_KEY and
ACECODER_S3_SECRET_KEY where they are set, otherwise that of the embedded stack (npm run stack).`;

/**
 * Variables of the store of the environment, or else of the embedded stack.
 *
 * @throws Error where there is neither.
 */
export async function environmentOfStore(embedded: boolean): Promise<NodeJS.ProcessEnv> {
  if (process.env['ACECODER_S3_ENDPOINT'] && !embedded) return process.env;
  const stack = await attachStack({ home: acecoderHome() });
  if (stack) return stackEnvironment(stack);
  throw new Error(
    'No store is configured (ACECODER_S3_ENDPOINT), and the embedded stack does not run: npm run stack starts it.',
  );
}
