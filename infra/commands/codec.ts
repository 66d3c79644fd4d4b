/** `npm run codec`: shows encrypted payloads to the Temporal CLI and to Temporal's UI. */
import { once } from 'node:events';
import { payloadCodec } from '../../workers/payloads/codec.js';
import { startCodecServer } from '../../workers/payloads/codec-server.js';
import { onEndSignal } from '../setup/processes.mjs';
import { portOf, runCommand, type CommandLine } from './command.js';

const HELP = `npm run codec [-- options]

Encrypts and decrypts payloads over HTTP (POST /encode and /decode), by the keys of ACECODER_PAYLOAD_KEY, until
Ctrl-C. The Temporal CLI asks it with --codec-endpoint, and Temporal's UI where its settings name the address.
Whoever reaches it reads everything. On another address than loopback it needs ACECODER_CODEC_TOKEN, which
requests then carry: --codec-auth "Bearer TOKEN".

  --host ADDRESS   where it listens (127.0.0.1)
  --port N         port (8750; 0: any free one)
  --origin URL     origin of the web page that may ask, such as http://localhost:8233 of the UI
  --help           print this`;

const OPTIONS = {
  host: { type: 'string', default: '127.0.0.1' },
  port: { type: 'string', default: '8750' },
  origin: { type: 'string' },
} as const;

async function run({ values: { host, port, origin } }: CommandLine<typeof OPTIONS>): Promise<void> {
  const codec = payloadCodec(process.env);
  if (!codec) throw new Error('ACECODER_PAYLOAD_KEY is not set, so that there is nothing to encrypt or decrypt by.');
  const stop = new AbortController();
  onEndSignal((signal) => stop.abort(signal));
  const token = process.env['ACECODER_CODEC_TOKEN'] || undefined;
  const server = await startCodecServer(codec, { host, port: portOf('port', port) ?? 8750, token, origin });
  console.log(`The codec listens on ${server.url}`);
  if (!stop.signal.aborted) await once(stop.signal, 'abort');
  await server.close();
}

runCommand({ help: HELP, options: OPTIONS, words: false, run });
