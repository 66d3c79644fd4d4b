/** `npm run check:deploy`: renders the Helm chart and holds it against Kubernetes' schemas and the golden files. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { deployFolder, deployPython } from '../deploy/check/environment.js';
import { FLAG, runCommand } from './command.js';

const HELP = `npm run check:deploy [-- options]

Renders the Helm chart with the values in infra/deploy/check/values, checks it by Kubernetes' own schemas and by what the
chart promises of every pod, and compares it with the golden files. The first run makes a Python environment of its own.

  --write   write the golden files anew
  --help    print this`;

runCommand({
  help: HELP,
  options: { write: FLAG },
  words: false,
  run: ({ values }) => {
    const args = [join(deployFolder, 'chart.py'), ...(values.write ? ['--write'] : [])];
    return Promise.resolve(spawnSync(deployPython(), args, { stdio: 'inherit' }).status ?? 1);
  },
});
