/**
 * Records histories of finished workflows of the embedded stack as fixtures of the replay test:
 * `node --import tsx infra/dev/record-histories.ts NAME=WORKFLOW_ID...`. Host names, process ids, paths and source
 * locations are taken out; payloads stay, for the replay reads them.
 */
import { writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { attachStack, runTemporalCli } from './embedded-stack.js';
import { home, root } from './paths.mjs';

const SOURCES: [string, string][] = [[home(), '/home/user/.acecoder'], [root, '/home/user/acecoder-temporal'], [hostname(), 'host']];

/** A history without anything that names the machine that it was recorded on. */
export function sanitise(value: unknown, key = ''): unknown {
  if (typeof value === 'string') {
    if (key === 'identity') return 'worker@host';
    if (key === 'stackTrace') return '';
    if (key === 'data') return Buffer.from(replaceSources(Buffer.from(value, 'base64').toString('utf8'))).toString('base64');
    return replaceSources(value);
  }
  if (Array.isArray(value)) return value.map((item) => sanitise(item));
  if (typeof value === 'object' && value !== null) return Object.fromEntries(Object.entries(value).map(([name, member]) => [name, sanitise(member, name)]));
  return value;
}

function replaceSources(text: string): string {
  return SOURCES.reduce((replaced, [from, to]) => replaced.replaceAll(from, to), text);
}

const stack = await attachStack({ home: home() });
if (!stack) throw new Error('The embedded stack does not run; npm run stack starts it.');
for (const argument of process.argv.slice(2)) {
  const [name, workflowId] = argument.split('=');
  if (!name || !workflowId) throw new Error(`${argument}: give NAME=WORKFLOW_ID`);
  const { stdout, stderr, code } = await runTemporalCli(stack, ['workflow', 'show', '--workflow-id', workflowId, '--output', 'json']);
  if (code !== 0) throw new Error(`${workflowId}: ${stderr.trim()}`);
  writeFileSync(join(root, 'test/replay/histories', `${name}.json`), `${JSON.stringify(sanitise(JSON.parse(stdout)))}\n`);
  console.log(`recorded ${name}`);
}
