/**
 * How long it takes to follow a figure of the quickstart's report to a seed. A part of `npm run bench:evaluation`.
 *
 * The quickstart runs once, in a home of the bench. Each figure is followed as by a command that was just started: the
 * cache of the store is empty, and nothing is known of any manifest.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createArtifactStore, storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { named } from '../../activities/lineage/target.js';
import { Tracer, type Step } from '../../activities/lineage/trace.js';
import { attachStack, stackEnvironment, stopStack } from '../../infra/stack/embedded-stack.js';
import { stopWorkers } from '../../infra/stack/worker-process.js';
import { home as acecoderHome, root } from '../../infra/setup/paths.mjs';
import type { Measure } from './table.js';

/** The workflow id of the quickstart. */
const EXPERIMENT = 'quickstart';

/** Runs the quickstart in a home, or takes up the one that is there, and leaves its stack running. */
function quickstart(home: string): void {
  mkdirSync(home, { recursive: true });
  for (const name of ['bin', 'venv'])
    if (!existsSync(join(home, name))) symlinkSync(join(acecoderHome(), name), join(home, name));
  const ports = ['--port', '--ui-port', '--store-port'].flatMap((option) => [option, '0']);
  const { status } = spawnSync(
    process.execPath,
    ['--import', import.meta.resolve('tsx'), join(root, 'infra/commands/quickstart.ts'), '--keep', ...ports],
    { stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, ACECODER_HOME: home } },
  );
  if (status !== 0) throw new Error('The quickstart failed; see above.');
}

const flat = (steps: readonly Step[]): Step[] => steps.flatMap((step) => [step, ...flat(step.next)]);

/** The rows of the bench. */
export async function traceMeasures(): Promise<Measure[]> {
  const home = join(acecoderHome(), 'bench', 'quickstart');
  const cache = mkdtempSync(join(tmpdir(), 'acecoder-bench-trace-'));
  quickstart(home);
  try {
    const stack = await attachStack({ home });
    if (!stack) throw new Error('The stack of the quickstart has ended.');
    const environment = stackEnvironment(stack);
    let caches = 0;
    const fresh = (): ReturnType<typeof createArtifactStore> =>
      createArtifactStore(storeOptionsFromEnvironment(environment, join(cache, String((caches += 1)))));
    const listed = await named(fresh(), new Tracer(fresh(), { rows: 1, depth: 1 }), { what: EXPERIMENT });
    const store = fresh();
    const known = new Map<string, boolean>();
    const isThere = async (key: string): Promise<boolean> => {
      known.set(key, known.get(key) ?? (await store.findManifest(key)) !== undefined);
      return known.get(key)!;
    };
    const { figures } = listed.experiment!;
    let slowest = { id: '', seconds: 0 };
    const [seedless, keyless]: [string[], string[]] = [[], []];
    for (const { id } of figures) {
      const started = performance.now();
      const own = fresh();
      const tracer = new Tracer(own, { rows: 1, depth: Infinity });
      const { target } = await named(own, tracer, { what: EXPERIMENT, which: id });
      const steps = flat(await tracer.back(target!));
      const seconds = (performance.now() - started) / 1000;
      if (seconds > slowest.seconds) slowest = { id, seconds };
      if (!steps.some(({ kind, row }) => kind === 'seeds' && row !== undefined)) seedless.push(id);
      for (const { artifact } of steps) if (!(await isThere(artifact))) keyless.push(id);
    }
    const started = performance.now();
    const { status, stderr } = spawnSync(
      process.execPath,
      ['--import', import.meta.resolve('tsx'), join(root, 'infra/commands/trace.ts'), EXPERIMENT, slowest.id],
      { env: { ...process.env, ...environment }, encoding: 'utf8' },
    );
    if (status !== 0) throw new Error(`npm run trace failed: ${stderr}`);
    const whole = (performance.now() - started) / 1000;
    const first = (ids: readonly string[]): string => ids.slice(0, 5).join(' ');
    return [
      { name: "trace: figures of the quickstart's report", value: figures.length, unit: '' },
      {
        name: 'trace: figures that lead to no seed',
        ...{ value: seedless.length, unit: '', bar: 0, at: 'most', note: first(seedless) },
      },
      {
        name: 'trace: figures with a step that no key finds',
        ...{ value: new Set(keyless).size, unit: '', bar: 0, at: 'most', note: first(keyless) },
      },
      { name: 'trace: slowest figure', value: slowest.seconds, unit: 's', bar: 2, at: 'most', note: slowest.id },
      { name: 'trace: the same by the command', value: whole, unit: 's', note: 'with the start of Node' },
    ];
  } finally {
    await stopWorkers(home);
    await stopStack({ home });
    rmSync(cache, { recursive: true, force: true });
  }
}
