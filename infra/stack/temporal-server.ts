/**
 * The Temporal server of the embedded stack: the dev server of the CLI on a file, or the server in its production form
 * on a PostgreSQL that is its own. Both listen on 127.0.0.1 alone.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { chmod, cp, mkdir, rename, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import * as paths from '../setup/paths.mjs';
import { writeWhole } from '../setup/processes.mjs';
import { temporalData } from '../setup/temporal-choice.mjs';
import { HOST, freeLowPorts, freePorts, toolMissing, type Launch, type Part } from './server-process.js';

/** Values of the server's dynamic configuration, by their keys. */
export type DynamicConfig = Record<string, string | number | boolean>;

/**
 * A host that is gone says no goodbye, and the server gives its work to those who asked last. It closes a connection
 * that does not answer within 7 s; by its own default it does so after 70 s. A workflow task times out after 10 s, so
 * what follows it meets a worker that lives.
 */
const KEEP_ALIVE: DynamicConfig = { 'frontend.keepAliveTime': '3s', 'frontend.keepAliveTimeout': '4s' };

/** The dev server: all services in one process, on an SQLite file. */
export function devServer(home: string, ports: { frontend: number; ui: number }, dynamicConfig: DynamicConfig): Launch {
  return {
    command: paths.temporal(),
    args: [
      ...['server', 'start-dev', '--ip', HOST, '--port', `${ports.frontend}`, '--ui-port', `${ports.ui}`],
      ...['--db-filename', temporalData(home, 'dev-server')],
      // A transaction then waits for no disk. A killed server loses nothing: the system keeps what it has written.
      ...['--sqlite-pragma', 'journal_mode=wal', '--sqlite-pragma', 'synchronous=normal'],
      ...['--ui-disable-news-fetch', '--log-level', 'warn'],
      ...Object.entries({ ...KEEP_ALIVE, ...dynamicConfig }).flatMap(([key, value]) => [
        '--dynamic-config-value',
        `${key}=${JSON.stringify(value)}`,
      ]),
    ],
    env: {},
  };
}

/** The owner of the databases. */
const USER = 'acecoder';
/** Two databases, and the schema of each as the schema tool calls it. */
const DATABASES = [
  ['temporal', 'postgresql/v12/temporal'],
  ['temporal_visibility', 'postgresql/v12/visibility'],
] as const;
/** The services of the server. Each has a port for requests and one by which the services find each other. */
const SERVICES = ['frontend', 'history', 'matching', 'worker'] as const;
/** Fixed when a database is made; a cluster of several hosts wants 512. */
const HISTORY_SHARDS = 4;

/** Parts of a backup: files of PostgreSQL, and what lies next to them in a home. */
const [DATA, MARKS] = ['data', 'home'];

const folderOf = (home: string): string => join(home, 'postgresql');
const passwordFile = (home: string): string => join(folderOf(home), 'password');
const schemaMark = (home: string): string => join(folderOf(home), 'tables');
const password = (home: string): string => readFileSync(passwordFile(home), 'utf8').trim();

/** PostgreSQL, which listens on the port and on no socket. */
export function postgresql(home: string, port: number): Part {
  return {
    name: 'postgresql',
    ports: { database: port },
    graceMs: 30_000,
    launch: async () => {
      await ensureCluster(home);
      const settings = {
        listen_addresses: HOST,
        port,
        // A socket would lie in a folder that the system has for its own PostgreSQL.
        unix_socket_directories: '',
        max_connections: 100,
        password_encryption: 'scram-sha-256',
      };
      const [command, ...args] = unprivileged('postgres', ['-D', temporalData(home, 'postgresql')]);
      const options = Object.entries(settings).flatMap(([name, value]) => ['-c', `${name}=${value}`]);
      return { command, args: [...args, ...options], env: {} };
    },
    answers: () => accepts(port),
  };
}

/** Makes the files of an empty PostgreSQL where there are none. They appear as a whole. */
async function ensureCluster(home: string): Promise<void> {
  const data = temporalData(home, 'postgresql');
  if (existsSync(data)) return;
  mkdirSync(folderOf(home), { recursive: true, mode: 0o700 });
  rmSync(schemaMark(home), { force: true });
  writeWhole(passwordFile(home), `${randomBytes(24).toString('hex')}\n`, 0o600);
  const draft = `${data}.draft`;
  rmSync(draft, { recursive: true, force: true });
  const [command, ...args] = unprivileged('initdb', [
    ...['--pgdata', draft, '--username', USER, '--pwfile', passwordFile(home)],
    ...['--auth', 'scram-sha-256', '--encoding', 'UTF8', '--no-locale'],
  ]);
  await run(command, args);
  renameSync(draft, data);
}

