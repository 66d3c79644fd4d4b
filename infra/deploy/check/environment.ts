/** The Python environment that renders and checks the chart. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lockedPython } from '../../setup/locked-python.js';
import { home } from '../../setup/paths.mjs';

export const deployFolder = fileURLToPath(new URL('.', import.meta.url));

/** The interpreter of the environment, which is made where it is not there: 350 MB. */
export function deployPython(): string {
  return lockedPython(join(home(), 'deploy-check'), join(deployFolder, 'requirements.lock'));
}
