// npm run build: compiles what the package publishes. A workflow bundle takes no TypeScript from node_modules.
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './paths.mjs';

rmSync(join(root, 'dist'), { recursive: true, force: true });
for (const project of ['infra/nvidia-smi-parser', 'infra/tsconfig.build.json']) {
  const { status } = spawnSync(process.execPath, [join(root, 'node_modules/typescript/bin/tsc'), '-p', join(root, project)], { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
