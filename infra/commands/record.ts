/** `npm run histories`, `npm run pictures`: records from real runs, on a stack of their own that is gone afterwards. */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { root } from '../setup/paths.mjs';
import { onEndSignal, withoutTemporal } from '../setup/processes.mjs';

const RECORDS: Record<string, string> = {
  histories: `npm run histories

Runs the micro experiment in its main forms and every other workflow, and writes their histories to
test/replay/histories, without host names and paths of this machine. The replay test replays them.`,
  pictures: `npm run pictures

Runs the micro experiment and writes pictures of its report and of its page in Temporal UI, as Chromium
shows them, to docs/pictures. CHROMIUM names the browser where it is not chromium on PATH.`,
};

const [name = '', ...options] = process.argv.slice(2);
const help = RECORDS[name];
if (help === undefined) {
  console.error(
    `There is nothing called ${JSON.stringify(name)} to record; known are ${Object.keys(RECORDS).join(', ')}.`,
  );
  process.exitCode = 2;
} else if (options.includes('--help')) console.log(help);
else {
  const child = spawn(
    join(root, 'node_modules/.bin/vitest'),
    ['run', '--config', 'test/record/vitest.config.ts', `test/record/${name}.record.ts`],
    {
      cwd: root,
      stdio: 'inherit',
      env: withoutTemporal(),
    },
  );
  onEndSignal((signal) => child.kill(signal));
  child.once('exit', (code) => {
    process.exitCode = code ?? 1;
  });
}
