/** Keys, payloads and the codec server, without a Temporal server. */
import { randomBytes } from 'node:crypto';
import type { Payload } from '@temporalio/common';
import { afterEach, describe, expect, it } from 'vitest';
import { dataConverterOf, payloadCodec } from './codec.js';
import { startCodecServer, type CodecServer, type CodecServerOptions } from './codec-server.js';

const key = (): string => randomBytes(32).toString('base64');
const [FIRST, SECOND] = [`2025:${key()}`, `2026:${key()}`];
const codecOf = (...keys: string[]) => payloadCodec({ ACECODER_PAYLOAD_KEY: keys.join(',') })!;
const plain: Payload = {
  metadata: { encoding: Buffer.from('json/plain'), messageType: Buffer.from('x') },
  data: Buffer.from('"def double(n): return 2 * n"'),
};

describe('the codec', () => {
  it('is none without a key', () => {
    expect(payloadCodec({})).toBeUndefined();
    expect(dataConverterOf(payloadCodec({ ACECODER_PAYLOAD_KEY: '' }))).toBeUndefined();
  });

  it('gives back what it encrypted, which nobody can read in between and which differs each time', async () => {
    const codec = codecOf(FIRST);
    const [one, other] = await codec.encode([plain, plain]);
    expect(Buffer.from(one!.data!).includes('double')).toBe(false);
    expect(one!.data).not.toEqual(other!.data);
    expect(Buffer.from(one!.metadata!['encryption-key-id']!).toString()).toBe('2025');
    const [back] = await codec.decode([one!]);
    expect(Buffer.from(back!.data!)).toEqual(plain.data);
    expect(Object.keys(back!.metadata!)).toEqual(['encoding', 'messageType']);
    const empty = { metadata: { encoding: Buffer.from('binary/null') } };
    const [nothing] = await codec.decode(await codec.encode([empty]));
    expect([Buffer.from(nothing!.metadata!['encoding']!).toString(), nothing!.data!.length]).toEqual([
      'binary/null',
      0,
    ]);
  });

  it('reads what was written before encryption, as it is', async () => {
    expect(await codecOf(FIRST).decode([plain])).toEqual([plain]);
  });

  it('encrypts by the first key and reads by all, so that keys can change', async () => {
    const written = await codecOf(FIRST).encode([plain]);
    const both = codecOf(SECOND, FIRST);
    expect(Buffer.from((await both.decode(written))[0]!.data!)).toEqual(plain.data);
    const [renewed] = await both.encode([plain]);
    await expect(codecOf(FIRST).decode([renewed!])).rejects.toThrow(
      "A payload is encrypted by the key '2026', and ACECODER_PAYLOAD_KEY holds 2025: add that key.",
    );
  });

  it('names the key where it is another one, or where the payload was changed', async () => {
    const [written] = await codecOf(FIRST).encode([plain]);
    const says = /cannot be decrypted by the key '2025' of ACECODER_PAYLOAD_KEY/;
    await expect(codecOf(`2025:${key()}`).decode([written!])).rejects.toThrow(says);
    const changed = Buffer.from(written!.data!);
    changed[20]! ^= 1;
    await expect(codecOf(FIRST).decode([{ ...written, data: changed }])).rejects.toThrow(says);
    await expect(codecOf(FIRST).decode([{ ...written, data: new Uint8Array(3) }])).rejects.toThrow(says);
    const [, base64] = FIRST.split(':');
    const renamed = { ...written!.metadata, 'encryption-key-id': Buffer.from('2026') };
    await expect(codecOf(`2026:${base64}`).decode([{ ...written, metadata: renamed }])).rejects.toThrow('2026');
  });

  it.each([
    ['secret', 'Key 1 of ACECODER_PAYLOAD_KEY has not the form ID:BASE64.'],
    [`${FIRST},2026:!`, 'Key 2 of ACECODER_PAYLOAD_KEY has not the form ID:BASE64.'],
    ['2026:c2VjcmV0', "The key '2026' of ACECODER_PAYLOAD_KEY has 6 bytes; it needs 32."],
    [`${FIRST} ${FIRST}`, "ACECODER_PAYLOAD_KEY has two keys with the id '2025'."],
  ])('refuses %s, and does not tell it', (text, says) => {
    let message = '';
    try {
      payloadCodec({ ACECODER_PAYLOAD_KEY: text });
    } catch (error) {
      ({ message } = error as Error);
    }
    expect(message).toContain(says);
    for (const part of text.split(/[,: ]/).filter(({ length }) => length > 5)) expect(message).not.toContain(part);
  });
});

