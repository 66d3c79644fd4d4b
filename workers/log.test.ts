import { spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { describe, expect, it } from 'vitest';

/** Exit code of a process that prints to a full disk, as loggers print, and then ends with code 7. */
function printing(first: string): number | null {
  // A device that refuses every byte, as a full disk does.
  const full = openSync('/dev/full', 'w');
  const program = `
    ${first}
    for (const stream of [process.stdout, process.stderr]) stream.write('a line\\n');
    setTimeout(() => {
      console.error('another');
      process.stderr.write('a third\\n');
      setTimeout(() => process.exit(7), 10);
    }, 10);`;
  try {
    return spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', program], {
      stdio: ['ignore', full, full],
    }).status;
  } finally {
    closeSync(full);
  }
}

describe('a log that cannot be written', () => {
  it('does not end the process', () => {
    const log = new URL('./log.ts', import.meta.url).href;
    expect(printing(''), 'as Node has it').toBe(1);
    expect(printing(`(await import('${log}')).keepRunningWithoutLog();`)).toBe(7);
  });
});
