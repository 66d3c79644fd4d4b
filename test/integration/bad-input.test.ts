/** Bad inputs that only a look-up can tell: refused at once, all mistakes together, and nothing is stored. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import { badInputs, printedFor } from '../../infra/docs-tools/bad-input.js';
import { BrokenLineRow } from '../../activities/experiment/import-artifact.js';
import type { ArtifactRef } from '../../workflows/contract/index.js';
import { artifactStore, failureOf, startWorkflow, workerProcess } from '../fixtures/harness.js';
import { programsFile } from '../fixtures/programs.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-bad-input-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** Refused work goes to a queue and a prefix of its own, where no other test stores anything. */
const taskQueue = 'bad-input';
const environment = { ...inject('environment'), ACECODER_S3_PREFIX: 'bad-input/' };
let worker: ReturnType<typeof workerProcess>;
beforeAll(() => {
  worker = workerProcess(taskQueue, environment);
});
afterAll(() => worker.stop());

const refused = async (type: string, input: unknown): ReturnType<typeof failureOf> =>
  failureOf(await startWorkflow(type, input, { taskQueue }));
const stored = (): Promise<Set<string>> => artifactStore(environment).keys('');

function file(name: string, ...lines: unknown[]): string {
  const path = join(folder, name);
  writeFileSync(path, lines.map((line) => `${typeof line === 'string' ? line : JSON.stringify(line)}\n`).join(''));
  return path;
}

const seed = {
  id: 'own/one',
  source: 'own',
  code: 'def one(n: int) -> int:\n    """Return one more than n."""\n    return n + 1\n',
};

describe('the table of bad inputs, looked up', () => {
  it.each(badInputs().filter(({ lookedUp }) => lookedUp))(
    '$workflow refuses $title as documented, and stores nothing',
    async (each) => {
      expect(await refused(each.workflow, each.input)).toEqual({
        type: 'InvalidExperiment',
        message: printedFor(each),
      });
      expect(await stored()).toEqual(new Set());
    },
  );

  it('what the input alone tells is refused by the running workflow with the same words', async () => {
    for (const title of [
      'an unknown preset, and a mistake beside it',
      'held-out questions that are not given',
      'a negative age',
    ]) {
      const each = badInputs().find((one) => one.title === title)!;
      expect(await refused(each.workflow, each.input)).toEqual({
        type: 'InvalidExperiment',
        message: printedFor(each),
      });
    }
  });
});

describe('files', () => {
  const refusal = async (path: string): Promise<string> =>
    (
      await refused('experiment', {
        name: 'wrong',
        seeds: { kind: 'seeds', path },
        models: { policy: { kind: 'folder', path: '/nowhere/model' } },
      })
    ).message;

  it('with wrong lines are refused with each line and field, beside the model that is not there', async () => {
    const message = await refusal(file('seeds.jsonl', seed, { ...seed, code: '' }, '{"id": ', { ...seed, extra: 1 }));
    expect(message.split('\n')[0]).toBe('the input of experiment has 4 mistakes');
    expect(message).toContain('seeds.path: line 2: code: ');
    expect(message).toContain('seeds.path: line 3: no JSON');
    expect(message).toMatch(/seeds\.path: line 4: .*extra/);
    expect(message).toContain('models.policy: there is no model folder /nowhere/model on the GPU worker');
    expect(await stored()).toEqual(new Set());
  });

  it('may have lines that are dropped, counted, and kept with their reasons', async () => {
    const path = file('some-broken.jsonl', seed, { ...seed, code: '' }, '{"id": ', 'caf\u00e9', {
      ...seed,
      code: 'def one():\n    return 2\n',
    });
    const { ref } = (await (
      await startWorkflow('synthesis', {
        inputs: { seeds: { kind: 'seeds', path, brokenLines: 'drop' } },
        config: { decontaminate: [] },
      })
    ).result()) as { ref: ArtifactRef };
    const store = artifactStore();
    const { inputs } = await store.manifest(ref);
    const { metrics, files } = await store.manifest(inputs['seeds'] as ArtifactRef);
    expect(metrics).toEqual({ dropped: { brokenLine: 4 } });
    const broken = [];
    for await (const row of store.readRows(
      files.filter(({ name }) => name === 'brokenLines.jsonl'),
      BrokenLineRow,
    ))
      broken.push(row);
    expect(broken).toEqual([
      { line: 2, reason: expect.stringMatching(/^code: /), text: JSON.stringify({ ...seed, code: '' }) },
      { line: 3, reason: 'no JSON', text: '{"id": ' },
      { line: 4, reason: 'no JSON', text: 'caf\u00e9' },
      {
        line: 5,
        reason: "id: 'own/one' is that of another seed in line 1; give each seed an id of its own",
        text: expect.stringContaining('return 2'),
      },
    ]);
  });

  it('that hold nothing but wrong lines are not told line by line to the end', async () => {
    const message = await refusal(
      file('programs.jsonl', ...Array.from({ length: 50 }, (_, index) => ({ program: index }))),
    );
    expect(message.split('\n')).toHaveLength(1 + 5 + 1);
  });
});

describe('references', () => {
  it('of another kind or another content than they say are refused', async () => {
    const path = programsFile(folder);
    const { ref } = (await (
      await startWorkflow('preferences', {
        inputs: { programs: { kind: 'programs', path } },
        config: { salt: 'references' },
      })
    ).result()) as { ref: ArtifactRef };
    expect(ref.kind).toBe('pairs');
    const refusal = async (wrong: ArtifactRef): Promise<string> =>
      (await failureOf(await startWorkflow('preferences', { inputs: { programs: wrong }, config: {} }))).message;
    expect(await refusal({ ...ref, kind: 'programs' })).toContain(
      `inputs.programs.key: ${ref.key} is of kind 'pairs', the reference says 'programs' (is "${ref.key}")`,
    );
    const backbone = { kind: 'folder', path: inject('model') };
    const { message } = await failureOf(
      await startWorkflow('rewardModel', {
        inputs: { pairs: { ...ref, digest: '0'.repeat(64) }, backbone },
        config: {},
      }),
    );
    expect(message).toContain(`${ref.key} has digest ${ref.digest}, the reference says ${'0'.repeat(64)}`);
  });
});

describe('a stage alone from a model source', () => {
  it('imports the model first, and evaluates it; the same model as a reference is the same work', async () => {
    const config = { benchmarks: [{ kind: 'humaneval', every: 82, offset: 0 }], samples: 1, maxNewTokens: 8 };
    const evaluate = async (
      policy: unknown,
    ): Promise<{ ref: ArtifactRef; reused: boolean; metrics: { results: { policy: string; tasks: number }[] } }> =>
      (
        await startWorkflow('evaluation', {
          $schema: '../../docs/reference/schemas/evaluation.schema.json',
          inputs: { policies: { mine: policy } },
          config,
        })
      ).result() as never;
    const first = await evaluate({ kind: 'folder', path: inject('model') });
    expect(first.metrics.results).toEqual([
      expect.objectContaining({ policy: 'mine', benchmark: 'humaneval[0::82]', tasks: 2, samples: 1 }),
    ]);
    const { inputs } = await artifactStore().manifest(first.ref);
    expect(inputs['policy:mine']).toMatchObject({ kind: 'model' });
    expect(await evaluate(inputs['policy:mine'])).toMatchObject({ reused: true, ref: first.ref });
    expect(await evaluate({ kind: 'artifact', ref: inputs['policy:mine'] })).toMatchObject({
      reused: true,
      ref: first.ref,
    });
  });
});
