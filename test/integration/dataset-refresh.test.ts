/** A data set that refreshes every night, by a schedule of the Temporal CLI. Its worker is killed in one night. */
import { randomUUID } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { runTemporalCli } from '../../infra/stack/embedded-stack.js';
import { FilteredQuestionRow, type ArtifactRef } from '../../workflows/contract/index.js';
import { answer, completion, exercise, fakeEndpoint, type FakeEndpoint } from '../fixtures/fake-endpoint.js';
import { Gate } from '../fixtures/gate.js';
import { artifactStore, temporalCli, temporalClient, workerProcess } from '../fixtures/harness.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-refresh-'));
const seedsPath = join(folder, 'seeds.jsonl');
const schedule = `nightly-${randomUUID().slice(0, 8)}`;
const queue = `refresh-${randomUUID().slice(0, 8)}`;
let endpoint: FakeEndpoint;

interface Night {
  version: number;
  added: number;
  total: number;
  dataset: ArtifactRef;
  difference?: {
    added: number;
    changed: number;
    dropped: Record<string, number>;
    statistics: Record<string, { before: number | null; added: number | null }>;
  };
}

/** Seeds `triple_<name>`; with another docstring where the seed of that id has changed. */
function write(names: string[], changed: string[] = []): void {
  writeFileSync(
    seedsPath,
    names
      .map(
        (name) =>
          `${JSON.stringify({
            id: `own/${name}`,
            source: 'own',
            code: [
              `def triple_${name}(n: int) -> int:`,
              `    """Return the number n times three${changed.includes(name) ? ', as a whole number' : ''}."""`,
              '    return 3 * n\n',
            ].join('\n'),
          })}\n`,
      )
      .join(''),
  );
}

/** The nights of the schedule so far, oldest first. */
async function nights(): Promise<{ id: string; status: string }[]> {
  const found: { id: string; status: string; at: Date }[] = [];
  for await (const { workflowId, status, startTime } of (await temporalClient()).workflow.list({
    query: `TemporalScheduledById = '${schedule}' AND WorkflowType = 'datasetRefresh'`,
  })) {
    found.push({ id: workflowId, status: status.name, at: startTime });
  }
  return found.sort((a, b) => a.at.getTime() - b.at.getTime());
}

async function started(count: number): Promise<string> {
  await expect.poll(async () => (await nights()).length).toBe(count);
  return (await nights())[count - 1]!.id;
}

/** Nights of the schedule that were skipped, because the one before still went on. */
const skipped = async (): Promise<number> =>
  (await (await temporalClient()).schedule.getHandle(schedule).describe()).info.numActionsSkippedOverlap;

const result = async (id: string): Promise<Night> =>
  (await temporalClient()).workflow.getHandle(id).result() as Promise<Night>;

async function questionsOf(dataset: ArtifactRef): Promise<Record<string, string>> {
  const found: Record<string, string> = {};
  for await (const { seedId, reference } of artifactStore().rowsOf(dataset, FilteredQuestionRow))
    found[seedId] = reference;
  return found;
}

beforeAll(async () => {
  endpoint = await fakeEndpoint();
});
afterAll(async () => {
  await runTemporalCli(inject('stack'), ['schedule', 'delete', '--schedule-id', schedule]);
  await endpoint.close();
  rmSync(folder, { recursive: true, force: true });
});

describe('a data set that refreshes every night', () => {
  it('asks about new seeds only, survives a killed worker, skips overlapping nights, keeps old versions', async () => {
    const input = JSON.stringify({
      name: schedule,
      seeds: { kind: 'seeds', path: seedsPath },
      synthesis: {
        teacher: { kind: 'openai', model: 'fake' },
        decontaminate: [],
        nearDuplicate: null,
        shardSize: 2,
        execution: {
          window: 1,
          endpoint: { baseUrl: endpoint.url, keyVariable: null, concurrency: 1, prices: { input: 0, output: 0 } },
        },
      },
    });
    await temporalCli(
      'schedule',
      'create',
      '--schedule-id',
      schedule,
      '--cron',
      '0 2 * * *',
      '--time-zone',
      'UTC',
      '--overlap-policy',
      'Skip',
      '--catchup-window',
      '12h',
      '--type',
      'datasetRefresh',
      '--task-queue',
      queue,
      '--workflow-id',
      schedule,
      '--input',
      input,
    );
    const trigger = (): Promise<string> => temporalCli('schedule', 'trigger', '--schedule-id', schedule);
    let worker = workerProcess(queue, undefined, 'without-gpu');
    try {
      write(['a', 'b', 'c']);
      await trigger();
      const first = await result(await started(1));
      expect(first).toMatchObject({
        version: 1,
        added: 3,
        total: 3,
        difference: { added: 3, changed: 0, statistics: { testCases: { before: null, added: 20 } } },
      });
      expect(endpoint.requests).toHaveLength(3);

      // The second night: 12 new seeds, one of the old ones changed; the worker dies in the middle.
      write(['a', 'b', 'c', ...'defghijklmno'], ['c']);
      const killed = new Gate();
      endpoint.behave = ({ name }, response) =>
        endpoint.requests.length > 8
          ? killed.passed().then(() => answer(response, 200, completion(exercise(name))))
          : undefined;
      await trigger();
      const second = await started(2);
      await expect.poll(() => endpoint.requests.length).toBeGreaterThan(8);
      await worker.kill();
      killed.open();
      const inFlight = 1;
      await trigger();
      await expect.poll(skipped).toBe(1);
      expect((await nights()).map(({ status }) => status)).toEqual(['COMPLETED', 'RUNNING']);
      worker = workerProcess(queue, undefined, 'without-gpu');
      expect(await result(second)).toMatchObject({
        version: 2,
        added: 12,
        total: 15,
        difference: { added: 12, changed: 1, statistics: { testCases: { before: 20, added: 20 } } },
      });
      const asked = endpoint.requests.length;
      expect(asked).toBeGreaterThanOrEqual(3 + 13);
      expect(asked).toBeLessThanOrEqual(3 + 13 + inFlight);

      // The third night: nothing but a seed that the oracle's filter has no use for.
      write(['a', 'b', 'c', ...'defghijklmno', 'p'], ['c']);
      endpoint.behave = (_request, response) => {
        response.writeHead(200, { 'content-type': 'text/html' }).end('<html>sorry</html>');
        return Promise.resolve();
      };
      await trigger();
      const third = await result(await started(3));
      expect(third).toMatchObject({ version: 3, added: 0, total: 15 });
      expect(Object.values(third.difference!.dropped).reduce((sum, times) => sum + times, 0)).toBeGreaterThanOrEqual(1);
      expect(endpoint.requests.length).toBe(asked + 1);

      // The seed whose reply cannot be used is seen: the fourth night has nothing to ask.
      await trigger();
      expect(await result(await started(4))).toMatchObject({ version: 3, added: 0, total: 15 });
      expect(endpoint.requests.length).toBe(asked + 1);

      // Older versions are what they were, and the new one holds the changed seed once.
      expect(Object.keys(await questionsOf(first.dataset)).sort()).toEqual(['own/a', 'own/b', 'own/c']);
      expect((await questionsOf(first.dataset))['own/c']).not.toContain('as a whole number');
      expect((await questionsOf(third.dataset))['own/c']).toContain('as a whole number');
    } finally {
      await worker.stop();
    }
  });
});
