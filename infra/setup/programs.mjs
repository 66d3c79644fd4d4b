// The programs that a set-up uses, as they are found on this machine. Node built-ins only.
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { SetupError } from './jobs.mjs';
import { cache, findOnPath, home, isExecutable, root, toolsCache } from './paths.mjs';

/** The lock of a program that comes as a Python wheel: one package, pinned by the hashes of its files. */
export function wheelLock(name) {
  const path = fileURLToPath(new URL(`${name}.lock.txt`, import.meta.url));
  const [, wheel, version] = /^(\S+)==(\S+)/.exec(fs.readFileSync(path, 'utf8'));
  return { path, folder: join(cache(), `${wheel}-${version}`) };
}

/** Programs that Go builds on demand: the module with its version, and each package with the program's name here. */
const GO_PROGRAMS = {
  versitygw: {
    module: 'github.com/versity/versitygw',
    version: '1.8.0',
    programs: { versitygw: 'cmd/versitygw' },
  },
  temporal: {
    module: 'go.temporal.io/server',
    version: '1.31.2',
    programs: { 'temporal-server': 'cmd/server', 'temporal-sql-tool': 'cmd/tools/sql' },
  },
  prometheus: {
    module: 'github.com/prometheus/prometheus',
    version: '0.316.0',
    programs: { promtool: 'cmd/promtool' },
  },
};

/** Where the programs of a module are built: the folder, which all checkouts share, and each link with its target. */
export function goPrograms(name) {
  const { module, version, programs } = GO_PROGRAMS[name];
  const folder = join(cache(), `${module.replaceAll('/', '-')}-${version}`);
  const links = Object.entries(programs).map(([program, path]) => ({
    link: join(home(), 'bin', program),
    target: join(folder, path.split('/').at(-1)),
  }));
  const packages = Object.values(programs).map((path) => `${module}/${path}@v${version}`);
  return { folder, links, packages, isBuilt: links.every(({ target }) => isExecutable(target)) };
}

/** The first Python on PATH that is new enough, by its real path: version managers put slow scripts on PATH. */
export function findPython() {
  const seen = [];
  for (const name of ['python3', 'python3.13', 'python3.12', 'python3.11']) {
    const path = findOnPath(name);
    const code = 'import sys; print(sys.executable, *sys.version_info[:2])';
    const answer = path ? spawnSync(path, ['-c', code], { encoding: 'utf8' }).stdout?.trim() : undefined;
    const match = /^(.*) (\d+) (\d+)$/.exec(answer ?? '');
    if (match && isAtLeast([match[2], match[3]], [3, 11])) return match[1];
    if (match) seen.push(`${path} is ${match[2]}.${match[3]}`);
  }
  throw new SetupError(`Python 3.11 or newer is needed (${seen.join(', ') || 'no python3 on PATH'}): install it.`);
}

/** A uv on PATH that knows the options used here, or the one installed by an earlier set-up. */
export function findUv() {
  const path = findOnPath('uv');
  if (path && isAtLeast(versionIn(path, /uv (\d+)\.(\d+)/), [0, 13])) return path;
  return isExecutable(cachedUv()) ? cachedUv() : undefined;
}

/** Where a set-up installs uv. */
export function cachedUv() {
  return join(wheelLock('uv').folder, 'bin/uv');
}

/** The MinIO to use as it is: on PATH, or built by an earlier set-up. */
export function findMinio() {
  const built = join(toolsCache(), 'minio');
  return goodMinio() ?? (isExecutable(built) ? built : undefined);
}

/** Conditional writes, on which artifacts rely, are complete in MinIO since 2025; a build from source has no date. */
function goodMinio() {
  const path = minioOnPath();
  const good = path && (versionIn(path, /(DEVELOPMENT)/) || isAtLeast(versionIn(path, /RELEASE\.(\d+)/), [2025]));
  return good ? path : undefined;
}

/** The MinIO on PATH other than the link that an earlier set-up has made. */
export function minioOnPath() {
  const path = findOnPath('minio');
  return path === join(home(), 'bin/minio') ? undefined : path;
}

/**
 * Go 1.26 or newer with its caches, or why it cannot be used.
 *
 * @returns {{path: string, moduleCache: string, buildCache: string} | {reason: string}}
 */
export function findGo() {
  const path = findOnPath('go');
  if (!path) return { reason: 'no Go is on PATH' };
  // Asked in the module's folder, where Go changes to a newer tool chain by itself if it is allowed to.
  const answer = spawnSync(path, ['env', 'GOVERSION', 'GOMODCACHE', 'GOCACHE'], { ...goOptions(), encoding: 'utf8' });
  const [version = '', moduleCache, buildCache] = (answer.stdout ?? '').split('\n');
  const match = /^go(\d+)\.(\d+)/.exec(version);
  if (match && isAtLeast(match.slice(1), [1, 26])) return { path, moduleCache, buildCache };
  return { reason: `${path} is too old (${version || (answer.stderr ?? '').trim().split('\n')[0]})` };
}

/** Go finds its caches by the home folder, which a service may not have in its environment. */
export function goOptions() {
  return { cwd: join(root, 'infra/tools'), env: { ...process.env, HOME: homedir(), GOWORK: 'off' } };
}

/** The numbers that the pattern captures in what `path --version` prints, or undefined. */
function versionIn(path, pattern) {
  return pattern.exec(spawnSync(path, ['--version'], { encoding: 'utf8' }).stdout ?? '')?.slice(1);
}

function isAtLeast(version, minimum) {
  if (!version) return false;
  const at = minimum.findIndex((part, index) => Number(version[index]) !== part);
  return at === -1 || Number(version[at]) > minimum[at];
}
