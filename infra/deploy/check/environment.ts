/** What renders and checks the chart: a Python environment, and definitions of other projects' kinds. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lockedPython } from '../../setup/locked-python.js';
import { home } from '../../setup/paths.mjs';
import { findGo, goOptions } from '../../setup/programs.mjs';

export const deployFolder = fileURLToPath(new URL('.', import.meta.url));

/** The interpreter of the environment, which is made where it is not there: 350 MB. */
export function deployPython(): string {
  return lockedPython(join(home(), 'deploy-check'), join(deployFolder, 'requirements.lock'));
}

/** Modules of Go with definitions of kinds that the chart uses: Apache-2.0, and read where Go keeps them. */
const DEFINITIONS: Record<string, string> = {
  'github.com/kedacore/keda/v2@v2.21.0': 'config/crd/bases/keda.sh_scaledobjects.yaml',
  'github.com/prometheus-operator/prometheus-operator@v0.85.0':
    'example/prometheus-operator-crd/monitoring.coreos.com_podmonitors.yaml',
};

/**
 * The files with the definitions of kinds of KEDA and the Prometheus operator, which Go downloads once (30 MB).
 *
 * @returns `reason` where they cannot be had: no Go, or no network.
 */
export function definitions(): { paths: string[] } | { reason: string } {
  const go = findGo();
  if (go.reason !== undefined) return { reason: go.reason };
  const paths: string[] = [];
  for (const [module, path] of Object.entries(DEFINITIONS)) {
    const { stdout } = spawnSync(go.path, ['mod', 'download', '-json', module], { ...goOptions(), encoding: 'utf8' });
    const { Dir: folder, Error: error } = JSON.parse(stdout || '{}') as { Dir?: string; Error?: string };
    if (folder === undefined) return { reason: `Go does not get ${module}: ${error ?? 'it says nothing'}` };
    paths.push(join(folder, path));
  }
  return { paths };
}
