import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, it, onTestFinished } from 'vitest';
import { storeAnswers } from './object-store.js';
import { HOST } from './server-process.js';

const KEYS = { accessKey: 'key', secretKey: 'a-long-secret-key' };

/** A fake store that lives, and treats requests for its bucket as told. */
async function fakeStore(treat: RequestListener): Promise<number> {
  const server = createServer((request, response) => {
    if (request.url === '/minio/health/live') response.end();
    else treat(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, HOST, resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return (server.address() as AddressInfo).port;
}

describe('a store that lives', { timeout: 60_000 }, () => {
  it.each<[string, boolean, RequestListener]>([
    ['answers', true, (_, response) => response.end()],
    ['has no bucket yet', true, (_, response) => response.writeHead(404).end()],
    ['refuses the keys', false, (_, response) => response.writeHead(403).end()],
    ['never answers a request', false, () => undefined],
    ['breaks off', false, (request) => request.socket.destroy()],
  ])('and %s counts as one that answers: %s', async (_, expected, treat) => {
    expect(await storeAnswers(await fakeStore(treat), 'minio', KEYS)).toBe(expected);
  });
});