/**
 * Copies PostgreSQL of a home into `folder`, with the password of its owner: while it runs on `port` by its own base
 * backup, and else as the files that it left.
 */
export async function backUpPostgresql(home: string, folder: string, port: number | undefined): Promise<void> {
  const draft = `${folder}.part`;
  const data = join(draft, DATA);
  await rm(draft, { recursive: true, force: true });
  await mkdir(draft, { recursive: true, mode: 0o700 });
  if (port === undefined) {
    await cp(temporalData(home, 'postgresql'), data, { recursive: true });
    await rm(join(data, 'postmaster.pid'), { force: true });
  } else {
    const [command, ...args] = unprivileged('pg_basebackup', [
      ...['--pgdata', data, '--host', HOST, '--port', `${port}`, '--username', USER, '--no-password'],
      ...['--checkpoint', 'fast', '--wal-method', 'stream'],
    ]);
    await run(command, args, { PGPASSWORD: password(home) });
  }
  await cp(folderOf(home), join(draft, MARKS), { recursive: true });
  await rm(folder, { recursive: true, force: true });
  await rename(draft, folder);
}

/** Puts PostgreSQL of a backup into a home that has none. */
export async function restorePostgresql(folder: string, home: string): Promise<void> {
  const data = temporalData(home, 'postgresql');
  const draft = `${data}.draft`;
  await rm(draft, { recursive: true, force: true });
  await mkdir(dirname(data), { recursive: true });
  await cp(join(folder, MARKS), folderOf(home), { recursive: true });
  await cp(join(folder, DATA), draft, { recursive: true });
  // It refuses files that others may read.
  await Promise.all([folderOf(home), draft].map((each) => chmod(each, 0o700)));
  await rename(draft, data);
}

/** Brings the tables to what this version of the server wants. */
async function ensureTables(home: string, port: number): Promise<void> {
  const tool = (database: string, ...args: string[]): Promise<void> =>
    run(
      paths.temporalSqlTool(),
      [
        '--plugin',
        'postgres12',
        '--endpoint',
        HOST,
        '--port',
        `${port}`,
        '--user',
        USER,
        '--database',
        database,
      ].concat(args),
      { SQL_PASSWORD: password(home) },
    );
  for (const [database, schema] of DATABASES) {
    if (!existsSync(schemaMark(home))) {
      // What a killed set-up has left of the tables holds nothing yet.
      await tool(database, 'drop-database', '--force').catch(() => undefined);
      await tool(database, 'create-database');
      await tool(database, 'setup-schema', '--version', '0.0');
    }
    await tool(database, 'update-schema', '--schema-name', schema);
  }
  writeWhole(schemaMark(home), '');
}

/**
 * Removes the members of earlier servers from the database. A server joins every member that was alive a moment ago. In
 * a restored backup that is the server which was backed up, and if it runs on, both would answer for each other.
 */
async function forgetMembers(home: string, port: number): Promise<void> {
  const [command, ...args] = unprivileged('psql', [
    ...['--host', HOST, '--port', `${port}`, '--username', USER, '--no-password', '--dbname', 'temporal', '--quiet'],
    ...['--set', 'ON_ERROR_STOP=1', '--command', 'DELETE FROM cluster_membership'],
  ]);
  await run(command, args, { PGPASSWORD: password(home) });
}

/** The server in its production form: frontend, history, matching and worker in one process. */
export async function productionServer(
  home: string,
  ports: { frontend: number; database: number },
  dynamicConfig: DynamicConfig,
): Promise<Launch> {
  await ensureTables(home, ports.database);
  await forgetMembers(home, ports.database);
  const folder = folderOf(home);
  const dynamic = join(folder, 'dynamic-config.yaml');
  const values = Object.entries({
    // A search attribute can be used as soon as it is there, and not a minute later.
    'system.forceSearchAttributesCacheRefreshOnRead': true,
    ...KEEP_ALIVE,
    ...dynamicConfig,
  });
  writeWhole(dynamic, values.map(([key, value]) => `${key}:\n  - value: ${JSON.stringify(value)}\n`).join(''));
  const config = join(folder, 'temporal.yaml');
  // JSON is YAML. The file holds the password.
  writeWhole(config, `${JSON.stringify(await serverConfig(home, ports, dynamic), null, 2)}\n`, 0o600);
  return {
    command: paths.temporalServer(),
    args: ['--config-file', config, '--allow-no-auth', 'start'],
    env: {},
    innerPorts: true,
  };
}

