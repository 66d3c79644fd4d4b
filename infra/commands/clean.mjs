// npm run clean: stops a running stack and its workers, and removes ACECODER_HOME. What is installed stays:
// node_modules and the user's cache folder.
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, relative } from 'node:path';
import { cache, home, root } from '../setup/paths.mjs';
import { isAlive, readJson, stopProcess, withLock } from '../setup/processes.mjs';

const folder = home();
if (!existsSync(folder)) {
  console.log(`Nothing to remove: there is no ${folder}.`);
  process.exit(0);
}
// A mistyped ACECODER_HOME must not cost more than the project's own files.
if ([root, homedir()].some((path) => !relative(folder, path).startsWith('..'))) {
  console.error(`ACECODER_HOME is ${folder}, which holds more than this project's state: remove it by hand.`);
  process.exit(1);
}

await withLock(join(folder, 'stack.lock'), async () => {
  const running = { workers: readJson(join(folder, 'workers.json')), ...readJson(join(folder, 'stack.json')) };
  for (const [name, identity] of Object.entries(running)) {
    if (!identity || !isAlive(identity)) continue;
    await stopProcess(identity, identity.graceMs);
    for (const socket of identity.sockets ?? []) rmSync(socket, { force: true });
    console.log(`stopped ${name} (process ${identity.pid})`);
  }
  const names = readdirSync(folder).filter((name) => !name.startsWith('stack.'));
  rmSync(folder, { recursive: true, force: true });
  console.log(`removed ${folder} (${names.join(', ')})`);
});
console.log(`left: node_modules, and the tools that all checkouts share in ${cache()}`);
