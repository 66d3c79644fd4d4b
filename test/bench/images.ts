/**
 * `npm run bench:images`: builds the images of infra/deploy/images without a registry, on a Debian that debootstrap
 * makes, and uses them: their sizes, the isolation that the sandbox reaches in them, and a micro experiment whose workers
 * all run in containers. Root, buildah, podman, runc and debootstrap are needed.
 */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import { PACKAGE } from '../../activities/runtime/package.js';
import { lineTeller, parkedText, watch } from '../../infra/commands/progress.js';
import { startExperiment } from '../../infra/commands/start-experiment.js';
import { cache, findOnPath, home as acecoderHome, root, venvPython } from '../../infra/setup/paths.mjs';
import { startStack, stopStack, type Stack } from '../../infra/stack/embedded-stack.js';
import { createServices } from '../../workers/plugins/services.js';
import { QUEUES, type ArtifactRef } from '../../workflows/contract/index.js';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { microModel, microSeeds } from '../fixtures/micro-model.js';
import { report, type Measure } from './table.js';

const HELP = `npm run bench:images [-- options]

Builds the images pipeline, llm and sandbox on a Debian root file system made by debootstrap, prints their sizes and the
isolation of the sandbox in them, and runs a micro experiment with workers in containers. Its GPU worker is the image
pipeline with the Python environment of this checkout. It needs root, buildah, podman, runc and debootstrap.

  --gpu           build the image gpu too, of about 6 GB, and run the GPU worker in it
  --quickstart    run the experiment of the quickstart to its report, instead of the micro experiment
  --keep          keep the images in the user's cache folder, for another run
  --package FILE  a package that npm pack has made, instead of packing this checkout
  --no-run        build and measure, without the experiment
  --only-run      build, and run the experiment alone
  --json          one JSON object on the last line
  --help          print this`;

/** Images of a role each. */
type Target = 'pipeline' | 'llm' | 'sandbox' | 'gpu';
/** Megabytes (10^6 bytes), uncompressed. */
const MOST: Partial<Record<Target, number>> = { pipeline: 400, sandbox: 450 };
const ROLES = ['pipeline', 'llm', 'sandbox'] as const;
const PROGRAMS = ['buildah', 'podman', 'runc', 'debootstrap', 'tar'];
/** Debian's own slim images leave these out; what untrusted programs and workers need is not among them. */
const LEFT_OUT = ['usr/share/doc', 'usr/share/man', 'usr/share/info', 'usr/share/locale'];
const BASE = 'localhost/acecoder-debian:bookworm';
/** Container engines raise these limits by default, which a host without that right refuses. */
const LIMITS = ['--ulimit', 'nofile=1024:1024', '--ulimit', 'nproc=4096:4096'];
/** What the chart gives a pod. */
const POD = [
  ...['--user', '65534:65534', '--cap-drop', 'ALL', '--security-opt', 'no-new-privileges', '--read-only'],
  ...['--volume', '/home/acecoder', '--tmpfs', '/tmp'],
];

const imageOf = (target: Target): string => `localhost/acecoder-temporal:${PACKAGE.version}-${target}`;
const say = (text: string): void => console.error(text);

function run(command: string, args: readonly string[], cwd = root): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, { cwd, encoding: 'utf8', maxBuffer: 1e9 });
  if (status === 0) return stdout.trim();
  throw new Error(`${command} ${args.slice(0, 8).join(' ')} … : ${error?.message ?? (stdout + stderr).slice(-3000)}`);
}

/** Images in a folder of this project, apart from those of the user. */
class Images {
  readonly #storage: readonly string[];
  /** Podman remembers it for its images. */
  readonly #runRoot = '/run/acecoder-images';
  readonly #folder = join(cache(), 'images');

