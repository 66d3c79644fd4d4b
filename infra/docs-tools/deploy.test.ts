/** The Helm chart, and what it says about this package. */
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse, parseAllDocuments } from 'yaml';
import { describe, expect, it, type TestContext } from 'vitest';
import { SEARCH_ATTRIBUTES } from '../../workflows/contract/index.js';
import { PACKAGE } from '../../activities/runtime/package.js';
import { definitions } from '../deploy/check/environment.js';
import { home, root } from '../setup/paths.mjs';

const deploy = join(root, 'infra/deploy');
const read = (path: string): string => readFileSync(join(deploy, path), 'utf8');

interface Document {
  kind: string;
  spec?: { template?: { spec: { containers?: { env?: { name: string }[] }[] } } };
}
const cases = readdirSync(join(deploy, 'check/values'));
const documents = cases.flatMap((name) =>
  parseAllDocuments(read(`check/golden/${name}`)).map((document) => document.toJS() as Document),
);

it('the chart has the version of the package, and registers its search attributes', () => {
  const { version, appVersion } = parse(read('helm/Chart.yaml')) as Record<string, string>;
  expect([version, appVersion]).toEqual([PACKAGE.version, PACKAGE.version]);
  expect(JSON.parse(read('helm/search-attributes.json'))).toEqual(SEARCH_ATTRIBUTES);
});

