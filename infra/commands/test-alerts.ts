/** `npm run test:alerts`: each alert of the Prometheus rules, provoked. It builds promtool where it is not there. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { makeShared } from '../setup/jobs.mjs';
import { root } from '../setup/paths.mjs';
import { findGo, goOptions, goPrograms } from '../setup/programs.mjs';
import { runCommand, type CommandLine } from './command.js';

const OPTIONS = { only: { type: 'string' } } as const;

const HELP = `npm run test:alerts [-- --only WORDS]

Provokes the fault of each alert in infra/deploy/prometheus on real workers, and evaluates the rules on what was scraped.
The first run builds promtool by Go 1.26 or newer, in 3 minutes of CPU time; without Go the test is skipped.

  --only WORDS  the tests whose names hold these words, such as --only 'a disk'`;

async function run({ values: { only } }: CommandLine<typeof OPTIONS>): Promise<number> {
  const { isBuilt, folder, packages } = goPrograms('prometheus');
  const go = findGo();
  if (!isBuilt && go.reason !== undefined) {
    console.log(`SKIPPED: no alert is tested, because promtool is built by Go 1.26 or newer, and ${go.reason}.`);
    return 0;
  }
  if (!isBuilt && go.reason === undefined)
    await makeShared(
      folder,
      () => goPrograms('prometheus').isBuilt,
      (draft) => {
        console.log(`building ${packages.join(' ')} ...`);
        const { env } = goOptions();
        // Without the service discoveries, which the rules do not need, it takes a third of the time.
        const args = ['install', '-tags', 'remove_all_sd', '-trimpath', '-ldflags', '-s -w', ...packages];
        const { status } = spawnSync(go.path, args, { env: { ...env, GOBIN: draft }, cwd: draft, stdio: 'inherit' });
        if (status !== 0) throw new Error(`promtool was not built: go ended with ${status}.`);
        return Promise.resolve();
      },
    );
  const args = ['run', 'test/long/alerts.test.ts', ...(only === undefined ? [] : ['-t', only])];
  return spawnSync(join(root, 'node_modules/.bin/vitest'), args, { cwd: root, stdio: 'inherit' }).status ?? 1;
}

runCommand({ help: HELP, options: OPTIONS, words: false, run });
