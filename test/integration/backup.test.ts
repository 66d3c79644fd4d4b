/** A backup of servers that run, made in the middle of a stage, restored into a fresh stack: the open run goes on. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { describe, expect, inject, it } from 'vitest';
import { storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { backUpDatabase, backUpStore, restoreDatabase, restoreStore } from '../../infra/commands/backup-files.js';
import { stackEnvironment, startStack, stopStack } from '../../infra/stack/embedded-stack.js';
import type { StageResult } from '../../workflows/contract/index.js';
import { artifactStore, breakingStore, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { programsFile } from '../fixtures/programs.js';
import { until } from '../fixtures/until.js';

describe('a backup', () => {
  it('of a run in the middle of a stage goes on in a fresh stack, and gives the same digest', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'acecoder-backup-'));
    const [home, copy] = [join(folder, 'home'), join(folder, 'copy')];
    const queue = `backup-${randomUUID().slice(0, 8)}`;
    const environment = { ...inject('environment'), ACECODER_S3_PREFIX: queue };
    // The third shard's document cannot be written as long as this holds.
    let isHeld = true;
    const holding = await breakingStore(
      ({ method, url = '' }) => isHeld && method === 'PUT' && /shards\/[0-9a-f]{64}\/000002/.test(url),
    );
    const endpoint = holding.environment['ACECODER_S3_ENDPOINT']!;
    const worker = workerProcess(queue, { ...environment, ACECODER_S3_ENDPOINT: endpoint }, 'pipeline');
    const store = artifactStore(environment);
    const config = { shardSize: 1, execution: { window: 1 } };
    const inputs = { programs: { kind: 'programs', path: programsFile(folder) } };
    try {
      const handle = await startWorkflow('preferences', { inputs, config }, { taskQueue: queue, id: queue });
      await until(
        async () => (await store.list('shards/')).length,
        (shards) => shards === 2,
      );
      await backUpDatabase(inject('stack').home, copy);
      const complete = await backUpStore(storeOptionsFromEnvironment(environment, copy), copy);
      expect(complete.documents).toBeGreaterThan(2);
      isHeld = false;
      const { ref } = (await handle.result()) as StageResult;

      // Somewhere else, from the copy alone.
      await restoreDatabase(copy, home);
      const stack = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 } });
      const restored: Record<string, string> = { ...environment };
      for (const [name, value] of Object.entries(stackEnvironment(stack))) if (value) restored[name] = value;
      const other = artifactStore(restored);
      await restoreStore(copy, storeOptionsFromEnvironment(restored, copy));
      expect(await other.list('shards/')).toHaveLength(2);
      expect(await other.findManifest(ref.key)).toBeUndefined();
      const successor = workerProcess(queue, restored, 'pipeline');
      const connection = await Connection.connect({ address: stack.address });
      try {
        const { workflow } = new Client({ connection, namespace: stack.namespace });
        const again = (await workflow.getHandle(queue).result()) as StageResult;
        expect(again.ref).toEqual(ref);
        expect(await other.list('shards/')).toHaveLength(6);
      } finally {
        await connection.close();
        await successor.stop();
      }
      await expect(restoreDatabase(copy, home)).rejects.toThrow('restore into a fresh home');
      rmSync(join(copy, 'complete.json'));
      await expect(restoreStore(copy, storeOptionsFromEnvironment(restored, copy))).rejects.toThrow('no whole backup');
    } finally {
      await worker.stop();
      holding.close();
      await stopStack({ home });
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
