// The set-up: everything a fresh clone needs, installed where it is missing. Node built-ins only, as nothing else is
// there yet. Each step knows by itself whether it is done, so an interrupted set-up is completed by the next one.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { cache, findOnPath, home, isExecutable, logs, root, toolsCache } from './paths.mjs';
import { identify, readJson, stopProcess, withLock, writeWhole } from './processes.mjs';

const TICK_MS = 20_000;
/** A command that is stopped has nothing to save: its step starts over. */
const GRACE_MS = 3_000;
const GB = 1e9;

/** A problem that the user can solve; its message is one sentence and is shown without a stack. */
class SetupError extends Error {}

/**
 * Installs what is missing: npm packages, the Python environment, the Temporal CLI and MinIO, bubblewrap. Progress goes
 * to standard error; with `quiet`, nothing is printed when there is nothing to do. With `vllm`, the environment of the
 * vLLM engine too.
 *
 * @param {{quiet?: boolean, vllm?: boolean}} [options]
 * @throws {Error} one clear sentence when a prerequisite or disk space is missing, or the log of what failed.
 */
export async function setup({ quiet = false, vllm = false } = {}) {
  const started = performance.now();
  const say = (line) => process.stderr.write(`[set-up ${seconds(started)}] ${line}\n`);
  checkPlatform(say);
  const pending = () => [...STEPS, ...(vllm ? [vllmEnvironment] : [])].filter((step) => !step.isDone());
  if (pending().length > 0) {
    // The lock belongs to the checkout, whose node_modules two set-ups would otherwise write at once.
    const lock = join(cache(), `setup-${sha256(root).slice(0, 16)}.lock`);
    await withLock(
      lock,
      () => install(pending(), say),
      (pid) => say(`waiting for the set-up that process ${pid} is running`),
    );
  }
  if (!quiet) say('everything is installed');
}

async function install(steps, say) {
  await stopLeftOvers();
  // First what takes no time: each missing prerequisite is told before anything is installed.
  const plans = steps.map((step) => ({ step, plan: step.prepare() }));
  checkDisk(plans.flatMap(({ plan }) => plan.space ?? []));

  const running = new Set();
  const jobs = new Jobs();
  const ignoreSignals = jobs.stopOnSignals(say);
  const ticker = setInterval(() => say(`still at work: ${[...running].join(', ')}`), TICK_MS);
  try {
    await Promise.all(
      plans.map(async ({ step, plan }) => {
        if (plan.hint) return say(plan.hint);
        const began = performance.now();
        running.add(step.title);
        say(`${step.title}: ${plan.doing}`);
        await step.install(jobs, plan);
        running.delete(step.title);
        say(`${step.title}: done in ${seconds(began)}`);
      }),
    );
  } finally {
    clearInterval(ticker);
    await jobs.stop();
    ignoreSignals();
  }
}

