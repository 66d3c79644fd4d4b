/**
 * `npm run steps`: which code decides the result of each step, and whether the step's version says so.
 *
 * A step's key holds its version. Code that gives other results under an old version is answered by what the old code
 * made. So the digest of the deciding code is kept next to the version, in `test/fixtures/step-code.json`, and a test
 * fails where one changes without the other.
 */
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import ts from 'typescript';
import { z } from 'zod';
import { STAGE_LIST, type StepDefinition } from '../../workflows/contract/index.js';
import { root } from '../setup/paths.mjs';

const HELP = `npm run steps [-- --same]

Writes down the code and the version of each step, where a version was raised together with its code.

  --same   accept changed code under an unchanged version: you have made sure that the results stay the same
  --help   print this`;

const LOCK = join(root, 'test/fixtures/step-code.json');

/** What is written down: the digest of each file, and the version and the files of each step. */
const StepCode = z.strictObject({
  files: z.record(z.string(), z.string()),
  steps: z.record(z.string(), z.strictObject({ version: z.number().int().positive(), code: z.array(z.string()) })),
});
export type StepCode = z.infer<typeof StepCode>;

/** The code of all steps as it is. @throws Error naming a step and a file of it that does not exist. */
export function currentStepCode(): StepCode {
  const files: Record<string, string> = {};
  const steps: StepCode['steps'] = {};
  for (const { name, steps: definitions } of STAGE_LIST) {
    for (const [step, { version, code }] of Object.entries<StepDefinition>(definitions)) {
      const paths = code.flatMap((entry) => filesOf(entry, `${name}.${step}`)).sort();
      for (const path of paths) files[path] ??= digestOf(path);
      steps[`${name}.${step}`] = { version, code: [...new Set(paths)] };
    }
  }
  return { files: Object.fromEntries(Object.entries(files).sort(([a], [b]) => (a < b ? -1 : 1))), steps };
}

/** The code of all steps as it was written down. */
export function recordedStepCode(): StepCode {
  return StepCode.parse(JSON.parse(readFileSync(LOCK, 'utf8')));
}

/**
 * What somebody has to decide, one sentence for each step: its code changed under one version, or its version under
 * the same code. `stale` names steps whose code and version both changed and are not written down yet.
 */
export function undecided(now: StepCode, recorded: StepCode): { decisions: string[]; stale: string[] } {
  const decisions: string[] = [];
  const stale: string[] = [];
  for (const [name, { version, code }] of Object.entries(now.steps)) {
    const before = recorded.steps[name];
    if (!before) {
      stale.push(name);
      continue;
    }
    const files = [...new Set([...code, ...before.code])];
    const changed = files.filter((file) => now.files[file] !== recorded.files[file] || !code.includes(file));
    if (changed.length > 0 && version === before.version) {
      decisions.push(
        `${name}: ${changed.join(', ')} changed, and the version is still ${version}. ` +
          `If results change, raise the version to ${version + 1} in workflows/contract/stages, ` +
          'then run `npm run steps`. ' +
          'If every result stays the same, run `npm run steps -- --same`.',
      );
    } else if (changed.length === 0 && version !== before.version) {
      decisions.push(
        `${name}: the version went from ${before.version} to ${version}, ` +
          'and no file that decides its result changed. ' +
          'Name the file in `code` of the step, or take the version back: a new version makes everything again.',
      );
    } else if (changed.length > 0 || version !== before.version) stale.push(name);
  }
  return { decisions, stale };
}

function filesOf(entry: string, step: string): string[] {
  if (!existsSync(join(root, entry))) throw new Error(`${step} names ${entry} in its code, which does not exist`);
  if (!entry.endsWith('/')) return [entry];
  return readdirSync(join(root, entry), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.(ts|py)$/.test(name) && !/\.test\.ts$|(^|\/)tests\//.test(name))
    .map((name) => entry + name);
}

function digestOf(path: string): string {
  const text = readFileSync(join(root, path), 'utf8');
  return createHash('sha256')
    .update(path.endsWith('.py') ? withoutPythonComments(text) : withoutComments(path, text))
    .digest('hex')
    .slice(0, 16);
}

/** TypeScript as the compiler prints it, without comments: neither words nor line breaks decide a result. */
function withoutComments(path: string, text: string): string {
  const source = ts.createSourceFile(path, text, ts.ScriptTarget.ES2022, true);
  return ts.createPrinter({ removeComments: true }).printFile(source);
}

/** Python without comments, docstrings and empty lines. */
export function withoutPythonComments(text: string): string {
  const strings = /[rbfuRBFU]{0,2}("""[^]*?"""|'''[^]*?'''|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|#[^\n]*/g;
  const bare = text.replace(strings, (found, quoted: string | undefined, at: number) => {
    if (quoted === undefined) return '';
    const before = text.slice(0, at).trimEnd();
    const opensBlock = (before === '' || before.endsWith(':')) && /(^|\n)[ \t]*$/.test(text.slice(0, at));
    return opensBlock && /^("""|''')/.test(quoted) ? '' : found;
  });
  return bare
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '')
    .join('\n');
}

function main(): number {
  const { values } = parseArgs({
    options: { same: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const now = currentStepCode();
  const recorded = existsSync(LOCK) ? recordedStepCode() : { files: {}, steps: {} };
  const { decisions, stale } = undecided(now, recorded);
  if (decisions.length > 0 && !values.same) {
    console.error(decisions.join('\n'));
    return 1;
  }
  writeFileSync(LOCK, `${JSON.stringify(now, undefined, 2)}\n`);
  console.log(`written down: ${decisions.length + stale.length} of ${Object.keys(now.steps).length} steps changed`);
  return 0;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) process.exitCode = main();
