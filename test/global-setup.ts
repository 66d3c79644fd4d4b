/** For the whole run: one Temporal server, one store, one worker process with its Python processes, one micro model. */
import { mkdtempSync, writeFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestProject } from 'vitest/node';
import { startStack, stackEnvironment, stopStack } from '../infra/stack/embedded-stack.js';
import { home as acecoderHome, root, venvPython } from '../infra/setup/paths.mjs';
import { checkStore, rememberedStore } from '../infra/setup/store-choice.mjs';
import { checkTemporal } from '../infra/setup/temporal-choice.mjs';
import { createServices } from '../workers/plugins/services.js';
import { workflowBundle } from '../workers/workflow-bundle.js';
import { microModel, microSeeds } from './fixtures/micro-model.js';
import { SHARED_QUEUE } from './fixtures/harness.js';
import { startWorker } from './fixtures/start-worker.js';
import { startSweeper } from './fixtures/start-sweeper.js';

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const home = mkdtempSync(join(tmpdir(), 'acecoder-test-'));
  const sweeper = startSweeper(home);
  const temporal = checkTemporal(process.env['ACECODER_TEST_TEMPORAL']);
  const stack = await startStack({
    home,
    ports: { frontend: 0, ui: 0, store: 0 },
    // The one that npm test -- --store names, or else that of the checkout.
    store: checkStore(process.env['ACECODER_TEST_STORE']) ?? rememberedStore(acecoderHome()),
    // The one that npm test -- --temporal names, or else the dev server.
    ...(temporal ? { temporal } : {}),
    // Low enough that a stage of some dozen shards continues as new, as one of thousands does with a server's default.
    dynamicConfig: { 'limit.historyCount.suggestContinueAsNew': 120 },
  });
  const environment = Object.fromEntries(
    // One thread: the micro model is too small for more, and tests run beside each other.
    Object.entries({
      ...stackEnvironment(stack),
      ACECODER_PYTHON: venvPython(),
      ACECODER_VENV: join(acecoderHome(), 'venv'),
      ACECODER_TORCH_THREADS: '1',
    }).filter((entry): entry is [string, string] => entry[1] !== undefined),
  );
  const seeds = microSeeds(join(root, 'infra/seeds/simple.jsonl'));
  const seedsPath = join(home, 'seeds.jsonl');
  writeFileSync(seedsPath, seeds.map((seed) => `${JSON.stringify(seed)}\n`).join(''));
  const services = createServices({ env: environment, label: 'micro' });
  // Built before the first worker starts, or else each of the first workers builds one.
  const built = workflowBundle(join(home, 'cache', 'workflows'), services);
  const model = await microModel(services.models, seeds, join(acecoderHome(), 'models')).finally(() =>
    services.close(),
  );
  await built;
  const workers = startWorker(SHARED_QUEUE, environment);
  project.provide('stack', stack);
  project.provide('environment', environment);
  project.provide('seeds', seedsPath);
  project.provide('model', model);
  return async () => {
    await workers.stop();
    await stopStack({ home });
    await rm(home, { recursive: true, force: true });
    sweeper.stop();
  };
}
