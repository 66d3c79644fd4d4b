/** What the plugin brings, what it refuses, and whether docs/how-to/own-cluster.md says so. */
import { mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { bundleWorkflowCode, DefaultLogger, type WorkerOptions } from '@temporalio/worker';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { root } from '../../infra/setup/paths.mjs';
import { AceCoderPlugin, workflowsPath } from './acecoder-plugin.js';
import { createServices, type OwnedServices } from './services.js';
import { workflowBundle } from '../workflow-bundle.js';
import {
  ACTIVITIES,
  PARTS,
  QUEUES,
  SEARCH_ATTRIBUTES,
  WORKFLOWS,
  workflowsOf,
  type Part,
  type QueueRole,
} from '../../workflows/contract/index.js';
import * as allWorkflows from '../../workflows/index.js';
import * as dataWorkflows from '../../workflows/data.js';

const STORE = {
  ACECODER_S3_ENDPOINT: 'http://127.0.0.1:9',
  ACECODER_S3_BUCKET: 'none',
  ACECODER_S3_ACCESS_KEY: 'none',
  ACECODER_S3_SECRET_KEY: 'none',
};
const roles = Object.keys(QUEUES) as QueueRole[];
const own = async (): Promise<void> => undefined;

describe('the plugin', () => {
  let services: OwnedServices;
  beforeAll(() => {
    services = createServices({ env: { ...STORE } });
  });
  afterAll(() => services.close());

  const configured = (plugin: AceCoderPlugin, options: Partial<WorkerOptions> = {}) =>
    plugin.configureWorker({ taskQueue: 'queue', ...options });

  it('brings every activity on exactly one kind of worker, and workflows where they run', () => {
    const brought = roles.flatMap((role) => {
      const options = configured(new AceCoderPlugin({ role, services }));
      expect(options.workflowsPath).toBe(role === 'pipeline' ? workflowsPath.all : undefined);
      return Object.keys(options.activities!);
    });
    expect(brought.sort()).toEqual(Object.keys(ACTIVITIES).sort());
  });

  it('gives a worker its slots, those of the application first, and never both numbers and a tuner', () => {
    const slots = (role: QueueRole, options: Partial<WorkerOptions> = {}): unknown[] => {
      const { tuner, maxConcurrentActivityTaskExecutions: most } = configured(
        new AceCoderPlugin({ role, services }),
        options,
      );
      return [tuner !== undefined, most];
    };
    expect(slots('sandbox')).toEqual([false, 2]);
    expect(slots('gpu')).toEqual([true, undefined]);
    expect(slots('gpu', { maxConcurrentActivityTaskExecutions: 3 })).toEqual([false, 3]);
    expect(slots('gpu', { maxConcurrentWorkflowTaskExecutions: 5 })).toEqual([false, 1]);
  });

  it('leaves the workflows of a killed worker to another one soon, unless the application says otherwise', () => {
    const sticky = (options: Partial<WorkerOptions> = {}): unknown =>
      configured(new AceCoderPlugin({ services }), options).stickyQueueScheduleToStartTimeout;
    expect(sticky()).toBe('4s');
    expect(sticky({ stickyQueueScheduleToStartTimeout: '30s' })).toBe('30s');
  });

  it('names its workflows as the modules of its parts export them', () => {
    expect(Object.keys(allWorkflows).sort()).toEqual([...WORKFLOWS].sort());
    expect(Object.keys(dataWorkflows).sort()).toEqual([...workflowsOf('data')].sort());
    expect(configured(new AceCoderPlugin({ part: 'data', services })).workflowsPath).toBe(workflowsPath.data);
  });

  it('is the sandbox alone without a store', async () => {
    const alone = createServices({ env: {} });
    const { activities, workflowsPath: none } = configured(new AceCoderPlugin({ part: 'sandbox', services: alone }));
    expect([Object.keys(activities!), none]).toEqual([['sandbox.judge'], undefined]);
    expect(() => new AceCoderPlugin({ services: alone })).toThrow(
      /needs the environment variable\(s\) ACECODER_S3_ENDPOINT, /,
    );
    expect(() => new AceCoderPlugin({ part: 'sandbox', role: 'llm' as never, services })).toThrow(
      "The part 'sandbox' has no activity for 'llm' workers.",
    );
    await alone.close();
  });

  it('keeps the workflows and activities of an application, and refuses activities of its own names', () => {
    const options = configured(new AceCoderPlugin({ services }), {
      workflowsPath: '/app/workflows.js',
      activities: { own },
    });
    expect(options.workflowsPath).toBe('/app/workflows.js');
    expect(Object.keys(options.activities!)).toEqual(expect.arrayContaining(['own', 'preferences.pair']));
    expect(() => configured(new AceCoderPlugin({ services }), { activities: { 'preferences.pair': own } })).toThrow(
      'defined more than once: the activities preferences.pair',
    );
    expect(() => configured(new AceCoderPlugin({ services }), configured(new AceCoderPlugin({ services })))).toThrow(
      /defined more than once: the activities synthesis\.plan, /,
    );
  });

  it('refuses to run where a plugin behind it replaced an activity', async () => {
    const plugin = new AceCoderPlugin({ services });
    const activities = new Map(Object.entries({ ...configured(plugin).activities, 'preferences.pair': own }));
    await expect(plugin.runWorker({ options: { activities } } as never, () => Promise.resolve())).rejects.toThrow(
      'A plugin after acecoder.AceCoderPlugin replaces the activities preferences.pair.',
    );
  });

  describe('in a workflow bundle', () => {
    const folder = mkdtempSync(join(tmpdir(), 'acecoder-bundle-'));
    // Modules are found from where the entry stands.
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'));
    afterAll(() => rmSync(folder, { recursive: true }));
    const bundle = async (part: Exclude<Part, 'sandbox'>, code: string): Promise<string> => {
      const path = join(folder, `${part}-${code.length}.ts`);
      writeFileSync(path, code);
      const errors: string[] = [];
      const logger = new DefaultLogger('ERROR', ({ message }) => errors.push(message));
      try {
        return (
          await bundleWorkflowCode({ workflowsPath: path, logger, plugins: [new AceCoderPlugin({ part, services })] })
        ).code;
      } catch (error) {
        throw new Error([(error as Error).message, ...errors].join('\n'), { cause: error });
      }
    };

    it('stands beside other workflows', async () => {
      expect(
        await bundle(
          'all',
          `export * from ${JSON.stringify(workflowsPath.all)};\nexport async function greet() { return 'hello'; }\n`,
        ),
      ).toContain('greet');
    });

    it('is not hidden by a workflow of the same name', async () => {
      const hiding = [
        `export * from ${JSON.stringify(workflowsPath.all)};`,
        `export async function sampling() { return 'another'; }`,
        '',
      ].join('\n');
      await expect(bundle('all', hiding)).rejects.toThrow(
        /The workflow 'sampling' of acecoder-temporal is hidden by one of the same name in .*rename that one/,
      );
    });

    it('is built once for a home, and anew when a source or a version changes', async () => {
      const cache = join(folder, 'cache');
      const { code } = await workflowBundle(cache, services);
      const [name] = readdirSync(cache);
      expect(readFileSync(join(cache, name!), 'utf8')).toBe(code);
      writeFileSync(join(cache, name!), 'what the first one left');
      expect(await workflowBundle(cache, services)).toEqual({ code: 'what the first one left' });
      renameSync(join(cache, name!), join(cache, 'of-other-sources.js'));
      expect(await workflowBundle(cache, services)).toEqual({ code });
      expect(readdirSync(cache)).toEqual([name]);
    });

    it('leaves the names of other parts alone', async () => {
      await bundle(
        'data',
        [
          `export * from ${JSON.stringify(workflowsPath.data)};`,
          `export async function evaluation() { return 'of cakes'; }`,
          '',
        ].join('\n'),
      );
    });
  });
});

describe('docs/how-to/own-cluster.md', () => {
  const page = readFileSync(join(root, 'docs/how-to/own-cluster.md'), 'utf8');
  const rows = page.split('\n').filter((line) => line.startsWith('| '));

  it('names every workflow, part, queue, activity and search attribute', () => {
    for (const workflow of WORKFLOWS)
      expect(
        rows.filter((row) => row.startsWith(`| \`${workflow}\` |`)),
        workflow,
      ).toHaveLength(1);
    for (const part of Object.keys(PARTS))
      expect(
        rows.some((row) => row.startsWith(`| \`${part}\` |`)),
        part,
      ).toBe(true);
    for (const [role, queue] of Object.entries(QUEUES))
      expect(
        rows.some((row) => row.startsWith(`| \`${role}\` | \`${queue}\``)),
        role,
      ).toBe(true);
    for (const role of roles) {
      const named = rows.filter((row) => row.startsWith(`| \`${role}\` | \``)).join('\n');
      const expected = Object.entries(ACTIVITIES)
        .filter(([, on]) => on === role)
        .map(([name]) => name);
      expect([...named.matchAll(/`(\w+\.\w+)`/g)].map(([, name]) => name).sort(), role).toEqual(expected.sort());
    }
    for (const [name, type] of Object.entries(SEARCH_ATTRIBUTES)) expect(page).toContain(`\`${name}\` (${type})`);
  });

  it('leads to a page that names every variable that workers read', () => {
    expect(page).toContain('(../reference/environment.md#workers)');
    const environment = readFileSync(join(root, 'docs/reference/environment.md'), 'utf8');
    const workers = environment.slice(environment.indexOf('## Workers'), environment.indexOf('## Which variables'));
    const sources = ['activities', 'workers']
      .flatMap((room) =>
        readdirSync(join(root, room), { recursive: true, encoding: 'utf8' }).map((name) => join(root, room, name)),
      )
      .filter((file) => /(?<!\.test)\.ts$|workers\/client\/\w+\.py$/.test(file));
    const read = new Set(
      sources.flatMap((file) =>
        [...readFileSync(file, 'utf8').matchAll(/\bACECODER_[A-Z0-9_]*[A-Z0-9]/g)].map(([name]) => name),
      ),
    );
    read.delete('ACECODER_S3');
    // What a worker itself gives to the model runtime of a gang's member.
    read.delete('ACECODER_GANG');
    expect([...read].filter((name) => !workers.includes(`\`${name}\``))).toEqual([]);
    expect(
      [...workers.matchAll(/`(ACECODER_\w+)`/g)].map(([, name]) => name!).filter((name) => !read.has(name)),
    ).toEqual([]);
  });
});
