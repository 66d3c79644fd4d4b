/** What commands say of their options, as a person types them. */
import { spawnSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { root } from '../setup/paths.mjs';
import { portOf, reasonOf } from './command.js';

function run(command: string, ...args: string[]): { status: number | null; stdout: string; stderr: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', `infra/commands/${command}.ts`, ...args],
    { cwd: root, encoding: 'utf8' },
  );
  return { status, stdout, stderr: stderr.trim() };
}

describe('a command', () => {
  it('prints its help, whatever else is given', () => {
    const { status, stdout } = run('export', 'my-run', '--help');
    expect(status).toBe(0);
    expect(stdout).toMatch(/^npm run export -- WORKFLOW_ID FILE/);
  });

  it('refuses an unknown option with the one that is meant, and words where it takes none', () => {
    expect(run('compare', 'a', 'b', '--polcy', 'x')).toMatchObject({
      status: 1,
      stderr: 'There is no option --polcy; did you mean "--policy"? npm run compare -- --help says which there are.',
    });
    expect(run('workers', 'gpu')).toMatchObject({
      status: 1,
      stderr: "npm run workers takes options alone, and 'gpu' is none.",
    });
  });

  it('says the same of a bench', () => {
    expect(run('bench', 'simulate', '--schedule', '1')).toMatchObject({
      status: 1,
      stderr: expect.stringMatching(/^There is no option --schedule\. npm run \S+ -- --help says which there are\.$/),
    });
    const { status, stderr } = run('bench', 'training', '--only', 'wating');
    expect(status).toBe(1);
    expect(stderr).toMatch(/^--only is wating: the parts are waiting, ahead, .*\.$/);
  });

  it('takes ports that are some, and tells causes', () => {
    expect(['0', '8080', undefined].map((text) => portOf('port', text))).toEqual([0, 8080, undefined]);
    expect(() => portOf('ui-port', '70000')).toThrow('--ui-port is "70000": give a port number from 0 to 65535');
    expect(reasonOf(new Error('fetch failed', { cause: new Error('refused') }))).toBe('fetch failed: refused');
  });
});
