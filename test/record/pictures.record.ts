/**
 * Pictures of what a person sees: the report, and an experiment in Temporal UI when it is done and when it is parked.
 */
import { existsSync, mkdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, expect, inject, it } from 'vitest';
import { findOnPath, root } from '../../infra/setup/paths.mjs';
import { microExperiment } from '../fixtures/micro-experiment.js';
import { startWorkflow, statusWhere } from '../fixtures/harness.js';

const FOLDER = join(root, 'docs/pictures');
const MAXIMUM_BYTES = 250_000;

let browser: Browser;

beforeAll(async () => {
  const executablePath = process.env['CHROMIUM'] ?? findOnPath('chromium');
  if (!executablePath || !existsSync(executablePath))
    throw new Error('Pictures need Chromium: install it (apt-get install chromium), or name it in CHROMIUM.');
  browser = await chromium.launch({
    executablePath,
    args: [
      '--no-sandbox',
      '--disable-gpu',
      '--disable-background-networking',
      '--disable-component-update',
      '--disable-sync',
    ],
  });
  mkdirSync(FOLDER, { recursive: true });
});

afterAll(() => browser?.close());

async function picture(name: string, url: string, shown: string, height: number): Promise<void> {
  const page: Page = await browser.newPage({ viewport: { width: 1400, height } });
  await page.goto(url);
  // Temporal UI asks a worker for the current details after the page has been drawn, and draws them in a frame.
  const shownIn = url.startsWith('file:') ? page : page.frameLocator('iframe').first();
  await shownIn.getByText(shown).first().waitFor({ timeout: 60_000 });
  const path = join(FOLDER, `${name}.png`);
  await page.screenshot({ path });
  await page.close();
  expect(statSync(path).size, `${path} is larger than a README should load`).toBeLessThan(MAXIMUM_BYTES);
}

function experimentPage(workflowId: string, runId: string): string {
  return `${inject('stack').uiUrl ?? ''}/namespaces/default/workflows/${workflowId}/${runId}/user-metadata`;
}

const micro = (name: string): ReturnType<typeof microExperiment> & { stages: Record<string, object> } =>
  microExperiment(name, inject('seeds'), inject('model')) as never;

it('a finished experiment and its report', async () => {
  const handle = await startWorkflow('experiment', micro('my-run'), { id: 'my-run' });
  const { html } = (await handle.result()) as { html: string };
  await picture('report', pathToFileURL(html).href, 'my-run', 1000);
  await picture('experiment', experimentPage('my-run', (await handle.describe()).runId), 'my-run: done', 1100);
});

it('a parked experiment', async () => {
  const experiment = micro('parked-run');
  const handle = await startWorkflow(
    'experiment',
    {
      ...experiment,
      onFailure: 'park',
      stages: { ...experiment.stages, reinforcement: { ...experiment.stages['reinforcement'], promptsPerRound: 1000 } },
    },
    { id: 'parked-run' },
  );
  await statusWhere(handle, ({ state }) => state === 'parked');
  await picture(
    'parked',
    experimentPage('parked-run', (await handle.describe()).runId),
    'reinforcement is parked',
    1100,
  );
  await handle.cancel();
});
