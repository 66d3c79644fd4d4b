/** Recorded histories replay on the code as it is. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { Worker, bundleWorkflowCode, type WorkflowBundleWithSourceMap } from '@temporalio/worker';
import { beforeAll, describe, expect, it } from 'vitest';
import { workflowsPath } from '../../workers/plugins/acecoder-plugin.js';

const folder = fileURLToPath(new URL('./histories/', import.meta.url));
const names = readdirSync(folder).filter((name) => name.endsWith('.json'));

describe('recorded histories', () => {
  let workflowBundle: WorkflowBundleWithSourceMap;
  beforeAll(async () => {
    workflowBundle = await bundleWorkflowCode({ workflowsPath, logger: { log() {}, trace() {}, debug() {}, info() {}, warn() {}, error() {} } });
  });

  it('exist for the main workflows', () => {
    expect(names).toEqual(expect.arrayContaining(['experiment.json', 'sampling.json', 'rewardModel.json', 'reinforcement.json', 'preferences.json']));
  });

  it.each(names)('%s', async (name) => {
    const text = readFileSync(`${folder}${name}`, 'utf8');
    await expect(Worker.runReplayHistory({ workflowBundle }, JSON.parse(text), name)).resolves.toBeUndefined();
  });
});