describe('the codec server', () => {
  const open: CodecServer[] = [];
  afterEach(() => Promise.all(open.splice(0).map((each) => each.close())));
  const codec = codecOf(FIRST);
  async function serving(
    options: Partial<CodecServerOptions> = {},
  ): Promise<(path: string, init?: RequestInit) => Promise<Response>> {
    const server = await startCodecServer(codec, { host: '127.0.0.1', port: 0, ...options });
    open.push(server);
    return (path, init) => fetch(server.url + path, init);
  }
  const JSON_PLAIN = {
    payloads: [{ metadata: { encoding: 'anNvbi9wbGFpbg==' }, data: Buffer.from('"hello"').toString('base64') }],
  };
  const post = (body: unknown, headers: Record<string, string> = {}): RequestInit => ({
    method: 'POST',
    headers: { 'content-type': 'application/json', 'x-namespace': 'default', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  });

  it('encrypts and decrypts payloads in the form of protobuf as JSON', async () => {
    const ask = await serving();
    const encoded = (await (await ask('/encode', post(JSON_PLAIN))).json()) as typeof JSON_PLAIN;
    expect(Buffer.from(encoded.payloads[0]!.data, 'base64').includes('hello')).toBe(false);
    expect(await (await ask('/decode', post(encoded))).json()).toEqual(JSON_PLAIN);
  });

  it('says what is wrong, with the id of a key that it has not', async () => {
    const ask = await serving();
    const [other] = await codecOf(SECOND).encode([plain]);
    const foreign = {
      metadata: Object.fromEntries(
        Object.entries(other!.metadata!).map(([name, value]) => [name, Buffer.from(value).toString('base64')]),
      ),
      data: Buffer.from(other!.data!).toString('base64'),
    };
    const answer = await ask('/decode', post({ payloads: [foreign, ...JSON_PLAIN.payloads] }));
    const { payloads } = (await answer.json()) as typeof JSON_PLAIN;
    expect(Buffer.from(payloads[0]!.data, 'base64').toString()).toContain(
      "not readable: A payload is encrypted by the key '2026'",
    );
    expect(payloads[1]).toEqual(JSON_PLAIN.payloads[0]);
    expect((await ask('/decode', post('no JSON'))).status).toBe(400);
    expect((await ask('/decode', post({ payloads: 3 }))).status).toBe(400);
    expect((await ask('/decode')).status).toBe(404);
    expect((await ask('/constructor', post(JSON_PLAIN))).status).toBe(404);
  });

  it('answers pages of the origin that it was told, and of no other', async () => {
    const ask = await serving({ origin: 'http://localhost:8233' });
    const preflight = await ask('/decode', { method: 'OPTIONS', headers: { origin: 'http://localhost:8233' } });
    expect([preflight.status, preflight.headers.get('access-control-allow-origin')]).toEqual([
      204,
      'http://localhost:8233',
    ]);
    expect(preflight.headers.get('access-control-allow-headers')).toContain('x-namespace');
    expect((await ask('/encode', post(JSON_PLAIN, { origin: 'http://localhost:8233' }))).status).toBe(200);
    expect((await ask('/encode', post(JSON_PLAIN, { origin: 'http://elsewhere' }))).status).toBe(403);
    const closed = await serving();
    expect((await closed('/encode', post(JSON_PLAIN, { origin: 'http://localhost:8233' }))).status).toBe(403);
  });

  it('asks for its token, which other addresses than loopback need', async () => {
    const token = 'a-token-of-some-length';
    const ask = await serving({ token });
    expect((await ask('/encode', post(JSON_PLAIN))).status).toBe(401);
    expect((await ask('/encode', post(JSON_PLAIN, { authorization: `Bearer ${token}x` }))).status).toBe(401);
    expect((await ask('/encode', post(JSON_PLAIN, { authorization: `Bearer ${token}` }))).status).toBe(200);
    await expect(startCodecServer(codec, { host: '0.0.0.0', port: 0 })).rejects.toThrow(
      '0.0.0.0 is no loopback address',
    );
    await expect(startCodecServer(codec, { host: '127.0.0.1', port: 0, token: 'short' })).rejects.toThrow(
      'ACECODER_CODEC_TOKEN has 5 characters',
    );
  });
});