async function serverConfig(
  home: string,
  ports: { frontend: number; database: number },
  dynamic: string,
): Promise<object> {
  // New ones at each start: the database names none that the next start needs. It has no room for a higher one of those
  // by which the services find each other.
  const membership = await freeLowPorts(SERVICES.length);
  const inner = await freePorts(SERVICES.length);
  const service = (name: (typeof SERVICES)[number], index: number): [string, object] => [
    name,
    {
      rpc: {
        grpcPort: name === 'frontend' ? ports.frontend : inner[index],
        membershipPort: membership[index],
        bindOnIP: HOST,
      },
    },
  ];
  const datastore = (databaseName: string, maxConns: number): object => ({
    sql: {
      pluginName: 'postgres12',
      databaseName,
      connectAddr: `${HOST}:${ports.database}`,
      connectProtocol: 'tcp',
      user: USER,
      password: password(home),
      maxConns,
      maxIdleConns: maxConns,
      maxConnLifetime: '1h',
    },
  });
  return {
    log: { stdout: true, level: 'warn' },
    persistence: {
      defaultStore: 'default',
      visibilityStore: 'visibility',
      numHistoryShards: HISTORY_SHARDS,
      datastores: { default: datastore('temporal', 20), visibility: datastore('temporal_visibility', 10) },
    },
    global: { membership: { maxJoinDuration: '30s', broadcastAddress: HOST } },
    services: Object.fromEntries(SERVICES.map(service)),
    clusterMetadata: {
      enableGlobalNamespace: false,
      failoverVersionIncrement: 10,
      masterClusterName: 'active',
      currentClusterName: 'active',
      clusterInformation: {
        active: {
          enabled: true,
          initialFailoverVersion: 1,
          rpcName: 'frontend',
          rpcAddress: `${HOST}:${ports.frontend}`,
        },
      },
    },
    dcRedirectionPolicy: { policy: 'noop' },
    dynamicConfigClient: { filepath: dynamic, pollInterval: '10s' },
  };
}

/**
 * A program of PostgreSQL as command and arguments. It refuses to run as root, so that root runs it in a user namespace
 * as somebody without privileges; its files stay root's own, in a folder that root alone may enter.
 */
function unprivileged(program: string, args: string[]): [string, ...string[]] {
  const folder = paths.postgresqlFolder();
  if (folder === undefined)
    throw new Error(
      'PostgreSQL is missing, and the Temporal server needs it: install it with `sudo apt-get install postgresql`.',
    );
  const command = [join(folder, program), ...args] as [string, ...string[]];
  if (process.getuid?.() !== 0) return command;
  return ['unshare', '--user', '--map-user=65534', '--map-group=65534', ...command];
}

/** Runs a command to its end. @throws Error with the end of its output where it fails. */
function run(command: string, args: string[], env: NodeJS.ProcessEnv = {}): Promise<void> {
  const child = spawn(command, args, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { PATH: process.env['PATH'], ...env },
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', (text) => (output += text));
  return new Promise((resolve, reject) => {
    child.once('error', (error) => reject(toolMissing(command, error)));
    child.once('close', (code) => {
      if (code === 0) resolve();
      else reject(new Error(`${command} failed (${code}):\n${output.trimEnd().split('\n').slice(-10).join('\n')}`));
    });
  });
}

/** Whether PostgreSQL takes connections on the port. While it recovers from a crash it refuses them. */
async function accepts(port: number): Promise<boolean> {
  const folder = paths.postgresqlFolder();
  if (folder === undefined) return false;
  const ask = ['--quiet', '--timeout', '5', '--host', HOST, '--port', `${port}`];
  return run(join(folder, 'pg_isready'), ask).then(
    () => true,
    () => false,
  );
}
