/** The card of an export as the hub's own client reads it, next to the table that the runtime writes. */
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { root, venvPython } from '../../infra/setup/paths.mjs';
import { dataCard } from './data-card.js';

const folder = mkdtempSync(join(tmpdir(), 'acecoder-card-'));
afterAll(() => rmSync(folder, { recursive: true }));

const FILE = 'data/train-00000-of-00001.parquet';
const QUESTION = { id: 'q', source: 'own', question: 'Double a number.', tests: ['assert double(1) == 2'] };
const PAIR = { id: 'p', question: 'Double a number.', chosen: 'def f(): ...', rejected: 'def g(): ...' };

/** Writes a table as an export does, and says what the hub's client makes of the folder. */
const SCRIPT = `
import json, sys
from datasets import load_dataset
from runtime.tables import export_table, published_schema
from serve import Call
folder, form, rows = sys.argv[1:]
export_table({"format": form, "rows": rows, "programs": None, "model": None, "output": f"{folder}/${FILE}"},
             Call(1, lambda message: None))
data = load_dataset(folder, cache_dir=f"{folder}/cache")
print(json.dumps({
    "splits": {name: split.num_rows for name, split in data.items()},
    "same": data["train"].features.arrow_schema.remove_metadata() == published_schema(form),
    "first": data["train"][0],
}))
`;

function loaded(format: string, row: object): unknown {
  const place = join(folder, format);
  mkdirSync(join(place, 'data'), { recursive: true });
  const rows = join(folder, `${format}.jsonl`);
  writeFileSync(rows, `${JSON.stringify(row)}\n`);
  writeFileSync(
    join(place, 'README.md'),
    dataCard({ name: 'mine: "a"', format, rows: 1, bytes: 9, file: FILE }, {}, {}),
  );
  const { stdout, stderr, status } = spawnSync(venvPython(), ['-c', SCRIPT, place, format, rows], {
    encoding: 'utf8',
    env: { ...process.env, PYTHONPATH: join(root, 'workers'), HF_HUB_OFFLINE: '1', HF_HOME: join(folder, 'home') },
  });
  if (status !== 0) throw new Error(stderr);
  return JSON.parse(stdout.trim().split('\n').at(-1)!);
}

describe('dataCard', () => {
  it('makes the folder of an export a data set of the hub with the published columns', () => {
    expect(loaded('aceCode87K', QUESTION)).toMatchObject({
      splits: { train: 1 },
      same: true,
      first: { id: 'q', context_messages: [{ content: QUESTION.question, role: 'user' }] },
    });
    expect(loaded('aceCodePair300K', PAIR)).toMatchObject({ splits: { train: 1 }, same: true, first: { id: 'p' } });
  });
});
