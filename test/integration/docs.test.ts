/**
 * The `sh` blocks of README.md and docs/ that nothing else covers, run as they stand: a page at a time, in its order
 * and in one shell. The shell's folder is an empty one that holds an experiment of the tests' size under the name that
 * the pages use. infra/docs-tools/docs.test.ts checks the other blocks.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { beforeAll, describe, expect, inject, it } from 'vitest';
import { stackEnvironment } from '../../infra/stack/embedded-stack.js';
import { root, temporal, venvPython } from '../../infra/setup/paths.mjs';
import { pages, shellBlocks } from '../fixtures/documentation.js';
import { microExperiment } from '../fixtures/micro-experiment.js';

/** The page whose run of `my-run` the others refer to, and whose block sets up the shell of all of them. */
const FIRST = 'docs/how-to/start-and-steer.md';
const SHELL = /^export PATH=/;

/** What a page must have printed, to know that its commands did what they say. */
const SAID: Record<string, string[]> = {
  [FIRST]: ['evaluation has not started; the patch applies when it does', '**my-run**: ', 'WorkflowId  from-reference'],
  'docs/how-to/own-data.md': ['WorkflowId  own-pairs'],
  'docs/how-to/export.md': ['WorkflowId  export-questions'],
  'docs/how-to/change-tests.md': ['WorkflowId  changed-rules', 'firstChangedRound'],
  'docs/how-to/resume-and-reset.md': ['swept'],
  'docs/tutorials/own-questions.md': ['WorkflowId  my-filter'],
};

const tours = pages()
  .map((page) => ({
    path: page.path,
    blocks: shellBlocks(page)
      .filter(({ coveredBy, reason }) => coveredBy === undefined && reason === undefined)
      .map(({ commands }) => commands),
  }))
  .filter(({ blocks }) => blocks.length > 0)
  .sort((a, b) => Number(b.path === FIRST) - Number(a.path === FIRST));
const shell = tours[0]!.blocks.find((commands) => SHELL.test(commands))!;

/**
 * The development server may refuse to go on telling a history that has just changed. The workflow itself goes on, and
 * `workflow execute` says so by an error. Its result is asked for then.
 */
const EXECUTE = `
temporal() {
  [ "\${1-} \${2-}" = "workflow execute" ] || { command temporal "$@"; return; }
  local said code=0 arguments="$*" id='--workflow-id[ =]([^ ]+)'
  said=$(command temporal "$@" 2>&1) || code=$?
  printf '%s\n' "$said"
  case "$code $said" in
    "0 "*) ;;
    *"displaying history failed"*"branch tokens"*)
      [[ "$arguments" =~ $id ]]
      command temporal workflow result --workflow-id "\${BASH_REMATCH[1]}" ;;
    *) return "$code" ;;
  esac
}
`;

describe('the commands of the documentation', () => {
  const folder = mkdtempSync(join(tmpdir(), 'acecoder-docs-'));

  beforeAll(() => {
    const experiment = microExperiment('my-run', inject('seeds'), inject('model')) as { stages: { sampling: object } };
    // Programs with a seed that no other test uses, so that the experiment still runs when it is steered.
    experiment.stages.sampling = { ...experiment.stages.sampling, seed: 11 };
    mkdirSync(join(folder, 'infra/experiments'), { recursive: true });
    writeFileSync(join(folder, 'infra/experiments/quickstart.json'), JSON.stringify(experiment));
    const bin = join(inject('stack').home, 'bin');
    if (!existsSync(bin)) symlinkSync(dirname(temporal()), bin);
  });

  it('begin with the page that others build on', () => {
    expect(tours[0]!.path).toBe(FIRST);
    expect(shell).toContain('TEMPORAL_CONFIG_FILE');
    expect(Object.keys(SAID).filter((path) => !tours.some((tour) => tour.path === path))).toEqual([]);
  });

  it.each(tours)('of $path work as they stand', { timeout: 280_000 }, async ({ path, blocks }) => {
    const tour = blocks.filter((commands) => commands !== shell).join('');
    const script = `set -euo pipefail\ntrap 'echo "FAILED: $BASH_COMMAND"' ERR\n${EXECUTE}${shell}${tour}`;
    const child = spawn('bash', ['-c', `exec 2>&1\n${script}`], {
      cwd: folder,
      env: stackEnvironment(inject('stack')),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [output] = await Promise.all([text(child.stdout), once(child, 'close')]);
    expect(child.exitCode, output.slice(-4000)).toBe(0);
    for (const said of SAID[path] ?? []) expect(output).toContain(said);
  });
});

describe('the worked example of a method', () => {
  it('gives each token what its rollout has over the mean of the question', { timeout: 120_000 }, () => {
    const page = readFileSync(join(root, 'docs/extend/method.md'), 'utf8');
    const [, code] = /```python\n([\s\S]*?)```/.exec(page)!;
    const folder = mkdtempSync(join(tmpdir(), 'acecoder-method-'));
    writeFileSync(join(folder, 'mine.py'), code!);
    const check = `
import json, torch
from mine import METHOD
from runtime.methods.base import MicroBatch, Round
mask = torch.tensor([[1.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
old = torch.full((2, 2), -1.0, dtype=torch.float64)
rewards = torch.tensor([1.0, 0.0], dtype=torch.float64)
made = METHOD.advantages(Round(rewards, old, old, mask, torch.tensor([0, 0]), 0.0))
logp = old.clone().requires_grad_()
loss = METHOD.loss(MicroBatch(logp, old, old, made.advantage_BT, mask, [2, 1], 2, 0.2, 0.2, 0.0))
loss.value.backward()
print(json.dumps([made.advantage_BT.tolist(), loss.value.item(), logp.grad.tolist()]))
`;
    const { stdout, stderr, status } = spawnSync(venvPython(), ['-c', check], {
      env: { PYTHONPATH: [folder, join(root, 'workers')].join(':'), PYTHONDONTWRITEBYTECODE: '1' },
      encoding: 'utf8',
    });
    expect(status, stderr).toBe(0);
    // The step has three tokens; at the old policy the gradient of a token's loss is its advantage, with the other
    // sign.
    const third = (value: number): unknown => expect.closeTo(value / 3, 9);
    expect(JSON.parse(stdout)).toEqual([
      [
        [0.5, 0.5],
        [-0.5, -0],
      ],
      third(-0.5),
      [
        [third(-0.5), third(-0.5)],
        [third(0.5), third(0)],
      ],
    ]);
  });
});
