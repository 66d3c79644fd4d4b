/** Workers in bad surroundings, as real processes: they say what is missing, wait, and go on when it comes. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { randomInt, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Client } from 'minio';
import { afterAll, afterEach, describe, expect, inject, it } from 'vitest';
import { runTemporalCli } from '../../infra/stack/embedded-stack.js';
import { startWorkflow } from '../fixtures/harness.js';
import { END_WITH_PARENT } from '../fixtures/start-worker.js';
import { until } from '../fixtures/until.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-environment-'));
const processes: ChildProcess[] = [];
const doors: Door[] = [];

interface Started {
  output: () => string;
  lines: (pattern: RegExp) => string[];
  says: (pattern: RegExp) => Promise<unknown>;
  exit: Promise<number | null>;
  stop: () => Promise<void>;
}

interface StartOptions {
  args?: string[];
  /** Modules that are loaded before the worker. */
  imports?: string[];
  /** A command that runs the worker's command. */
  around?: string[];
}

/** Starts the pipeline worker with an environment that is wrong in places. */
function worker(wrong: Record<string, string>, { args = [], imports = [], around = [] }: StartOptions = {}): Started {
  const entry = fileURLToPath(new URL('../../workers/pipeline.ts', import.meta.url));
  const [command, ...rest] = [
    ...around,
    process.execPath,
    ...['tsx', END_WITH_PARENT, ...imports].flatMap((each) => ['--import', each]),
    entry,
    ...args,
  ] as [string, ...string[]];
  const child = spawn(command, rest, {
    env: { ...inject('environment'), ACECODER_QUEUE: randomUUID(), ...wrong },
    stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
  });
  processes.push(child);
  let output = '';
  for (const stream of [child.stdout!, child.stderr!])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  const exit = once(child, 'exit').then(([code]) => code as number | null);
  const says = (pattern: RegExp): Promise<unknown> =>
    until(
      () => output,
      (text) => {
        if (pattern.test(text)) return true;
        if (child.exitCode !== null) throw new Error(`the worker did not say ${pattern}:\n${text}`);
        return false;
      },
    );
  const stop = async (): Promise<void> => {
    child.kill('SIGTERM');
    await exit;
  };
  return {
    output: () => output,
    lines: (pattern) => output.split('\n').filter((line) => pattern.test(line)),
    says,
    exit,
    stop,
  };
}

/**
 * A way to a server that can be opened and shut: a server that comes and goes. Its loopback address is its own, so that
 * no other test's server takes its port while nothing listens there.
 */
class Door {
  #server: Server | undefined;
  #isOpen = false;
  #knocks = 0;
  readonly #sockets = new Set<Socket>();

  private constructor(
    private readonly host: string,
    private readonly port: number,
    private readonly target: number,
  ) {}

  /** `host:port` */
  get address(): string {
    return `${this.host}:${this.port}`;
  }

  /** A shut door on a free port, where nothing listens until it is opened. */
  static async to(target: number): Promise<Door> {
    const host = `127.${randomInt(1, 255)}.${randomInt(1, 255)}.${randomInt(1, 255)}`;
    const probe = createServer().listen(0, host);
    await once(probe, 'listening');
    const { port } = probe.address() as AddressInfo;
    await new Promise((closed) => probe.close(closed));
    const door = new Door(host, port, target);
    doors.push(door);
    return door;
  }

  async open(): Promise<void> {
    this.#isOpen = true;
    if (this.#server) return;
    this.#server = createServer((socket) => {
      if (!this.#isOpen) {
        this.#knocks += 1;
        socket.destroy();
        return;
      }
      const onward = connect(this.target, '127.0.0.1');
      for (const each of [socket, onward]) {
        this.#sockets.add(each);
        each
          .on('error', () => undefined)
          .on('close', () => {
            socket.destroy();
            onward.destroy();
            this.#sockets.delete(each);
          });
      }
      socket.pipe(onward).pipe(socket);
    }).listen(this.port, this.host);
    await once(this.#server, 'listening');
  }

