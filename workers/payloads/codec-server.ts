/**
 * The codec as an HTTP server, for the Temporal CLI (`--codec-endpoint`) and Temporal's UI: `POST /encode` and
 * `POST /decode` take and give `{"payloads": [...]}`, with bytes in base64. Whoever reaches it reads everything, so it
 * listens on loopback, or asks for a token.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import { isIP, type AddressInfo } from 'node:net';
import type { Payload, PayloadCodec } from '@temporalio/common';
import { z } from 'zod';

const MOST_BYTES = 64 * 1024 * 1024;
const LEAST_TOKEN = 16;

/** Payloads as JSON, in the form of protobuf. */
const Body = z.object({
  payloads: z.array(z.object({ metadata: z.record(z.string(), z.string()).default({}), data: z.string().default('') })),
});

export interface CodecServerOptions {
  /** Address or name to listen on; any but one of loopback needs a token. */
  host: string;
  /** 0: any free one. */
  port: number;
  /** What requests carry as `Authorization: Bearer TOKEN`. */
  token?: string | undefined;
  /** Origin of a web page that may ask, such as that of Temporal's UI: `http://localhost:8233`. */
  origin?: string | undefined;
}

/** A running server. */
export interface CodecServer {
  /** As in `http://127.0.0.1:8750`. */
  url: string;
  close: () => Promise<void>;
}

/**
 * Starts the server.
 *
 * @throws Error where the address needs a token and there is none, or cannot be listened on.
 * @example
 * const server = await startCodecServer(codec, { host: '127.0.0.1', port: 0 });
 * await server.close();
 */
export async function startCodecServer(
  codec: PayloadCodec,
  { host, port, token, origin }: CodecServerOptions,
): Promise<CodecServer> {
  if (token !== undefined && token.length < LEAST_TOKEN)
    throw new Error(`ACECODER_CODEC_TOKEN has ${token.length} characters; at least ${LEAST_TOKEN} are needed.`);
  const { address } = isIP(host) ? { address: host } : await lookup(host);
  if (token === undefined && address !== '::1' && !address.startsWith('127.'))
    throw new Error(
      `${host} is no loopback address, and whoever reaches the codec reads everything: a token is needed. ` +
        'Type: export ACECODER_CODEC_TOKEN="$(openssl rand -hex 32)"',
    );
  const routes: Record<string, PayloadCodec['encode']> = {
    '/encode': (payloads) => codec.encode(payloads),
    '/decode': (payloads) => Promise.all(payloads.map((payload) => legible(codec, payload))),
  };
  const answer = async (request: IncomingMessage): Promise<[status: number, body: object]> => {
    // A page that the browser shows from elsewhere may reach loopback, too.
    const from = request.headers.origin;
    if (from !== undefined && from !== origin) return [403, { message: `the origin ${from} may not ask (--origin)` }];
    if (request.method === 'OPTIONS') return [204, {}];
    if (token !== undefined && !isSame(request.headers.authorization ?? '', `Bearer ${token}`))
      return [401, { message: 'the header Authorization is not "Bearer" with the token of ACECODER_CODEC_TOKEN' }];
    const route = Object.hasOwn(routes, request.url ?? '') ? routes[request.url!] : undefined;
    if (!route || request.method !== 'POST') return [404, { message: 'there is POST /encode and POST /decode' }];
    const text = await bodyOf(request);
    if (text === undefined) return [413, { message: `the body has more than ${MOST_BYTES} bytes` }];
    try {
      const { payloads } = Body.parse(JSON.parse(text));
      return [200, { payloads: (await route(payloads.map(fromJson))).map(toJson) }];
    } catch (error) {
      return [400, { message: (error as Error).message }];
    }
  };
  const server = createServer((request, response) => {
    answer(request).then(
      ([status, body]) => {
        response.writeHead(status, { 'content-type': 'application/json', ...crossOrigin(origin) });
        response.end(status === 204 ? undefined : JSON.stringify(body));
      },
      () => response.destroy(),
    );
  });
  server.listen(port, address);
  await once(server, 'listening');
  const shown = isIP(address) === 6 ? `[${address}]` : address;
  return {
    url: `http://${shown}:${(server.address() as AddressInfo).port}`,
    close: async () => {
      const closed = once(server, 'close');
      server.close();
      server.closeIdleConnections();
      await closed;
    },
  };
}

/**
 * A payload for a person's eyes. Where it cannot be decrypted, the reason stands in its place: an error would hide all
 * others, and the CLI asks again until its time is over, without saying why.
 */
async function legible(codec: PayloadCodec, payload: Payload): Promise<Payload> {
  try {
    return (await codec.decode([payload]))[0]!;
  } catch (error) {
    const why = `not readable: ${(error as Error).message}`;
    return { metadata: { encoding: Buffer.from('json/plain') }, data: Buffer.from(JSON.stringify(why)) };
  }
}

/** What a browser must be told so that a page of `origin` may read answers. */
function crossOrigin(origin: string | undefined): Record<string, string> {
  if (origin === undefined) return {};
  return {
    'access-control-allow-origin': origin,
    'access-control-allow-methods': 'POST',
    'access-control-allow-headers': 'authorization, content-type, x-namespace',
    'access-control-allow-credentials': 'true',
    vary: 'Origin',
  };
}

async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > MOST_BYTES) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString();
}

function isSame(given: string, wanted: string): boolean {
  const [one, other] = [given, wanted].map((text) => createHash('sha256').update(text).digest());
  return timingSafeEqual(one!, other!);
}

const bytes = (base64: string): Uint8Array => new Uint8Array(Buffer.from(base64, 'base64'));
const base64 = (given: Uint8Array): string => Buffer.from(given).toString('base64');

function fromJson({ metadata, data }: z.infer<typeof Body>['payloads'][number]): Payload {
  return {
    metadata: Object.fromEntries(Object.entries(metadata).map(([name, value]) => [name, bytes(value)])),
    data: bytes(data),
  };
}

function toJson({ metadata, data }: Payload): object {
  return {
    metadata: Object.fromEntries(Object.entries(metadata ?? {}).map(([name, value]) => [name, base64(value)])),
    data: base64(data ?? new Uint8Array()),
  };
}
