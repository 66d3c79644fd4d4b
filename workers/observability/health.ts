/**
 * What an orchestrator asks a worker process: `/healthz` whether it lives, `/readyz` whether it can work, and why not.
 *
 * A worker that is not ready goes on: it waits for its store or its server, and what it works on is kept. So `/readyz` is
 * for people, dashboards and rolling updates. Only `/healthz` says that a process should be started again: it fails when
 * the process no longer looks at its conditions.
 */
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { set } from '../../activities/metrics.js';
import { looked, type Conditions } from '../readiness.js';
import { textOfAddress, type Address } from './addresses.js';

/** Seconds between two looks, and without one after which the process counts as hung. */
const EVERY_SECONDS = 15;
const HUNG_SECONDS = 180;

/** Looks at conditions and answers for them. */
export class Health {
  /** Obstacles by the names of the conditions; undefined: it holds. */
  #state = new Map<string, string | undefined>();
  #lookedAt = performance.now();
  #server: Server | undefined;
  readonly #stop = new AbortController();
  #conditions: Conditions = {};
  #watching: Promise<void> | undefined;
  /** Ends the pause between two looks. */
  #wake = new AbortController();

  constructor(private readonly everySeconds = EVERY_SECONDS) {}

  /** Conditions from now on. Each is looked at in turn, all again after {@link EVERY_SECONDS}. */
  watch(conditions: Conditions): void {
    this.#conditions = conditions;
    for (const name of this.#state.keys()) if (!(name in conditions)) this.#state.delete(name);
    for (const name of Object.keys(conditions)) if (!this.#state.has(name)) this.#state.set(name, 'not looked at yet');
    this.#wake.abort();
    this.#watching ??= this.#look();
  }

  async #look(): Promise<void> {
    const { signal } = this.#stop;
    while (!signal.aborted) {
      const conditions = this.#conditions;
      await Promise.all(
        Object.entries(conditions).map(async ([name, look]) => {
          const obstacle = await looked(look, signal).catch((error: Error) => error.message);
          if (conditions !== this.#conditions || signal.aborted) return;
          this.#state.set(name, obstacle);
          set('ready', obstacle === undefined ? 1 : 0, { condition: name });
        }),
      );
      this.#lookedAt = performance.now();
      if (conditions !== this.#conditions) continue;
      this.#wake = new AbortController();
      const woken = AbortSignal.any([signal, this.#wake.signal]);
      await sleep(this.everySeconds * 1000, undefined, { signal: woken, ref: false }).catch(() => undefined);
    }
  }

  /** Obstacles of the conditions that do not hold, by name. */
  get obstacles(): Record<string, string> {
    return Object.fromEntries([...this.#state].filter((each): each is [string, string] => each[1] !== undefined));
  }

  /** Whether all conditions hold, and there are any. */
  get isReady(): boolean {
    return this.#state.size > 0 && Object.keys(this.obstacles).length === 0;
  }

  /** Listens. @returns the address. @throws Error where something else listens there. */
  async listen({ host, port }: Address): Promise<string> {
    const server = createServer((request, response) => {
      const path = request.url?.split('?')[0];
      const [status, body] = this.#answer(path);
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(`${JSON.stringify(body)}\n`);
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) =>
        reject(new Error(`ACECODER_HEALTH: nothing can listen on ${textOfAddress({ host, port })}: ${error.message}`)),
      );
      server.listen(port, host, resolve);
    });
    server.unref();
    this.#server = server;
    return `http://${textOfAddress({ host, port: (server.address() as AddressInfo).port })}`;
  }

  #answer(path: string | undefined): [number, object] {
    if (path === '/healthz') {
      const seconds = (performance.now() - this.#lookedAt) / 1000;
      const isHung = this.#watching !== undefined && seconds > HUNG_SECONDS;
      return [isHung ? 503 : 200, { status: isHung ? `hung for ${Math.round(seconds)} s` : 'ok' }];
    }
    if (path === '/readyz') {
      const conditions = Object.fromEntries([...this.#state].map(([name, obstacle]) => [name, obstacle ?? 'ok']));
      return [this.isReady ? 200 : 503, { ready: this.isReady, conditions }];
    }
    return [404, { status: 'there are /healthz and /readyz' }];
  }

  /** Ends the looking and the listening. */
  async close(): Promise<void> {
    this.#stop.abort();
    this.#server?.closeAllConnections();
    await new Promise((resolve) => (this.#server ? this.#server.close(resolve) : resolve(undefined)));
  }
}