  /** Ends all connections, and every new one at once. */
  shut(): void {
    this.#isOpen = false;
    this.#knocks = 0;
    for (const socket of this.#sockets) socket.destroy();
  }

  /** Waits until somebody has found the door shut. */
  async knock(): Promise<void> {
    await expect.poll(() => this.#knocks).toBeGreaterThan(0);
  }

  close(): void {
    this.shut();
    this.#server?.close();
  }
}

const portOf = (address: string): number => Number(/:(\d+)$/.exec(address)![1]);

function minio(): Client {
  const { endpoint, accessKey, secretKey } = inject('stack').s3;
  return new Client({ endPoint: '127.0.0.1', port: portOf(endpoint), useSSL: false, accessKey, secretKey });
}

afterEach(() => {
  for (const child of processes.splice(0)) if (child.exitCode === null) child.kill('SIGKILL');
  for (const door of doors.splice(0)) door.close();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('servers that are not there', () => {
  it('are told once, with address and variable, and after --wait the worker ends with code 1', async () => {
    const [temporal, store] = [await Door.to(1), await Door.to(1)];
    const { exit, output, lines } = worker(
      { TEMPORAL_ADDRESS: temporal.address, ACECODER_S3_ENDPOINT: `http://${store.address}` },
      { args: ['--wait', '6s'] },
    );
    expect(await exit, output()).toBe(1);
    expect(
      lines(new RegExp(`^Temporal server: no server answers at ${temporal.address} \\(TEMPORAL_ADDRESS`)),
    ).toHaveLength(1);
    expect(
      lines(
        new RegExp(
          `^Artifact store: the store at http://${store.address} \\(ACECODER_S3_ENDPOINT\\) ` +
            'does not answer: ECONNREFUSED',
        ),
      ),
    ).toHaveLength(1);
    expect(lines(/^Waited 6 s and gave up: .*TEMPORAL_ADDRESS.*ACECODER_S3_ENDPOINT/)).toHaveLength(1);
    expect(lines(/./), output()).toHaveLength(3);
  });

  it('are waited for, and when they go away later work goes on with their return', async () => {
    const { address, s3 } = inject('stack');
    const [temporal, store] = [await Door.to(portOf(address)), await Door.to(portOf(s3.endpoint))];
    const queue = randomUUID();
    const { says, stop, lines } = worker({
      TEMPORAL_ADDRESS: temporal.address,
      ACECODER_S3_ENDPOINT: `http://${store.address}`,
      ACECODER_QUEUE: queue,
    });
    await says(/Temporal server: no server answers/);
    await says(/Artifact store: .* does not answer/);
    await Promise.all([temporal.open(), store.open()]);
    await says(/Temporal server: all right now/);
    await says(/Artifact store: all right now/);
    await says(/workers of pipeline serve/);
    expect(lines(/no server answers|does not answer/)).toHaveLength(2);
    expect(await (await startWorkflow('garbageCollection', {}, { taskQueue: queue })).result()).toMatchObject({
      swept: 0,
    });

    temporal.shut();
    store.shut();
    const handle = await startWorkflow('garbageCollection', {}, { taskQueue: queue });
    await temporal.knock();
    await temporal.open();
    await store.knock();
    await store.open();
    expect(await handle.result()).toMatchObject({ swept: 0 });
    await stop();
  });

  it('are told as a variable to set where it is not set at all', async () => {
    const { exit, output } = worker({ ACECODER_S3_ENDPOINT: '', ACECODER_S3_SECRET_KEY: '' });
    expect(await exit).toBe(1);
    expect(output()).toContain('ACECODER_S3_ENDPOINT, ACECODER_S3_SECRET_KEY');
  });

  it('leave the worker to be ended by a signal while it waits', async () => {
    const temporal = await Door.to(1);
    const { says, stop, output } = worker({ TEMPORAL_ADDRESS: temporal.address });
    await says(/no server answers/);
    await stop();
    expect(output()).toContain('Ended by SIGTERM while waiting.');
  });

  it('are waited for until the allocation of the host is about to end, which is no failure', async () => {
    const temporal = await Door.to(1);
    // With the most grace, a worker ends more than an hour before.
    const end = new Date(Date.now() + 3_600_000).toISOString();
    const { exit, output } = worker({
      TEMPORAL_ADDRESS: temporal.address,
      ACECODER_GRACE_SECONDS: '3600',
      ACECODER_DEADLINE: end,
    });
    expect(await exit).toBe(0);
    expect(output()).toContain(`The allocation ends at ${end} (ACECODER_DEADLINE): this worker takes no more work.`);
  });

  it('and a deadline that is none, are refused at once', async () => {
    const { exit, output } = worker({ ACECODER_DEADLINE: 'tomorrow' });
    expect(await exit).toBe(1);
    expect(output().trim()).toBe(
      'ACECODER_DEADLINE is "tomorrow"; it is a time with its zone, such as 2026-12-01T18:00:00Z, ' +
        'or seconds since 1970.',
    );
  });

  it('and a duration that is none, are refused at once', async () => {
    const { exit, output } = worker({}, { args: ['--wait', 'soon'] });
    expect(await exit).toBe(1);
    expect(output()).toContain('--wait is "soon"; give a duration such as 60s, 5m or 1h.');
  });
});

describe('a namespace that is missing', () => {
  it('is named with what creates it, and used when it comes, without search attributes until they come', async () => {
    const namespace = `ns-${randomUUID().slice(0, 8)}`;
    const { says, stop } = worker({ TEMPORAL_NAMESPACE: namespace });
    await says(
      new RegExp(
        `Temporal server: the server at .* has no namespace '${namespace}' \\(TEMPORAL_NAMESPACE or profile\\). ` +
          `To create: temporal operator namespace create --namespace ${namespace}`,
      ),
    );
    expect(
      (await runTemporalCli(inject('stack'), ['operator', 'namespace', 'create', '--namespace', namespace])).code,
    ).toBe(0);
    await says(/Temporal server: all right now/);
    await says(
      new RegExp(
        'has no search attribute AceCoderExperiment, .*temporal operator search-attribute create ' +
          `--namespace ${namespace} --name AceCoderExperiment --type Keyword`,
      ),
    );
    await says(/workers of pipeline serve/);
    await stop();
  });
});

describe('a store that refuses', () => {
  it.each([
    [
      'an unknown access key',
      { ACECODER_S3_ACCESS_KEY: 'nobody' },
      /does not know the access key \(ACECODER_S3_ACCESS_KEY\)/,
    ],
    [
      'a wrong secret key',
      { ACECODER_S3_SECRET_KEY: 'not-the-secret' },
      /refuses the secret key \(ACECODER_S3_SECRET_KEY\)/,
    ],
  ])('%s is told with its variable, without its value', async (_, wrong, pattern) => {
    const { exit, output, lines } = worker(wrong, { args: ['--wait', '2s'] });
    expect(await exit, output()).toBe(1);
    expect(lines(/^Artifact store/), output()).toEqual([expect.stringMatching(pattern)]);
    expect(output()).not.toMatch(/nobody|not-the-secret/);
  });

  it('a missing bucket is named, and used when it comes', async () => {
    const bucket = `bucket-${randomUUID().slice(0, 8)}`;
    const { says, stop } = worker({ ACECODER_S3_BUCKET: bucket });
    await says(
      new RegExp(
        'Artifact store: the store at http://127.0.0.1:\\d+ \\(ACECODER_S3_ENDPOINT\\) ' +
          `has no bucket '${bucket}' \\(ACECODER_S3_BUCKET\\)`,
      ),
    );
    await minio().makeBucket(bucket);
    await says(/Artifact store: all right now/);
    await says(/workers of pipeline serve/);
    await stop();
    await minio().removeBucket(bucket);
  });

  it('requests of a host whose clock is off: the message says so', async () => {
    const skew = join(folder, 'skew.mjs');
    writeFileSync(
      skew,
      `const Real = Date;
const skewed = () => Real.now() + 20 * 60_000;
globalThis.Date = class extends Real {
  constructor(...given) { if (given.length > 0) super(...given); else super(skewed()); }
  static now() { return skewed(); }
};
`,
    );
    const { exit, output, lines } = worker({}, { args: ['--wait', '2s'], imports: [skew] });
    expect(await exit, output()).toBe(1);
    expect(lines(/^Artifact store/), output()).toEqual([
      expect.stringContaining("this host's clock is more than 15 minutes off"),
    ]);
  });
});

describe('a full disk', () => {
  const unshare = ['unshare', '--user', '--map-root-user', '--mount'] as const;

  it('is named with its folder, and the worker goes on when there is room', async ({ skip }) => {
    skip(
      spawnSync(unshare[0], [...unshare.slice(1), 'true']).status !== 0,
      'FULL DISK NOT CHECKED: this system lets nobody mount a file system of his own (unshare --user --mount)',
    );
    const home = join(folder, 'home');
    mkdirSync(home);
    const roomMade = join(folder, 'room-made');
    // A file system of 600 MiB of its own, a part of it taken until `roomMade` stands: what is needed is 512 MiB.
    const script = [
      'mount -t tmpfs -o size=600m none "$0" && head -c 200000000 /dev/zero > "$0/filler"',
      '(while [ ! -e "$1" ]; do sleep 0.2; done; rm "$0/filler") & shift',
      'exec "$@"',
    ].join('\n');
    const { says, stop } = worker(
      { ACECODER_HOME: home },
      {
        around: [...unshare, '/bin/sh', '-c', script, home, roomMade],
      },
    );
    await says(
      new RegExp(`Disk: the disk of ${home}/cache \\(ACECODER_HOME\\) is full: \\d+ MiB are free, 512 MiB are needed`),
    );
    writeFileSync(roomMade, '');
    await says(/Disk: all right now/);
    await says(/workers of pipeline serve/);
    await stop();
    expect(existsSync(join(home, 'filler'))).toBe(false);
  });
});
