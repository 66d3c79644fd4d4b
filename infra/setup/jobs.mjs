// The commands of a set-up: run with their output in log files, stopped together, and ended by the next set-up where
// this one is killed. Node built-ins only.
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import { dirname, join } from 'node:path';
import { home, logs } from './paths.mjs';
import { identify, onEndSignal, readJson, stopProcess, withLock, writeWhole } from './processes.mjs';

/** A command that is stopped has nothing to save: its step starts over. */
const GRACE_MS = 3_000;

/** A problem that the user can solve; its message is shown without a stack. */
export class SetupError extends Error {}

const childrenFile = () => join(home(), 'setup-children.json');

/** The log file of a command. */
export const logOf = (name) => join(logs(), `setup-${name}.log`);

/** Ends what a killed set-up has left running; it would write into the same folders. */
export async function stopLeftOvers() {
  await Promise.all((readJson(childrenFile()) ?? []).map((identity) => stopProcess(identity, GRACE_MS)));
}

/** Makes a folder that all checkouts of a user share: by one of them only, and visible only when it is whole. */
export async function makeShared(folder, isDone, make) {
  await withLock(`${folder}.lock`, async () => {
    if (isDone()) return;
    const draft = `${folder}.draft`;
    fs.rmSync(draft, { recursive: true, force: true });
    fs.mkdirSync(draft, { recursive: true });
    await make(draft);
    fs.rmSync(folder, { recursive: true, force: true });
    fs.renameSync(draft, folder);
  });
}

/** Makes or replaces a symbolic link; at every moment there is a whole one. */
export function link(target, path) {
  fs.mkdirSync(dirname(path), { recursive: true });
  const draft = `${path}.link`;
  fs.rmSync(draft, { force: true });
  fs.symlinkSync(target, draft);
  fs.renameSync(draft, path);
}

/** The commands of one set-up: each in its own process group, its output in a log file; all are stopped together. */
export class Jobs {
  #children = new Map();
  #stopping = false;

  /** Runs a command to its end; throws with the end of its output when it fails. */
  async run(log, command, args, options = {}) {
    if (this.#stopping) throw new SetupError('The set-up was stopped.');
    fs.mkdirSync(logs(), { recursive: true });
    const logFile = logOf(log);
    const output = fs.openSync(logFile, 'w');
    const child = spawn(command, args, { ...options, detached: true, stdio: ['ignore', output, output] });
    fs.closeSync(output);
    // At once: should this process be killed now, the next set-up has to know what it left running.
    this.#remember(child);
    const code = await new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (status, signal) => resolve(status ?? signal));
    });
    this.#children.delete(child.pid);
    if (code === 0) return;
    // npm gives the reason first and ends with advice; the others give it last.
    const lines = fs.readFileSync(logFile, 'utf8').trimEnd().split('\n');
    const shown = lines.length <= 20 ? lines : [...lines.slice(0, 10), '…', ...lines.slice(-10)];
    throw new SetupError(`${command} ${args[0]} failed (${code}); from ${logFile}:\n${shown.join('\n')}`);
  }

  #remember(child) {
    const identity = child.pid && identify(child.pid);
    if (identity) this.#children.set(child.pid, identity);
    writeWhole(childrenFile(), JSON.stringify([...this.#children.values()]));
  }

  async stop() {
    this.#stopping = true;
    await Promise.all([...this.#children.values()].map((identity) => stopProcess(identity, GRACE_MS)));
    fs.rmSync(childrenFile(), { force: true });
  }

  /** Being in groups of their own, the children do not get the terminal's Ctrl-C. Returns what undoes this. */
  stopOnSignals(say) {
    const onSignal = async (signal) => {
      say(`stopped by ${signal}; the next set-up continues`);
      await this.stop();
      process.exit(signal === 'SIGINT' ? 130 : 143);
    };
    return onEndSignal(onSignal);
  }
}
