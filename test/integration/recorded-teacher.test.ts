/**
 * The asserts that GPT-4 wrote for HumanEval (`reflexion-gpt4-humaneval-tests`, MIT), replayed by the recorded teacher and
 * judged by the oracle filter. The notice of the data says what holds for the reference solutions.
 */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { root } from '../../infra/dev/paths.mjs';
import type { StageResult } from '../../workflows/contract/index.js';
import { startWorkflow } from '../fixtures/harness.js';

const data = join(root, '../shared/data/reflexion-gpt4-humaneval-tests/gpt4_generated_tests.jsonl');
const missing = !existsSync(data);
if (missing) console.warn(`SKIPPED: the real replies of GPT-4 are not there (${data})`);

const folder = mkdtempSync(join(tmpdir(), 'acecoder-recorded-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Problem {
  task_id: string;
  prompt: string;
  entry_point: string;
  canonical_solution: string;
  solution: string[];
}

function file(name: string, rows: unknown[]): string {
  const path = join(folder, name);
  writeFileSync(path, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return path;
}

describe.skipIf(missing)('GPT-4’s asserts for HumanEval', { timeout: 120_000 }, () => {
  it('are kept and dropped as the notice counts them', async () => {
    const problems = readFileSync(data, 'utf8').trim().split('\n').map((line) => JSON.parse(line) as Problem);
    const seeds = file('seeds.jsonl', problems.map(({ task_id, prompt, canonical_solution }) => ({ id: task_id, source: 'humaneval', code: prompt + canonical_solution })));
    const replies = file('replies.jsonl', problems.map(({ task_id, prompt, entry_point, solution }) => ({
      seedId: task_id, text: JSON.stringify({ question: prompt, signature: `def ${entry_point}(...)`, tests: solution }),
    })));
    const questions = await (await startWorkflow('synthesis', {
      inputs: { seeds: { kind: 'seeds', path: seeds } },
      config: { teacher: { kind: 'recorded', replies: { kind: 'replies', path: replies }, testCases: 5 }, decontaminate: [], shardSize: 32 },
    })).result() as StageResult;
    const filtered = await (await startWorkflow('filtering', {
      inputs: { questions: questions.ref }, config: { minimumTestCases: 1, minimumDistinctOutputs: 1 },
    })).result() as StageResult;
    // The notice counts all 814: 689 hold, 121 fail, 3 raise, 1 times out. Seven are about another function of the problem (10, 38
    // and 50), so the parser rejects them: six of those that hold, and one that raises.
    expect(questions.metrics).toMatchObject({ questions: 164, testCases: 814 - 7, failures: {}, rejectedTests: { wrongFunction: 7 }, costUsd: 0 });
    expect(filtered.metrics).toMatchObject({ testCases: 807, keptTestCases: 689 - 6, droppedTestCases: { assertion_failed: 121, raised: 3 - 1, timeout: 1 } });
  });
});