  constructor() {
    mkdirSync(this.#runRoot, { recursive: true, mode: 0o700 });
    this.#storage = ['--root', this.#folder, '--runroot', this.#runRoot];
  }

  podman(args: readonly string[]): string {
    return run('podman', this.#arguments(args));
  }

  #arguments(args: readonly string[]): string[] {
    return [...this.#storage, '--runtime', 'runc', '--cgroup-manager', 'cgroupfs', ...args];
  }

  has(image: string): boolean {
    return spawnSync('podman', this.#arguments(['image', 'exists', image])).status === 0;
  }

  /** Runs an image to its end. */
  once(image: string, options: readonly string[], command: readonly string[]) {
    const args = ['run', '--rm', '--network', 'none', ...LIMITS, ...options, image, ...command];
    return spawnSync('podman', this.#arguments(args), { encoding: 'utf8' });
  }

  /** Starts an image in the background; `podman` ends with it, and hands on signals. */
  start(image: string, options: readonly string[], command: readonly string[] = []): ChildProcess {
    const args = ['run', '--rm', '--network', 'host', ...LIMITS, ...options, image, ...command];
    return spawn('podman', this.#arguments(args), { stdio: ['ignore', 'inherit', 'inherit'] });
  }

  /** Debian as debootstrap makes it, without documentation. */
  base(folder: string): void {
    if (this.has(BASE)) return;
    const debian = join(cache(), 'debian-bookworm');
    if (!existsSync(debian)) {
      say('debootstrap bookworm ...');
      const draft = `${debian}.draft`;
      rmSync(draft, { recursive: true, force: true });
      run('debootstrap', ['--variant=minbase', 'bookworm', draft]);
      const excluded = LEFT_OUT.map((path) => `path-exclude /${path}/*\n`).join('');
      writeFileSync(join(draft, 'etc/dpkg/dpkg.cfg.d/docker'), `${excluded}path-include /usr/share/doc/*/copyright\n`);
      renameSync(draft, debian);
    }
    const left = [...LEFT_OUT.map((path) => `./${path}/*`), './var/lib/apt/lists/*', './var/cache/apt/*', './dev/*'];
    const archive = join(folder, 'debian.tar');
    run('tar', ['-C', debian, ...left.map((path) => `--exclude=${path}`), '-cf', archive, '.']);
    this.podman(['import', archive, BASE]);
    rmSync(archive);
  }

  /** Builds a target of the Dockerfile in a context. */
  build(target: Target, context: string): void {
    say(`building ${target} ...`);
    // Package managers inside trust the authorities that this machine trusts.
    const own = process.env['NODE_EXTRA_CA_CERTS'] ?? process.env['SSL_CERT_FILE'];
    const authority = own
      ? [
          ...['--volume', `${realpathSync(own)}:/build-authority.pem:ro`],
          ...['NODE_EXTRA_CA_CERTS', 'PIP_CERT', 'SSL_CERT_FILE'].flatMap((name) => [
            '--build-arg',
            `${name}=/build-authority.pem`,
          ]),
        ]
      : [];
    run('buildah', [
      ...[...this.#storage, 'build', '--isolation', 'oci', '--runtime', 'runc', '--network', 'host', '--layers'],
      ...[
        ...LIMITS,
        ...authority,
        '--build-arg',
        `BASE=${BASE}`,
        '--target',
        target,
        '--tag',
        imageOf(target),
        context,
      ],
    ]);
  }

  megabytes(image: string): number {
    return Number(this.podman(['image', 'inspect', '--format', '{{.Size}}', image])) / 1e6;
  }

  remove(keep: boolean): void {
    if (!keep) this.podman(['system', 'reset', '--force']);
    rmSync(this.#runRoot, { recursive: true, force: true });
  }
}

/** The folder that the Dockerfile is built in: its own files and the packed package. */
function contextIn(folder: string, packed?: string): string {
  const context = join(folder, 'context');
  cpSync(join(root, 'infra/deploy/images'), context, { recursive: true });
  const made = (): string =>
    join(context, run('npm', ['pack', '--silent', '--pack-destination', context]).split('\n').at(-1)!);
  cpSync(packed ?? made(), join(context, 'acecoder-temporal.tgz'));
  return context;
}

/**
 * The seccomp profile of podman, without what those of Docker and containerd allow to CAP_SYS_ADMIN alone: namespaces
 * and mounts.
 */
function withoutNamespaces(folder: string): string {
  interface Profile {
    syscalls: { names: string[]; action: string; args?: object[]; errnoRet?: number }[];
  }
  const profile = JSON.parse(readFileSync('/usr/share/containers/seccomp.json', 'utf8')) as Profile;
  const refused = ['unshare', 'setns', 'mount', 'umount', 'umount2', 'pivot_root', 'clone', 'clone3'];
  for (const rule of profile.syscalls) rule.names = rule.names.filter((name) => !refused.includes(name));
  profile.syscalls = profile.syscalls.filter(({ names }) => names.length > 0);
  // clone without a flag of a namespace; clone3 hides its flags, and a C library then takes clone.
  const args = [{ index: 0, value: 0x7e020000, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }];
  profile.syscalls.push({ names: ['clone'], action: 'SCMP_ACT_ALLOW', args });
  profile.syscalls.push({ names: ['clone3'], action: 'SCMP_ACT_ERRNO', errnoRet: 38 });
  const path = join(folder, 'seccomp.json');
  writeFileSync(path, JSON.stringify(profile));
  return path;
}

/** What the sandbox says of its isolation for a way to run its image, with a program judged; or why it does not run. */
function isolation(images: Images, folder: string, options: readonly string[]): string {
  const files = ['--input', '/programs/programs.jsonl', '--output', '/tmp/verdicts.jsonl', '--workers', '1'];
  const { status, stderr } = images.once(
    imageOf('sandbox'),
    // A user without a right on the home of the image has this one.
    ['--env', 'ACECODER_HOME=/tmp', '--volume', `${folder}:/programs:ro`, ...options],
    ['acecoder-temporal', 'sandbox', ...files],
  );
  const [, level, how] = /isolation (\w+) \(([^)]*)\)/.exec(stderr) ?? [];
  const ends = status === 0 && stderr.includes('1 programs judged, 0 rows refused');
  return ends && level ? `${level}, by ${how}` : `NO PROGRAM IS RUN: ${stderr.trim().split('\n').at(-1)}`;
}

/** Prints the isolation of the sandbox in each way that its image may be run. */
function isolations(images: Images, folder: string): void {
  const programs = join(folder, 'programs');
  mkdirSync(programs);
  const row = { id: 'a', program: 'def f(x):\n    return x\n', tests: ['assert f(1) == 1'] };
  writeFileSync(join(programs, 'programs.jsonl'), `${JSON.stringify(row)}\n`);
  const ways: Record<string, string[]> = {
    'as the chart runs it (65534, no capabilities, read-only)': POD,
    '65534, with the defaults of podman': ['--user', '65534:65534'],
    'root, without capabilities': ['--user', '0', '--cap-drop', 'ALL'],
    'root, with the defaults of podman': ['--user', '0'],
    'as the chart, with /proc unmasked': [...POD, '--security-opt', 'unmask=/proc/*'],
    'as the chart, without user namespaces': [...POD, '--security-opt', `seccomp=${withoutNamespaces(folder)}`],
    'as the chart, without user namespaces, minimum weak': [
      ...[...POD, '--security-opt', `seccomp=${withoutNamespaces(folder)}`],
      ...['--env', 'ACECODER_SANDBOX_MINIMUM=weak'],
    ],
  };
  for (const [name, options] of Object.entries(ways))
    console.log(`sandbox ${name}: ${isolation(images, programs, options)}`);
}

/** What the workers in containers run. */
interface Work {
  /** In words, for the table. */
  name: string;
  /** Starts it on a stack, with the files of a folder that containers see as `folder`. @returns its workflow id. */
  start: (stack: Stack, client: Client, folder: string) => Promise<string>;
}

const MICRO: Work = {
  name: 'micro experiment',
  start: async (stack, client, folder) => {
    const seeds = microSeeds(join(root, 'infra/seeds/simple.jsonl'));
    writeFileSync(join(folder, 'seeds.jsonl'), seeds.map((seed) => `${JSON.stringify(seed)}\n`).join(''));
    const env = { ACECODER_PYTHON: venvPython(), ACECODER_HOME: stack.home, PATH: process.env['PATH'] };
    const services = createServices({ env, label: 'micro' });
    const model = await microModel(services.models, seeds, join(acecoderHome(), 'models')).finally(() =>
      services.close(),
    );
    cpSync(model, join(folder, 'model'), { recursive: true });
    // The weights are made readable to their owner alone, and pods run as another user.
    run('chmod', ['-R', 'a+rX', folder]);
    const input = microExperiment('micro', join(folder, 'seeds.jsonl'), join(folder, 'model'));
    await client.workflow.start('experiment', { taskQueue: QUEUES.pipeline, workflowId: 'micro', args: [input] });
    return 'micro';
  },
};

const QUICKSTART: Work = {
  name: 'quickstart',
  start: async (stack, client) => {
    await startExperiment(stack, client, join(root, 'infra/experiments/quickstart.json'), 'quickstart', say);
    return 'quickstart';
  },
};

/** The command line of the GPU worker: its own image, or the image pipeline with the environment of this checkout. */
function startGpu(images: Images, built: boolean, options: readonly string[]): ChildProcess {
  if (built) return images.start(imageOf('gpu'), [...POD, ...options]);
  // The environment of this checkout has absolute paths, of which some may lie in a folder of root's.
  const mounted = new Set([dirname(dirname(venvPython())), dirname(dirname(realpathSync(venvPython())))]);
  const volumes = [...mounted].flatMap((path) => ['--volume', `${path}:${path}:ro`]);
  const writable = ['HOME', 'ACECODER_HOME'].flatMap((name) => ['--env', `${name}=/tmp`]);
  const python = ['--env', `ACECODER_VENV=${dirname(dirname(venvPython()))}`, ...volumes];
  const program = '/app/node_modules/acecoder-temporal/dist/workers/gpu.js';
  const own = [...python, ...writable, '--user', '0', '--cap-drop', 'ALL'];
  return images.start(imageOf('pipeline'), [...options, ...own], ['node', program]);
}

/** Runs work with a container for each role. @returns its seconds. */
async function experiment(images: Images, folder: string, work: Work, gpu: boolean): Promise<number> {
  const home = join(folder, 'home');
  const stack: Stack = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 } });
  const workers: ChildProcess[] = [];
  const stop = new AbortController();
  let connection: Connection | undefined;
  try {
    const shared = join(folder, 'shared');
    mkdirSync(shared);
    const environment = Object.entries({
      TEMPORAL_ADDRESS: stack.address,
      TEMPORAL_NAMESPACE: stack.namespace,
      ACECODER_S3_ENDPOINT: stack.s3.endpoint,
      ACECODER_S3_BUCKET: stack.s3.bucket,
      ACECODER_S3_ACCESS_KEY: stack.s3.accessKey,
      ACECODER_S3_SECRET_KEY: stack.s3.secretKey,
      ACECODER_TORCH_THREADS: '1',
    }).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
    const options = [...environment, '--volume', `${shared}:${shared}:ro`];
    const client = new Client({
      connection: (connection = await Connection.connect({ address: stack.address })),
      namespace: stack.namespace,
    });
    const workflowId = await work.start(stack, client, shared);
    const started = performance.now();
    for (const target of ROLES) workers.push(images.start(imageOf(target), [...POD, ...options]));
    workers.push(startGpu(images, gpu, options));
    const ended = workers.map(
      (child) =>
        new Promise<never>((_, reject) => {
          child.once('exit', (code) => reject(new Error(`a worker ended with ${code}`)));
        }),
    );
    const lost = (why: string): never => {
      throw new Error(why);
    };
    const watched = watch(client, workflowId, { see: lineTeller(say), lost, signal: stop.signal });
    const last = await Promise.race([watched, ...ended]).finally(async () => {
      stop.abort();
      await watched.catch(() => undefined);
    });
    const parked = last?.status && parkedText(last.status);
    if (parked) throw new Error(parked.why);
    const result = (await client.workflow.getHandle(workflowId).result()) as {
      stages: { name: string; artifact: { digest: string } }[];
      report?: ArtifactRef;
    };
    for (const { name, artifact } of result.stages) say(`  ${name.padEnd(14)} ${artifact.digest}`);
    if (result.report) say(`  ${'report'.padEnd(14)} ${result.report.digest}`);
    return (performance.now() - started) / 1000;
  } finally {
    await connection?.close();
    await Promise.all(
      workers.map(async (child) => {
        if (child.exitCode !== null) return;
        const exit = new Promise((resolve) => child.once('exit', resolve));
        child.kill('SIGTERM');
        await exit;
      }),
    );
    await stopStack({ home });
  }
}

async function main(): Promise<void> {
  const FLAG = { type: 'boolean', default: false } as const;
  const { values } = parseArgs({
    options: {
      ...{ gpu: FLAG, quickstart: FLAG, keep: FLAG, package: { type: 'string' } },
      ...{ 'no-run': FLAG, 'only-run': FLAG, json: FLAG, help: FLAG },
    },
  });
  if (values.help) return console.log(HELP);
  const missing = PROGRAMS.filter((name) => findOnPath(name) === undefined);
  if (missing.length > 0 || process.getuid?.() !== 0) {
    const why = missing.length > 0 ? `${missing.join(', ')} are not on PATH` : 'it is not run by root';
    console.log(`SKIPPED: no image is built here, because ${why}.`);
    return;
  }
  const folder = mkdtempSync(join(tmpdir(), 'acecoder-images-'));
  chmodSync(folder, 0o755);
  const images = new Images();
  const measures: Measure[] = [];
  try {
    images.base(folder);
    const started = performance.now();
    const context = contextIn(folder, values.package);
    const targets: readonly Target[] = values.gpu ? [...ROLES, 'gpu'] : ROLES;
    for (const target of targets) images.build(target, context);
    measures.push({ name: 'pack and build', value: (performance.now() - started) / 1000, unit: 's' });
    for (const target of targets) {
      const value = images.megabytes(imageOf(target));
      const bar = MOST[target];
      measures.push({ name: `image ${target}`, value, unit: 'MB', ...(bar ? { bar, at: 'most' } : {}) });
    }
    for (const name of ['npm', 'debian']) {
      const text = images.once(imageOf('sandbox'), [], ['cat', `/usr/share/sbom/${name}.cdx.json`]).stdout;
      const { components } = JSON.parse(text) as { components: object[] };
      measures.push({ name: `SBOM of ${name}`, value: components.length, unit: 'components' });
    }
    if (!values['only-run']) isolations(images, folder);
    if (!values['no-run']) {
      const work = values.quickstart ? QUICKSTART : MICRO;
      const seconds = await experiment(images, folder, work, values.gpu);
      measures.push({ name: `${work.name} in containers`, value: seconds, unit: 's' });
    }
    report('images', measures, values.json);
  } finally {
    images.remove(values.keep);
    rmSync(folder, { recursive: true, force: true });
  }
}

await main();
