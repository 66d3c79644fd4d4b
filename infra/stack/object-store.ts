/**
 * The object store of the embedded stack: MinIO, SeaweedFS where there is no Go to build MinIO with, or VersityGW where
 * it is asked for. Each answers to S3 on one port of 127.0.0.1, and to nothing else without its keys.
 */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { Agent, request, type IncomingMessage, type RequestOptions } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Client, type ClientOptions } from 'minio';
import * as paths from '../setup/paths.mjs';
import { readJson, writeWhole } from '../setup/processes.mjs';
import { storeFolder, type StoreName } from '../setup/store-choice.mjs';
import { selfSigned } from './certificate.js';
import { HOST, freePorts, type Launch, type Part } from './server-process.js';

/** The keys of the store's one user. */
export interface Credentials {
  accessKey: string;
  secretKey: string;
}

export const BUCKET = 'acecoder';
const READY_TIMEOUT_MS = 60_000;
/** How long the store may take for one answer; the client of the package waits for ever. */
const ANSWER_TIMEOUT_MS = 5_000;

/** The file with the keys; a home from before SeaweedFS has it by another name. */
export function credentialsFile(home: string): string {
  const old = join(home, 'minio.json');
  return existsSync(old) ? old : join(home, 's3.json');
}

export function readCredentials(home: string): Credentials | undefined {
  return readJson(credentialsFile(home)) as Credentials | undefined;
}

/** The keys of the home, made where there are none. */
export function ensureCredentials(home: string): Credentials {
  const known = readCredentials(home);
  if (known) return known;
  const fresh = { accessKey: `acecoder-${randomBytes(4).toString('hex')}`, secretKey: randomBytes(24).toString('hex') };
  writeWhole(credentialsFile(home), `${JSON.stringify(fresh, null, 2)}\n`, 0o600);
  return fresh;
}

/** The server of the store, which listens for S3 on the port. */
export function storePart(home: string, store: StoreName, port: number, credentials: Credentials): Part {
  const { graceMs, launch } = SERVERS[store];
  return {
    name: store,
    ports: { store: port },
    graceMs,
    answers: () => storeAnswers(port, store, credentials),
    launch: () => launch(home, port, credentials),
  };
}

interface StoreServer {
  /** Time from SIGTERM to SIGKILL. */
  graceMs: number;
  /** What it answers to without keys while it lives. */
  health: string;
  launch: (home: string, port: number, credentials: Credentials) => Promise<Launch>;
}

const SERVERS: Readonly<Record<StoreName, StoreServer>> = {
  minio: { graceMs: 15_000, health: 'minio/health/live', launch: minio },
  // Its orderly end takes 15 to 26 s and saves nothing: what it has acknowledged stands in its files.
  seaweedfs: { graceMs: 5_000, health: 'healthz', launch: seaweedfs },
  versitygw: { graceMs: 5_000, health: 'health', launch: versitygw },
};

function minio(home: string, port: number, credentials: Credentials): Promise<Launch> {
  return Promise.resolve({
    command: paths.minio(),
    args: ['server', '--address', `${HOST}:${port}`, '--quiet', storeFolder(home, 'minio')],
    env: {
      MINIO_ROOT_USER: credentials.accessKey,
      MINIO_ROOT_PASSWORD: credentials.secretKey,
      MINIO_BROWSER: 'off',
    },
  });
}

/** The parts of SeaweedFS, which talk to each other on ports of their own. */
const SEAWEEDFS_PORTS = [
  'master.port',
  'master.port.grpc',
  'volume.port',
  'volume.port.grpc',
  'filer.port',
  'filer.port.grpc',
  's3.port.grpc',
] as const;

