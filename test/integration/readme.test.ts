/**
 * Every `sh` block of the README: it is run here, in order and in one shell, or a comment above it names the test that covers it.
 * The shell's folder is an empty one that holds an experiment of the tests' size under the name that the README uses.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { describe, expect, inject, it } from 'vitest';
import { stackEnvironment } from '../../infra/stack/embedded-stack.js';
import { root, temporal } from '../../infra/setup/paths.mjs';
import { microExperiment } from '../fixtures/micro-experiment.js';

interface Block {
  commands: string;
  /** The test that covers what is not run here. */
  coveredBy?: string | undefined;
}

const README = readFileSync(join(root, 'README.md'), 'utf8');
const blocks: Block[] = [...README.matchAll(/(?:<!-- covered by (\S+) -->\n)?```sh\n([\s\S]*?)```/g)].map(
  ([, coveredBy, commands]) => ({ coveredBy, commands: commands! }),
);
const tour = blocks
  .filter(({ coveredBy }) => coveredBy === undefined)
  .map(({ commands }) => commands)
  .join('');

describe('the commands of the README', () => {
  it('are run here or covered by a test that exists', () => {
    expect(blocks).toHaveLength(README.split('```sh').length - 1);
    for (const { coveredBy } of blocks) if (coveredBy) expect(existsSync(join(root, coveredBy)), coveredBy).toBe(true);
    const covered = blocks.filter(({ coveredBy }) => coveredBy !== undefined);
    expect(
      covered
        .flatMap(({ commands }) => commands.trim().split('\n'))
        .map((line) => line.replace(/ +#.*| -- .*| --workflow-id .*/, '')),
    ).toEqual([
      'npm run quickstart',
      'npm test',
      'npm run stack',
      'npm run workers',
      'npm run follow',
      'temporal workflow reset',
      'npm run estimate',
      `ACECODER_GPU_CLASSES='{"train": {"gpus": 8}}' node --import tsx workers/gpu.ts --list`,
      `ACECODER_GPU_CLASSES='{"train": {"gpus": 8}}' node --import tsx workers/gpu.ts`,
    ]);
    for (const command of [
      'start',
      'list',
      'describe',
      'query',
      'metadata',
      'signal',
      'update execute',
      'result',
      'execute',
      'cancel',
    ])
      expect(tour).toContain(`temporal workflow ${command} `);
    for (const command of ['create', 'trigger', 'toggle', 'backfill'])
      expect(tour).toContain(`temporal schedule ${command} `);
  });

  it('work as they stand', { timeout: 280_000 }, async () => {
    const folder = mkdtempSync(join(tmpdir(), 'acecoder-readme-'));
    const experiment = microExperiment('my-run', inject('seeds'), inject('model')) as { stages: { sampling: object } };
    // Programs of its own, so that the experiment still runs when it is steered.
    experiment.stages.sampling = { ...experiment.stages.sampling, seed: 11 };
    mkdirSync(join(folder, 'infra/experiments'), { recursive: true });
    writeFileSync(join(folder, 'infra/experiments/quickstart.json'), JSON.stringify(experiment));
    const stack = inject('stack');
    const bin = join(stack.home, 'bin');
    if (!existsSync(bin)) symlinkSync(dirname(temporal()), bin);
    const script = `set -euo pipefail\ntrap 'echo "FAILED: $BASH_COMMAND"' ERR\n${tour}`;
    const child = spawn('bash', ['-c', `exec 2>&1\n${script}`], {
      cwd: folder,
      env: stackEnvironment(stack),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [output] = await Promise.all([text(child.stdout), once(child, 'close')]);
    expect(child.exitCode, output.slice(-4000)).toBe(0);
    for (const said of [
      'evaluation has not started; the patch applies when it does',
      '**my-run**: ',
      'WorkflowId  from-reference',
    ])
      expect(output).toContain(said);
  });
});
