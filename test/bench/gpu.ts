/** `npm run bench:gpu`: throughput and memory of the runtime's operations on the CUDA device of this host. */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { root, venvPython } from '../../infra/dev/paths.mjs';
import { report, type Measure } from './table.js';

const HELP = `npm run bench:gpu -- [options]

  --sizes NAME  models by billions of parameters: 0.14, 0.5, 1.5 (all; may be given several times); micro needs no GPU
  --json        one JSON object on the last line
  --help        print this`;

function main(): void {
  const { values } = parseArgs({
    options: { sizes: { type: 'string', multiple: true }, json: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  });
  if (values.help) return console.log(HELP);
  const folder = mkdtempSync(join(tmpdir(), 'acecoder-bench-'));
  try {
    const output = join(folder, 'measures.json');
    const { status } = spawnSync(venvPython(), ['-m', 'runtime.bench.throughput', '--output', output, ...(values.sizes ? ['--sizes', ...values.sizes] : [])], {
      stdio: 'inherit', env: { ...process.env, PYTHONPATH: join(root, 'workers') },
    });
    if (status === 0) report('gpu', JSON.parse(readFileSync(output, 'utf8')) as Measure[], values.json);
    else process.exitCode = 1;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

main();
