/** References of benchmarks are kept as they are made: what a kill costs. */
import { describe, expect, it } from 'vitest';
import { Manifest, type ManifestFile, type Producer, type ReferenceRow } from '../../workflows/contract/index.js';
import { refOf } from '../artifacts/manifests.js';
import { referencesOf, type ReferenceTask } from './references.js';

const PRODUCER: Producer = {
  ...{ workflowId: 'w', runId: 'r', activity: 'evaluation.prepare', attempt: 1, host: 'h', package: 'p' },
  versions: {},
};

/** A store in memory, as far as references need one. */
function memoryStore() {
  const documents = new Map<string, unknown>();
  const files = new Map<string, unknown[]>();
  const manifests = new Map<string, Manifest>();
  const store = {
    getJson: (key: string) => Promise.resolve(documents.get(key)),
    putJson: (key: string, value: unknown) => Promise.resolve(documents.set(key, value)),
    putRows: (name: string, _schema: unknown, rows: Iterable<unknown>): Promise<ManifestFile> => {
      const sha256 = String(files.size).padStart(64, '0');
      files.set(sha256, [...rows]);
      return Promise.resolve({ name, sha256, bytes: 1, encoding: 'gzip' as const });
    },
    async *readRows(read: readonly ManifestFile[]) {
      for (const { sha256 } of read) yield* files.get(sha256)!;
    },
    findManifest: (key: string) => Promise.resolve(manifests.get(key)),
    commit: (draft: object) => {
      const about = { schema: 1, digest: 'd'.repeat(64), bytes: 1, createdAt: '', producer: PRODUCER };
      const manifest = Manifest.parse({ ...about, ...draft });
      manifests.set(refOf(manifest).key, manifest);
      return Promise.resolve({ manifest, won: true });
    },
  };
  return { store: store as never, files };
}

/** A sandbox that answers suites, and is lost at a call. */
function sandboxLostAt(lost: number) {
  const asked: string[] = [];
  let calls = 0;
  const sandbox = {
    versions: () => Promise.resolve({ harness: '1', python: '3', importPolicy: '1', calibrationSeconds: '1' }),
    call: (_name: string, { jobs }: { jobs: { id: string }[] }) => {
      if ((calls += 1) === lost) return Promise.reject(new Error('killed'));
      asked.push(...jobs.map(({ id }) => id));
      const suites = [{ status: 'answers', answers: '[]', slowest: 0.1 }];
      return Promise.resolve({ answers: jobs.map(({ id }) => ({ id, suites })) });
    },
  };
  return { sandbox: sandbox as never, asked };
}

const tasks = Array.from({ length: 80 }, (_, at): ReferenceTask => {
  const suite = { suite: '[[1]]', task: `t/${at}`, entryPoint: 'f', rules: '0.3.1' as const, atol: 0 };
  return { id: `t/${at}`, reference: 'def f(x):\n    return x', tests: [suite] };
});
const LIMITS = { cpuSeconds: 10, memoryBytes: 1e9 };

describe('references of a benchmark', () => {
  it('that were made before a kill are not made again', async () => {
    const { store, files } = memoryStore();
    const first = sandboxLostAt(3);
    await expect(referencesOf({ store, sandbox: first.sandbox }, tasks, PRODUCER, LIMITS)).rejects.toThrow('killed');
    expect(first.asked).toHaveLength(64);
    const second = sandboxLostAt(-1);
    const done: number[] = [];
    const options = { ...LIMITS, onProgress: (of: number) => done.push(of) };
    await referencesOf({ store, sandbox: second.sandbox }, tasks, PRODUCER, options);
    expect(second.asked).toEqual(tasks.slice(64).map(({ id }) => id));
    expect(done).toEqual([32, 64, 80]);
    const rows = [...files.values()].at(-1) as ReferenceRow[];
    expect(rows.map(({ taskId }) => taskId)).toEqual(tasks.map(({ id }) => id));
  });
});
