/** `npm run check:deploy`: renders the Helm chart and holds it against Kubernetes' schemas and the golden files. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { definitions, deployFolder, deployPython } from '../deploy/check/environment.js';
import { FLAG, runCommand } from './command.js';

const HELP = `npm run check:deploy [-- options]

Renders the Helm chart with the values in infra/deploy/check/values, checks it by schemas and by what the chart promises
of every pod, and compares it with the golden files. The first run makes a Python environment of its own. Go downloads
the definitions of KEDA and the Prometheus operator; without Go, their kinds are not checked.

  --write   write the golden files anew
  --help    print this`;

runCommand({
  help: HELP,
  options: { write: FLAG },
  words: false,
  run: ({ values }) => {
    const fetched = definitions();
    if ('reason' in fetched)
      console.log(`Kinds of KEDA and the Prometheus operator are NOT CHECKED: ${fetched.reason}`);
    const crds = 'paths' in fetched ? ['--crds', ...fetched.paths] : [];
    const args = [join(deployFolder, 'chart.py'), ...(values.write ? ['--write'] : []), ...crds];
    return Promise.resolve(spawnSync(deployPython(), args, { stdio: 'inherit' }).status ?? 1);
  },
});