it('every variable that a pod gets is documented', () => {
  const page = readFileSync(join(root, 'docs/reference/environment.md'), 'utf8');
  const names = documents.flatMap(({ spec }) =>
    (spec?.template?.spec.containers ?? []).flatMap(({ env = [] }) => env.map(({ name }) => name)),
  );
  const own = [...new Set(names)].filter((name) => name.startsWith('ACECODER_'));
  expect(own.length).toBeGreaterThan(8);
  expect(own.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
});

describe('the Dockerfile', () => {
  /** Instructions with their arguments: continued lines as one, without comments. */
  const instructions = read('images/Dockerfile')
    .replaceAll(/^#.*\n/gm, '')
    .replaceAll(/\\\n/g, ' ')
    .split('\n')
    .filter(Boolean)
    .map((line) => /^([A-Z]+)\s+(.*)$/.exec(line)!.slice(1) as [string, string]);
  /** Instructions of each stage by its name. */
  const stages = new Map<string, [string, string][]>();
  for (const instruction of instructions) {
    const [, stage] = (instruction[0] === 'FROM' && / AS (\w+)$/.exec(instruction[1])) || [];
    if (stage !== undefined) stages.set(stage, []);
    [...stages.values()].at(-1)?.push(instruction);
  }

  it('has a target for each role of the chart, which runs as 65534 and starts its workers', () => {
    for (const role of ['pipeline', 'llm', 'sandbox', 'gpu']) {
      const own = stages.get(role)!;
      const [, command] = own.findLast(([name]) => name === 'CMD')!;
      const [, program] = JSON.parse(command) as string[];
      expect(program).toMatch(new RegExp(`^/app/node_modules/acecoder-temporal/dist/workers/${role}\\.js$`));
      expect(existsSync(join(root, `workers/${role}.ts`))).toBe(true);
      const users = own.filter(([name]) => name === 'USER').map(([, user]) => user);
      expect(role === 'llm' ? '65534:65534' : users.at(-1)).toBe('65534:65534');
    }
  });

  it('copies what is there, and installs by locks with hashes', () => {
    const copied = instructions
      .filter(([name, what]) => name === 'COPY' && !what.startsWith('--from'))
      .flatMap(([, what]) => what.split(' ').slice(0, -1));
    expect(copied.filter((path) => !existsSync(join(deploy, 'images', path)))).toEqual([]);
    const commands = instructions.filter(([name]) => name === 'RUN').map(([, what]) => what);
    for (const command of commands)
      for (const [install] of command.matchAll(/pip (install|sync)[^&]*/g))
        expect(install).toContain('--require-hashes');
    expect(commands.some((command) => command.includes('npm ci '))).toBe(true);
    expect(commands.join()).not.toMatch(/npm install|curl|wget/);
  });

  it('installs the packages of this package, at its versions, from a lock without addresses', () => {
    interface Lock {
      packages: Record<
        string,
        { version: string; resolved?: string; integrity?: string; dependencies?: Record<string, string> }
      >;
    }
    const lockOf = (path: string): Lock => JSON.parse(readFileSync(path, 'utf8')) as Lock;
    const own = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
      dependencies: Record<string, string>;
      peerDependencies: Record<string, string>;
      bundleDependencies: string[];
      overrides: Record<string, string>;
    };
    const image = JSON.parse(read('images/package.json')) as typeof own & { version: string };
    const { packages } = lockOf(join(root, 'package-lock.json'));
    // What is bundled is in the packed package, without its own dependencies.
    const ofBundled = own.bundleDependencies.flatMap((name) =>
      Object.entries(packages[`infra/${name}`]?.dependencies ?? {}),
    );
    const wanted = [...Object.keys(own.dependencies), ...Object.keys(own.peerDependencies)]
      .filter((name) => !own.bundleDependencies.includes(name))
      .map((name) => [name, packages[`node_modules/${name}`]!.version] as const);
    expect(image.dependencies).toEqual(Object.fromEntries([...wanted, ...ofBundled]));
    expect([image.version, image.overrides]).toEqual([PACKAGE.version, own.overrides]);
    const locked = Object.entries(lockOf(join(deploy, 'images/package-lock.json')).packages).filter(([path]) => path);
    expect(locked.length).toBeGreaterThan(100);
    expect(locked.filter(([, { resolved, integrity }]) => resolved !== undefined || !integrity)).toEqual([]);
  });
});

describe('the compose file', () => {
  interface Service {
    image: string;
    user?: string;
    read_only?: boolean;
    environment: Record<string, string>;
    command?: string[];
  }
  const { services } = parse(read('compose/compose.yaml'), { merge: true }) as { services: Record<string, Service> };

  it('names a version of every image, and a worker for each role, as the chart runs it', () => {
    for (const [name, { image }] of Object.entries(services)) expect(image, name).toMatch(/:[^/]*\d[^/]*$/);
    for (const role of ['pipeline', 'llm', 'sandbox', 'gpu'])
      expect(services[role]).toMatchObject({
        image: expect.stringMatching(new RegExp(`:${PACKAGE.version}}-${role}$`)) as string,
        user: '65534:65534',
        read_only: true,
        cap_drop: ['ALL'],
      });
  });

  it('sets variables that are documented, and registers the search attributes', () => {
    const page = readFileSync(join(root, 'docs/reference/environment.md'), 'utf8');
    const names = Object.values(services).flatMap(({ environment = {} }) => Object.keys(environment));
    const own = [...new Set(names)].filter((name) => name.startsWith('ACECODER_'));
    expect(own.length).toBeGreaterThan(8);
    expect(own.filter((name) => !page.includes(`\`${name}\``))).toEqual([]);
    const registered = services['namespace']!.command!.join().matchAll(/--name (\w+) --type (\w+)/g);
    expect(Object.fromEntries([...registered].map(([, name, type]) => [name, type]))).toEqual(SEARCH_ATTRIBUTES);
  });
});

describe('the chart, rendered', () => {
  const python = join(home(), 'deploy-check', 'bin/python');
  const checked = (context: TestContext, ...args: string[]) => {
    context.skip(!existsSync(python), 'npm run check:deploy has not made its environment (350 MB)');
    const { status, stdout, stderr } = spawnSync(python, args, { encoding: 'utf8', cwd: join(deploy, 'check') });
    return { status, stdout, stderr };
  };
  const fetched = definitions();
  let chart: ReturnType<typeof checked> | undefined;
  const checkedChart = (context: TestContext) =>
    (chart ??= checked(context, 'chart.py', '--crds', ...('paths' in fetched ? fetched.paths : [])));

  it('is what the golden files have, and right by schemas', { timeout: 120_000 }, (context) => {
    const { status, stderr } = checkedChart(context);
    expect(stderr).toBe('');
    expect(status).toBe(0);
  });

  it('is checked in every kind', { timeout: 120_000 }, (context) => {
    context.skip(
      'reason' in fetched,
      `KINDS OF KEDA AND THE PROMETHEUS OPERATOR NOT CHECKED: ${Object.values(fetched)[0]}`,
    );
    expect(checkedChart(context).stdout).not.toContain('NOT CHECKED');
  });

  it('would be wrong with a field that a kind does not have', { timeout: 120_000 }, (context) => {
    const wrong = [
      ['Connection', { hostPort: 'temporal' }],
      ['WorkerDeployment', { replica: 1 }],
      ['WorkerResourceTemplate', { template: { apiVersion: 'v1', kind: 'ConfigMap', spec: {} } }],
    ].map(([kind, spec]) => ({ apiVersion: 'temporal.io/v1alpha1', kind, metadata: { name: 'x' }, spec }));
    const script =
      'import chart, json, sys\n' +
      'for each in json.loads(sys.argv[1]): print(chart.mistakes_of(each, chart.controller_schemas()))';
    const { stdout, stderr } = checked(context, '-c', script, JSON.stringify(wrong));
    expect(stderr).toBe('');
    const lines = stdout.trim().split('\n');
    expect(lines[0]).toContain("'temporal' does not match");
    expect(lines[1]).toContain("'replica' was unexpected");
    expect(lines[2]).toContain("'workerDeploymentRef' is a required property");
  });
});
