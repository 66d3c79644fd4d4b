/** `npm run bench:report`: a report of as many questions as AceCode-87K has, built, opened and searched. */
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { chromium } from 'playwright-core';
import { buildReport } from '../../activities/report/build.js';
import { findOnPath } from '../../infra/setup/paths.mjs';
import { makeExperiment } from '../fixtures/report-experiment.js';
import { report, type Measure } from './table.js';

const HELP = `npm run bench:report -- [options]

Makes rows of an experiment up, builds its report as the activity does, opens it in Chromium from disk, and finds a
question. The rows lie in the folder of the cache, as after they were fetched.

  --questions N   questions (87149)
  --programs N    programs per question (16)
  --rounds N      RL rounds of 128 questions with 16 rollouts each (170)
  --json          one JSON object on the last line
  --help          print this`;

/** Questions of an RL round, and rollouts of each. */
const [PROMPTS, ROLLOUTS] = [128, 16];
const MEBIBYTE = 1024 ** 2;

async function bytesIn(folder: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) sum += (await stat(join(entry.parentPath, entry.name))).size;
  return sum;
}

/** Times of a reader: until the page is shown, until questions can be searched, until one is found and shown. */
async function asReader(path: string, wanted: string, executablePath: string): Promise<Measure[]> {
  const browser = await chromium.launch({ executablePath, args: ['--no-sandbox', '--disable-gpu'] });
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
    const started = performance.now();
    await page.goto(pathToFileURL(path).href, { waitUntil: 'load' });
    await page.locator('h1').waitFor();
    const opened = performance.now();
    await page.locator('#browser-found li').first().waitFor();
    const ready = performance.now();
    await page.locator('#browser-search').fill(`${wanted} squares`);
    await page.locator('#browser-count', { hasText: /^1 of / }).waitFor();
    await page.locator('#browser-found a').first().click();
    await page.locator('#browser-question h3', { hasText: wanted }).waitFor();
    const found = performance.now();
    return [
      { name: 'the page opens', value: (opened - started) / 1000, unit: 's', bar: 2, at: 'most' },
      { name: 'questions can be searched', value: (ready - started) / 1000, unit: 's', note: 'since the opening' },
      { name: 'a question is found and shown', value: (found - ready) / 1000, unit: 's', bar: 1, at: 'most' },
    ];
  } finally {
    await browser.close();
  }
}

const { values } = parseArgs({
  options: {
    questions: { type: 'string', default: '87149' },
    programs: { type: 'string', default: '16' },
    rounds: { type: 'string', default: '170' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) console.log(HELP);
else {
  const executablePath = process.env['CHROMIUM'] ?? findOnPath('chromium');
  if (!executablePath || !existsSync(executablePath))
    throw new Error('The bench needs Chromium: install it (apt-get install chromium), or name it in CHROMIUM.');
  const [questions, programs, rounds] = [values.questions, values.programs, values.rounds].map(Number) as [
    number,
    number,
    number,
  ];
  const folder = await mkdtemp(join(tmpdir(), 'acecoder-bench-report-'));
  try {
    const size = { questions, programs, variants: programs, rounds, prompts: PROMPTS, rollouts: ROLLOUTS };
    const made = await makeExperiment(join(folder, 'store'), size);
    const rows = await bytesIn(join(folder, 'store'));
    const started = performance.now();
    const target = join(folder, 'report');
    await buildReport(made.store, made.source, target);
    const seconds = (performance.now() - started) / 1000;
    const measures: Measure[] = [
      { name: 'questions', value: questions, unit: '', note: `${programs} different programs each` },
      { name: 'rollouts', value: rounds * PROMPTS * ROLLOUTS, unit: '', note: `of ${rounds} rounds` },
      { name: 'rows read', value: rows / MEBIBYTE, unit: 'MiB' },
      { name: 'report built', value: seconds, unit: 's', bar: 60, at: 'most' },
      {
        name: 'memory at most',
        value: process.resourceUsage().maxRSS / 1024,
        unit: 'MiB',
        bar: 1024,
        at: 'most',
        note: 'of the whole process',
      },
      { name: 'report', value: (await bytesIn(target)) / MEBIBYTE, unit: 'MiB' },
      { name: 'its page', value: (await stat(join(target, 'report.html'))).size / MEBIBYTE, unit: 'MiB' },
    ];
    // Seven tenths of the way, so that no longer name begins with it.
    const wanted = `function_${Math.floor(0.7 * questions)}`;
    report(
      'report',
      [...measures, ...(await asReader(join(target, 'report.html'), wanted, executablePath))],
      values.json,
    );
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
