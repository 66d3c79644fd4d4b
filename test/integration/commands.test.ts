/**
 * Commands of a checkout as a person types them: `npm run stack -- --detach`, `npm run workers`, `stack:stop`, `clean`.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterAll, describe, expect, inject, it } from 'vitest';
import { home as acecoderHome, root, temporal } from '../../infra/setup/paths.mjs';
import { withoutTemporal } from '../../infra/setup/processes.mjs';

const home = mkdtempSync(join(tmpdir(), 'acecoder-commands-'));
for (const path of [dirname(temporal()), join(acecoderHome(), 'venv')]) symlinkSync(path, join(home, basename(path)));
writeFileSync(join(home, 'store.json'), JSON.stringify({ store: inject('stack').store }));

/** `npm run` in the checkout, on the home of this file and without the Temporal profile of whoever runs the tests. */
function npmRun(...args: string[]): { child: ChildProcess; output: Promise<string> } {
  const child = spawn('npm', ['run', '--silent', ...args], {
    cwd: root,
    env: { ...withoutTemporal(), ACECODER_HOME: home },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = Promise.all([text(child.stdout), text(child.stderr)]).then((parts) => parts.join(''));
  return { child, output };
}

async function ran(...args: string[]): Promise<string> {
  const { child, output } = npmRun(...args);
  const [[code], said] = await Promise.all([once(child, 'exit'), output]);
  expect(code, said).toBe(0);
  return said;
}

describe('the commands of a checkout', { timeout: 120_000 }, () => {
  afterAll(async () => {
    // Without a home the command would set one up.
    if (existsSync(home)) await ran('stack:stop');
    rmSync(home, { recursive: true, force: true });
  });

  it('start the servers and leave them running, serve a queue, and stop what runs', async () => {
    const anyPorts = ['--port', '0', '--ui-port', '0', '--store-port', '0'];
    expect(await ran('stack', '--', '--detach', ...anyPorts)).toContain('npm run stack:stop ends it');
    const workers = npmRun('workers', '--', '--embedded', '--role', 'sandbox');
    let said = '';
    await new Promise<void>((resolve, reject) => {
      workers.child.stdout!.on('data', (chunk: Buffer) => {
        said += chunk.toString();
        if (said.includes('workers of sandbox serve acecoder-sandbox')) resolve();
      });
      workers.child.once('exit', () => reject(new Error(`the workers ended: ${said}`)));
    });
    workers.child.kill('SIGTERM');
    await once(workers.child, 'exit');
    expect(await ran('stack:stop')).toContain('its data stays');
    expect(existsSync(join(home, 'data'))).toBe(true);
  });

  it('remove what was made, and nothing that it only links to', async () => {
    expect(await ran('clean')).toContain(`removed ${home}`);
    expect(existsSync(home)).toBe(false);
    expect(existsSync(temporal())).toBe(true);
  });
});
