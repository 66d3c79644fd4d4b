/** What a newcomer meets: the committed state in an empty folder, with an empty home and empty caches. */
import { execFileSync, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createWriteStream, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, isAbsolute, join } from 'node:path';
import { isExecutable, root } from '../../infra/setup/paths.mjs';
import { endAll, findMarked } from '../../infra/setup/processes.mjs';

/** What set-up would take from this machine instead of installing it. */
const HIDDEN = ['uv', 'uvx', 'bwrap', 'temporal', 'minio', 'weed'];
const GO = ['go', 'gofmt'];
/** Of this machine's variables, how registries are reached and nothing else. */
const KEPT = /CERT|_CA_|CAINFO|CA_BUNDLE|PROXY|^PIP_|^LANG$/i;
const MARK = 'ACECODER_TEST_CLONE';

/** A clone with a home and a PATH of its own; `remove` ends what it has started and removes it. */
export interface Clone {
  /**
   * Runs a command in the clone, and writes its output to a log file.
   *
   * @returns seconds until the output holds `until`, or until the end; and the exit code, undefined where it was ended.
   */
  run: (command: string, log: string, until?: string) => Promise<{ seconds: number; code: number | undefined }>;
  remove: () => Promise<void>;
}

/**
 * Clones the last commit into an empty folder.
 *
 * @example
 * const clone = freshClone({ go: false });
 * const { seconds } = await clone.run('npm run quickstart', '/tmp/quickstart.log', 'Started the experiment');
 * await clone.remove();
 */
export function freshClone(options: { go: boolean }): Clone {
  const folder = mkdtempSync(join(tmpdir(), 'acecoder-clone-'));
  const [bin, home, checkout] = ['bin', 'home', 'checkout'].map((name) => join(folder, name)) as [
    string,
    string,
    string,
  ];
  mkdirSync(bin);
  mkdirSync(home);
  const hidden = new Set(options.go ? HIDDEN : [...HIDDEN, ...GO]);
  for (const path of (process.env['PATH'] ?? '').split(delimiter)) {
    // npm puts the programs of this checkout on PATH, which a newcomer has not.
    if (!isAbsolute(path) || !existsSync(path) || path.includes('node_modules')) continue;
    for (const name of readdirSync(path))
      if (!hidden.has(name) && isExecutable(join(path, name)) && !existsSync(join(bin, name)))
        symlinkSync(join(path, name), join(bin, name));
  }
  execFileSync('git', ['clone', '--quiet', root, checkout]);
  const mark = randomUUID();
  const env = {
    ...Object.fromEntries(Object.entries(process.env).filter(([name]) => KEPT.test(name))),
    ...{ PATH: bin, HOME: home, TERM: 'dumb', CI: 'true', [MARK]: mark },
  };
  const end = (): Promise<void> => endAll(() => findMarked(MARK, mark), 20_000);
  return {
    run: async (command, log, until) => {
      const started = performance.now();
      const output = createWriteStream(log);
      const child = spawn('sh', ['-c', `exec ${command}`], { cwd: checkout, env, stdio: ['ignore', 'pipe', 'pipe'] });
      const exited = once(child, 'close').then(([code]) => code as number);
      const told = new Promise<undefined>((resolve) => {
        let text = '';
        for (const stream of [child.stdout, child.stderr])
          stream.on('data', (chunk: Buffer) => {
            output.write(chunk);
            text += chunk.toString();
            if (until !== undefined && text.includes(until)) resolve(undefined);
          });
      });
      const code = await Promise.race([exited, told]);
      const seconds = (performance.now() - started) / 1000;
      // Stopped as a user would stop it; it ends its servers and workers itself.
      child.kill('SIGTERM');
      await exited;
      await end();
      output.end();
      return { seconds, code };
    },
    remove: async () => {
      await end();
      // Go writes its modules without permission to remove them.
      execFileSync('chmod', ['-R', 'u+w', folder]);
      rmSync(folder, { recursive: true, force: true });
    },
  };
}