async function seaweedfs(home: string, port: number, credentials: Credentials): Promise<Launch> {
  const data = storeFolder(home, 'seaweedfs');
  mkdirSync(data, { recursive: true });
  // The master keeps a folder named for its port, with nothing in it that the volumes do not say themselves.
  for (const name of readdirSync(data).filter((each) => /^m\d+$/.test(each)))
    rmSync(join(data, name), { recursive: true });
  const settings = writeSeaweedfsSettings(home, credentials);
  // New ones at each start: the data names none of them.
  const inner = await freePorts(SEAWEEDFS_PORTS.length);
  return {
    command: paths.weed(),
    // It looks for security.toml in its working folder.
    cwd: settings,
    env: { TMPDIR: settings },
    args: [
      '-logtostderr',
      'server',
      ...[`-dir=${data}`, `-ip=${HOST}`, `-ip.bind=${HOST}`],
      ...['-s3', `-s3.port=${port}`, `-s3.config=${join(settings, 's3.json')}`, '-s3.iam=false'],
      ...['-s3.port.iceberg=0', '-s3.port.lance=0'],
      // By HTTP, the filer would give and delete objects, and the master buckets, for whoever asks.
      ...['-filer', '-filer.disableHttp', '-disableHttp'],
      // There is one master, which needs no election: the start takes half the time.
      '-master.peers=none',
      // Files of 4 GB, as many as the disk holds; a bucket begins with seven of them, empty.
      ...['-master.volumeSizeLimitMB=4096', '-volume.max=1000'],
      ...SEAWEEDFS_PORTS.map((name, index) => `-${name}=${inner[index]}`),
    ],
    innerPorts: true,
    // It leaves them in /tmp, named by its ports.
    sockets: [port, ...inner].flatMap((each) =>
      ['s3', 'filer', 's3-grpc', 'filer-grpc', 'master-grpc', 'volume-grpc'].map(
        (part) => `/tmp/seaweedfs-${part}-${each}.sock`,
      ),
    ),
  };
}

/**
 * Writes what keeps strangers out, in a folder that this user alone can read: the keys of S3, signing keys without
 * which volumes neither give nor take anything, and the certificate that every part asks of every other (mutual TLS).
 */
function writeSeaweedfsSettings(home: string, credentials: Credentials): string {
  const folder = join(home, 'seaweedfs');
  mkdirSync(folder, { recursive: true, mode: 0o700 });
  const write = (name: string, text: string): void => writeWhole(join(folder, name), text, 0o600);
  const { certificate, key } = selfSigned('acecoder-store');
  write('certificate.pem', certificate);
  write('key.pem', key);
  const pair = `cert = "${join(folder, 'certificate.pem')}"\nkey = "${join(folder, 'key.pem')}"\n`;
  write(
    'security.toml',
    [
      ...['signing', 'signing.read', 'filer_signing', 'filer_signing.read'].map(
        (name) => `[jwt.${name}]\nkey = "${randomBytes(32).toString('hex')}"\n`,
      ),
      `[grpc]\nca = "${join(folder, 'certificate.pem')}"\n`,
      ...['master', 'volume', 'filer', 's3', 'client'].map((name) => `[grpc.${name}]\n${pair}`),
    ].join('\n'),
  );
  const actions = ['Admin', 'Read', 'List', 'Tagging', 'Write'];
  const identities = [{ name: 'acecoder', credentials: [credentials], actions }];
  write('s3.json', `${JSON.stringify({ identities }, null, 2)}\n`);
  return folder;
}

/**
 * VersityGW, which keeps each object as a file with extended attributes: both appear at once. The disk has to know such
 * attributes, and VersityGW says so where it does not.
 */
function versitygw(home: string, port: number, credentials: Credentials): Promise<Launch> {
  const folder = storeFolder(home, 'versitygw');
  mkdirSync(folder, { recursive: true });
  return Promise.resolve({
    command: paths.versitygw(),
    args: ['--port', `${HOST}:${port}`, '--health', '/health', '--quiet', 'posix', folder],
    env: { ROOT_ACCESS_KEY: credentials.accessKey, ROOT_SECRET_KEY: credentials.secretKey },
  });
}

export function storeClient(port: number, { accessKey, secretKey }: Credentials): Client {
  return new Client({
    endPoint: HOST,
    port,
    useSSL: false,
    region: 'us-east-1',
    accessKey,
    secretKey,
    // A connection kept open would hold up the server's shutdown.
    transportAgent: new Agent({ keepAlive: false }),
    transport: {
      request: (options: RequestOptions, respond: (response: IncomingMessage) => void) =>
        request({ ...options, signal: AbortSignal.timeout(ANSWER_TIMEOUT_MS) }, respond),
    } as ClientOptions['transport'],
  });
}

/** Whether the store lives, and answers to its keys. */
export async function storeAnswers(port: number, store: StoreName, credentials: Credentials): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(ANSWER_TIMEOUT_MS);
    await fetch(`http://${HOST}:${port}/${SERVERS[store].health}`, { signal });
    await storeClient(port, credentials).bucketExists(BUCKET);
    return true;
  } catch {
    return false;
  }
}

/** A store answers some time before it can write, longer on a busy host; until then it refuses to make a bucket. */
export async function ensureBucket(client: Client): Promise<void> {
  const deadline = performance.now() + READY_TIMEOUT_MS;
  for (;;) {
    try {
      if (!(await client.bucketExists(BUCKET))) await client.makeBucket(BUCKET);
      return;
    } catch (error) {
      if (performance.now() > deadline) throw error;
      await sleep(200);
    }
  }
}
