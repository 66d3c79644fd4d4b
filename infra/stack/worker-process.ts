/** The process that runs all workers of the embedded stack: started once a home, found again by its identity. */
import { spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stackEnvironment, type Stack } from './embedded-stack.js';
import { isPackage, venvPython } from '../setup/paths.mjs';
import { identify, isAlive, readJson, stopProcess, writeWhole, type ProcessIdentity } from '../setup/processes.mjs';

/** Time that a worker gets to reach the end of a training step and write a checkpoint. */
const STOP_MS = 70_000;

const file = (home: string): string => join(home, 'workers.json');

/** What Node runs for the workers of a role: compiled in the package, by tsx in a checkout. */
export function workerProgram(role: string): string[] {
  const entry = fileURLToPath(new URL(`../../workers/${role}.${isPackage ? 'js' : 'ts'}`, import.meta.url));
  return isPackage ? [entry] : ['--import', import.meta.resolve('tsx'), entry];
}

/** The running worker process of a home, or undefined. */
export function findWorkers(home: string): ProcessIdentity | undefined {
  const identity = readJson(file(home)) as ProcessIdentity | undefined;
  return identity && isAlive(identity) ? identity : undefined;
}

/** Starts the worker process where none runs. It outlives this process: a closed terminal ends no experiment. */
export function ensureWorkers(stack: Stack): { identity: ProcessIdentity; started: boolean } {
  const running = findWorkers(stack.home);
  if (running) return { identity: running, started: false };
  mkdirSync(join(stack.home, 'logs'), { recursive: true });
  const log = openSync(join(stack.home, 'logs', 'workers.log'), 'a');
  const child = spawn(process.execPath, workerProgram('all'), {
    stdio: ['ignore', log, log],
    detached: true,
    env: { ...stackEnvironment(stack), ACECODER_PYTHON: venvPython() },
  });
  closeSync(log);
  child.unref();
  const identity = child.pid === undefined ? undefined : identify(child.pid);
  if (!identity) throw new Error(`The workers could not be started; see ${join(stack.home, 'logs', 'workers.log')}.`);
  writeWhole(file(stack.home), JSON.stringify(identity));
  return { identity, started: true };
}

/** Stops the worker process of a home and waits for its end; false when none ran. */
export async function stopWorkers(home: string): Promise<boolean> {
  const running = findWorkers(home);
  if (!running) return false;
  await stopProcess(running, STOP_MS);
  return true;
}