const npmPackages = {
  title: 'npm packages',

  parser: join(root, 'infra/nvidia-smi-parser'),

  isDone() {
    return this.isInstalled() && this.isParserBuilt();
  },

  /** nvidia-smi-parser is used as it is published: compiled. */
  isParserBuilt() {
    const time = (name) => fs.statSync(join(this.parser, name), { throwIfNoEntry: false })?.mtimeMs ?? 0;
    return time('dist/.tsbuildinfo') > time('src/index.ts');
  },

  /** npm writes its own lock inside node_modules last of all, so what it lists is there, whoever installed it. */
  isInstalled() {
    const wanted = readJson(join(root, 'package-lock.json'))?.packages ?? {};
    const installed = readJson(join(root, 'node_modules/.package-lock.json'))?.packages ?? {};
    return Object.entries(wanted).every(
      ([path, { version, optional }]) =>
        !path.includes('node_modules/') || optional || (installed[path] && installed[path].version === version),
    );
  },

  prepare() {
    if (this.isInstalled()) return { doing: 'compiling nvidia-smi-parser' };
    const npm = findOnPath('npm');
    if (!npm) throw new SetupError('npm is not on PATH: install Node.js 20.19 or newer together with its npm.');
    return { npm, doing: 'installing those of package-lock.json (0.4 GB)', space: [[root, 0.6 * GB, 'npm packages']] };
  },

  async install(jobs, { npm }) {
    const options = ['--include=dev', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error'];
    if (npm) {
      // Gone first, so that a removal of packages that is cut short leaves nothing that looks whole.
      fs.rmSync(join(root, 'node_modules/.package-lock.json'), { force: true });
      await jobs.run('npm', npm, ['ci', ...options], { cwd: root });
    }
    if (!this.isParserBuilt())
      await jobs.run('tsc', process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-b', this.parser]);
  },
};

const pythonEnvironment = {
  title: 'Python environment',
  folder: 'venv',
  lock: join(root, 'workers/runtime/requirements.lock'),
  packages: 'torch, transformers and trl',
  /** The package of the lock that downloads longest; that it is cached says that the others are. */
  largest: 'torch',
  gigabytes: 6,

  stamp() {
    return join(home(), this.folder, 'requirements.sha256');
  },

  python() {
    return join(home(), this.folder, 'bin/python');
  },

  isDone() {
    return readText(this.stamp()) === sha256(fs.readFileSync(this.lock)) && isExecutable(this.python());
  },

  prepare() {
    const python = findPython();
    const uv = findUv();
    if (!uv && spawnSync(python, ['-m', 'pip', '--version']).status !== 0) {
      throw new SetupError(`${python} has no pip: install it (on Debian: apt-get install python3-pip), or uv.`);
    }
    const uvCache = process.env.UV_CACHE_DIR || join(dirname(cache()), 'uv');
    const wheels = list(uvCache).filter((name) => name.startsWith('wheels-'));
    const cached = wheels.some((name) => fs.existsSync(join(uvCache, name, 'pypi', this.largest)));
    // On one file system the packages are hard links to uv's cache; their bytecode is the environment's own.
    const linked = device(uvCache) === device(home());
    return {
      python,
      uv,
      doing: `installing ${this.packages} (${this.gigabytes} GB, ${cached ? 'cached' : 'downloads'})`,
      space: [
        [uvCache, cached ? 0 : this.gigabytes * GB, 'Python packages'],
        [home(), (linked ? 0.4 : this.gigabytes + 0.4) * GB, this.title],
      ],
    };
  },

  async install(jobs, { python, uv = cachedUv() }) {
    const venv = join(home(), this.folder);
    if (!isExecutable(uv)) await this.installUv(jobs, python, uv);
    fs.rmSync(venv, { recursive: true, force: true });
    await jobs.run(this.folder, uv, ['venv', '--python', python, '--no-python-downloads', venv]);
    // Without bytecode each start of the interpreter compiles torch and transformers again: 7 s of it.
    const options = ['--require-hashes', '--compile-bytecode', '--python', this.python()];
    await jobs.run(this.folder, uv, ['pip', 'sync', ...options, this.lock]);
    writeWhole(this.stamp(), sha256(fs.readFileSync(this.lock)));
  },

  async installUv(jobs, python, uv) {
    const options = ['--require-hashes', '--only-binary', ':all:', '--no-cache-dir', '--disable-pip-version-check'];
    await makeShared(
      dirname(dirname(uv)),
      () => isExecutable(uv),
      (draft) =>
        jobs.run('uv', python, ['-m', 'pip', 'install', ...options, '--target', draft, '--requirement', UV_LOCK]),
    );
  },
};

/** vLLM pins torch, so that it lives beside the model runtime; the engine's process alone uses it. */
const vllmEnvironment = {
  ...pythonEnvironment,
  title: 'vLLM environment',
  folder: 'vllm',
  lock: join(root, 'workers/vllm_engine/requirements.lock'),
  packages: 'vLLM',
  largest: 'vllm',
  gigabytes: 10,
};

const goTools = {
  title: 'Temporal and MinIO',
  modules: { temporal: 'github.com/temporalio/cli/cmd/temporal', minio: 'github.com/minio/minio' },

  isDone() {
    return Object.keys(this.modules).every((name) => {
      const link = join(home(), 'bin', name);
      return isExecutable(link) && [join(toolsCache(), name), foundOutside(name)].includes(linkTarget(link));
    });
  },

  prepare() {
    const names = Object.keys(this.modules);
    const built = names.map((name) => join(toolsCache(), name));
    if (built.every(isExecutable)) return { doing: 'linking those built before', from: built };
    const present = [goodTemporal(), goodMinio()];
    if (present.every(Boolean)) return { doing: `linking ${present.join(' and ')}`, from: present };

    const go = findGo();
    const module = join(go.moduleCache, 'github.com/minio');
    return {
      go: go.path,
      from: built,
      doing: 'building them from source with Go (several minutes; nothing is printed meanwhile)',
      space: [
        [go.moduleCache, fs.existsSync(module) ? 0 : 2 * GB, 'Go modules'],
        [go.buildCache, 2.5 * GB, 'Go build cache'],
        [toolsCache(), 0.6 * GB, 'Temporal and MinIO'],
      ],
    };
  },

  async install(jobs, { go, from }) {
    if (go) await this.build(jobs, go, from);
    fs.mkdirSync(join(home(), 'bin'), { recursive: true });
    for (const [index, name] of Object.keys(this.modules).entries()) {
      const draft = join(home(), 'bin', `${name}.link`);
      fs.rmSync(draft, { force: true });
      fs.symlinkSync(from[index], draft);
      fs.renameSync(draft, join(home(), 'bin', name));
    }
  },

  async build(jobs, go, built) {
    const version = /temporalio\/cli v(\S+)/.exec(fs.readFileSync(join(root, 'infra/tools/go.mod'), 'utf8'))[1];
    const flags = `-s -w -X github.com/temporalio/cli/internal/temporalcli.Version=${version}`;
    const options = ['-mod=readonly', '-trimpath', '-buildvcs=false', '-ldflags', flags];
    await makeShared(
      toolsCache(),
      () => built.every(isExecutable),
      (draft) =>
        jobs.run('go', go, ['build', ...options, '-o', `${draft}/`, ...Object.values(this.modules)], goOptions()),
    );
  },
};

const bubblewrap = {
  title: 'bubblewrap',

  isDone() {
    return isExecutable('/usr/bin/bwrap') || findOnPath('bwrap') !== undefined;
  },

  /** Everything but running programs works without it, so its absence is told and stops nothing. */
  prepare() {
    const apt = findOnPath('apt-get');
    if (apt && process.getuid() === 0) return { apt, doing: 'installing the Debian package' };
    return { hint: `${this.title} is missing, and no program can be judged without it: ${BUBBLEWRAP_COMMAND}.` };
  },

  async install(jobs, { apt }) {
    const environment = { env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' } };
    const options = ['--yes', '--no-install-recommends', '-o', 'DPkg::Lock::Timeout=120'];
    try {
      await jobs.run('bubblewrap', apt, ['update'], environment);
      await jobs.run('bubblewrap', apt, ['install', ...options, 'bubblewrap'], environment);
    } catch (error) {
      process.stderr.write(`${error.message}\nNo program can be judged without bubblewrap: ${BUBBLEWRAP_COMMAND}.\n`);
    }
  },
};

/** What every checkout needs. */
const STEPS = [npmPackages, pythonEnvironment, goTools, bubblewrap];

const BUBBLEWRAP_COMMAND = 'install it with `sudo apt-get install bubblewrap` or the like';
const UV_LOCK = fileURLToPath(new URL('uv.lock.txt', import.meta.url));

function checkPlatform(say) {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major < 20 || (major === 20 && minor < 19)) {
    throw new SetupError(`Node.js ${process.versions.node} is too old: install Node.js 20.19 or newer.`);
  }
  if (process.platform !== 'linux') {
    throw new SetupError(
      `The embedded stack and the sandbox need Linux, and this is ${process.platform}: use a Linux machine or ` +
        'container here; the plugins as an npm package work wherever the Temporal TypeScript SDK does.',
    );
  }
  if (process.arch !== 'x64') say(`tried on x64 only; on ${process.arch} a locked Python package may be missing`);
}

/** The first Python on PATH that is new enough, by its real path: version managers put slow scripts on PATH. */
function findPython() {
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
function findUv() {
  const path = findOnPath('uv');
  if (path && isAtLeast(versionIn(path, /uv (\d+)\.(\d+)/), [0, 13])) return path;
  return isExecutable(cachedUv()) ? cachedUv() : undefined;
}

function cachedUv() {
  const version = /^uv==(\S+)/.exec(fs.readFileSync(UV_LOCK, 'utf8'))[1];
  return join(cache(), `uv-${version}`, 'bin/uv');
}

/** A tool on PATH other than the link that an earlier set-up has made. */
function foundOutside(name) {
  const path = findOnPath(name);
  return path === join(home(), 'bin', name) ? undefined : path;
}

function goodTemporal() {
  const path = foundOutside('temporal');
  const good =
    path &&
    isAtLeast(versionIn(path, /version (\d+)\.(\d+)/), [1, 8]) &&
    isAtLeast(versionIn(path, /Server (\d+)\.(\d+)/), [1, 31]);
  return good ? path : undefined;
}

/** Conditional writes, on which artifacts rely, are complete in MinIO since 2025; a build from source has no date. */
function goodMinio() {
  const path = foundOutside('minio');
  const good = path && (versionIn(path, /(DEVELOPMENT)/) || isAtLeast(versionIn(path, /RELEASE\.(\d+)/), [2025]));
  return good ? path : undefined;
}

function findGo() {
  const path = findOnPath('go') ?? ['/usr/local/go/bin/go'].find(isExecutable);
  const need = 'Go 1.26 or newer is needed to build Temporal and MinIO';
  if (!path) throw new SetupError(`${need}, and none is on PATH: install it, or put temporal and minio on PATH.`);
  // Asked in the module's folder, where Go changes to a newer tool chain by itself if it is allowed to.
  const answer = spawnSync(path, ['env', 'GOVERSION', 'GOMODCACHE', 'GOCACHE'], { ...goOptions(), encoding: 'utf8' });
  const [version = '', moduleCache, buildCache] = (answer.stdout ?? '').split('\n');
  const match = /^go(\d+)\.(\d+)/.exec(version);
  if (!match || !isAtLeast(match.slice(1), [1, 26])) {
    const found = version || (answer.stderr ?? '').trim().split('\n')[0];
    throw new SetupError(`${need}, and ${path} is not (${found}): install a newer one.`);
  }
  return { path, moduleCache, buildCache };
}

/** Go finds its caches by the home folder, which a service may not have in its environment. */
function goOptions() {
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

/** Throws when a file system has less room than what is to be installed on it. */
function checkDisk(space) {
  const byDevice = new Map();
  for (const [path, bytes, what] of space) {
    const all = byDevice.get(device(path)) ?? [];
    byDevice.set(device(path), [...all, { path, bytes, what }]);
  }
  for (const parts of byDevice.values()) {
    const needed = parts.reduce((sum, { bytes }) => sum + bytes, 0);
    const { bavail, bsize } = fs.statfsSync(existing(parts[0].path));
    if (bavail * bsize >= needed) continue;
    const details = parts.map(({ path, bytes, what }) => `${what} ${gigabytes(bytes)} in ${path}`).join(', ');
    throw new SetupError(
      `Set-up needs ${gigabytes(needed)} of disk space, and ${gigabytes(bavail * bsize)} are free (${details}): ` +
        'make room, or point ACECODER_HOME and XDG_CACHE_HOME to a larger disk.',
    );
  }
}

const gigabytes = (bytes) => `${(bytes / GB).toFixed(1)} GB`;
const seconds = (since) => `${((performance.now() - since) / 1000).toFixed(1)} s`;
const sha256 = (data) => createHash('sha256').update(data).digest('hex');

/** The nearest folder above the path, or the path itself, that exists. */
function existing(path) {
  return fs.existsSync(path) ? path : existing(dirname(path));
}

function device(path) {
  return fs.statSync(existing(path)).dev;
}

function list(folder) {
  return fs.existsSync(folder) ? fs.readdirSync(folder) : [];
}

function linkTarget(path) {
  return fs.lstatSync(path).isSymbolicLink() ? fs.readlinkSync(path) : undefined;
}

function readText(path) {
  return fs.existsSync(path) ? fs.readFileSync(path, 'utf8') : undefined;
}

/** Makes a folder that all checkouts of a user share: by one of them only, and visible only when it is whole. */
async function makeShared(folder, isDone, make) {
  await withLock(`${folder}.lock`, async () => {
    if (isDone()) return;
    const draft = `${folder}.draft`;
    fs.rmSync(draft, { recursive: true, force: true });
    fs.mkdirSync(draft, { recursive: true });
    await make(draft);
    fs.rmSync(folder, { recursive: true, force: true });
    fs.renameSync(draft, folder);
  });
}

const childrenFile = () => join(home(), 'setup-children.json');

/** Ends what a killed set-up has left running; it would write into the same folders. */
async function stopLeftOvers() {
  await Promise.all((readJson(childrenFile()) ?? []).map((identity) => stopProcess(identity, GRACE_MS)));
}

/** The commands of one set-up: each in its own process group, its output in a log file; all are stopped together. */
class Jobs {
  #children = new Map();
  #stopping = false;

  /** Runs a command to its end; throws with the end of its output when it fails. */
  async run(log, command, args, options = {}) {
    if (this.#stopping) throw new SetupError('The set-up was stopped.');
    fs.mkdirSync(logs(), { recursive: true });
    const logFile = join(logs(), `setup-${log}.log`);
    const output = fs.openSync(logFile, 'w');
    const child = spawn(command, args, { ...options, detached: true, stdio: ['ignore', output, output] });
    fs.closeSync(output);
    // At once: should this process be killed now, the next set-up has to know what it left running.
    this.#remember(child);
    const code = await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status, signal) => resolve(status ?? signal));
    });
    this.#children.delete(child.pid);
    if (code === 0) return;
    // npm gives the reason first and ends with advice; the others give it last.
    const lines = fs.readFileSync(logFile, 'utf8').trimEnd().split('\n');
    const shown = lines.length <= 20 ? lines : [...lines.slice(0, 10), '…', ...lines.slice(-10)];
    throw new SetupError(`${command} ${args[0]} failed (${code}); from ${logFile}:\n${shown.join('\n')}`);
  }

  #remember(child) {
    const identity = child.pid && identify(child.pid);
    if (identity) this.#children.set(child.pid, identity);
    writeWhole(childrenFile(), JSON.stringify([...this.#children.values()]));
  }

  async stop() {
    this.#stopping = true;
    await Promise.all([...this.#children.values()].map((identity) => stopProcess(identity, GRACE_MS)));
    fs.rmSync(childrenFile(), { force: true });
  }

  /** Being in groups of their own, the children do not get the terminal's Ctrl-C. Returns what undoes this. */
  stopOnSignals(say) {
    const onSignal = async (signal) => {
      say(`stopped by ${signal}; the next set-up continues`);
      await this.stop();
      process.exit(signal === 'SIGINT' ? 130 : 143);
    };
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, onSignal);
    return () => {
      for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(signal, onSignal);
    };
  }
}

/** Ends the process with the message of what went wrong, and with the stack only where it is our own mistake. */
export function fail(error) {
  process.stderr.write(`${error instanceof SetupError ? error.message : error.stack}\n`);
  process.exit(1);
}

if (fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({ options: { vllm: { type: 'boolean', default: false } } });
  await setup(values).catch(fail);
}
