/**
 * The page of a report in Chromium: it fits a phone, can be read in light and dark, and its script finds questions.
 * Pictures go to `.acecoder/report-pictures` where `REPORT_PICTURES` is set.
 */
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { chromium, type Browser, type Page } from 'playwright-core';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { findOnPath, root } from '../../infra/setup/paths.mjs';
import { makeExperiment, type MadeSize } from '../../test/fixtures/report-experiment.js';
import { buildReport } from './build.js';

const executablePath = process.env['CHROMIUM'] ?? findOnPath('chromium');
const isThere = executablePath !== undefined && existsSync(executablePath);
if (!isThere)
  console.warn(
    'SKIPPED: the page of the report in Chromium. Install it (apt-get install chromium), or name it in CHROMIUM.',
  );
/** Opens everything that can be opened, what opening adds included. */
const OPEN_ALL = `for (const details of document.querySelectorAll('details')) details.open = true;
  new Promise((done) => setTimeout(done, 100))`;
const HOSTILE = '</script><img src=x onerror="window.attacked = true">\u202e\u05d0\u0000';

describe.skipIf(!isThere)('the page in Chromium', () => {
  let browser: Browser;
  let folder: string;
  const pages: Record<string, string> = {};

  const build = async (name: string, size: MadeSize, oneFile?: number): Promise<void> => {
    const made = await makeExperiment(join(folder, `${name}-store`), size);
    await buildReport(made.store, made.source, join(folder, name), oneFile === undefined ? {} : { oneFile });
    pages[name] = pathToFileURL(join(folder, name, 'report.html')).href;
  };

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), 'report-page-'));
    await build('usual', { questions: 40, programs: 6 });
    await build('hostile', { questions: 12, hostile: HOSTILE });
    await build('long', { questions: 12, hostile: 'n'.repeat(400) });
    await build('sharded', { questions: 600 }, 100);
    browser = await chromium.launch({
      executablePath: executablePath!,
      args: ['--no-sandbox', '--disable-gpu', '--disable-background-networking'],
    });
  });
  afterAll(async () => {
    await browser.close();
    rmSync(folder, { recursive: true });
  });

  const open = async (name: string, width: number, colorScheme: 'light' | 'dark' = 'light'): Promise<Page> => {
    const page = await browser.newPage({ viewport: { width, height: 900 }, colorScheme });
    const failures: string[] = [];
    page.on('pageerror', ({ message }) => failures.push(message));
    page.on('console', (message) => {
      if (message.type() === 'error') failures.push(message.text());
    });
    await page.goto(pages[name]!);
    await page.locator('#browser-found li').first().waitFor();
    expect(failures).toEqual([]);
    return page;
  };

  /** What axe finds against WCAG 2.1 A and AA, contrast among it. */
  const violationsOf = async (page: Page): Promise<{ id: string; nodes: string[] }[]> => {
    // Evaluated, and not added as a script, which the policy of the page refuses.
    await page.evaluate(readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8'));
    return page.evaluate(
      `axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa'] }).then(({ violations }) =>
        violations.map(({ id, nodes }) => ({ id, nodes: nodes.slice(0, 3).map(({ html }) => html) })))`,
    );
  };

  const found = async (page: Page): Promise<number> =>
    Number(/^(\d+) of/.exec((await page.locator('#browser-count').textContent()) ?? '')?.[1] ?? 0);

  describe.each([420, 1280])('%i pixels wide', (width) => {
    it.each(['usual', 'hostile', 'long'])('does not overflow: %s', async (name) => {
      const page = await open(name, width);
      await page.locator('#browser-found a').first().click();
      await page.locator('#browser-question:not([hidden])').waitFor();
      await page.evaluate(OPEN_ALL);
      const [scrolled, shown] = await page.evaluate<[number, number]>(
        '[document.documentElement.scrollWidth, document.documentElement.clientWidth]',
      );
      expect(scrolled).toBeLessThanOrEqual(shown);
      await page.close();
    });

    it.each(['light', 'dark'] as const)('can be read: %s', async (scheme) => {
      const page = await open('usual', width, scheme);
      await page.locator('#browser-found a').first().click();
      await page.locator('.program summary').first().click();
      if (process.env['REPORT_PICTURES']) {
        const pictures = join(root, '.acecoder/report-pictures');
        mkdirSync(pictures, { recursive: true });
        await page.screenshot({ path: join(pictures, `${width}-${scheme}.png`), fullPage: true });
      }
      expect(await violationsOf(page)).toEqual([]);
      await page.close();
    });
  });

  it('would be told of a text that cannot be read', async () => {
    const page = await open('usual', 1280);
    await page.evaluate(`document.documentElement.style.setProperty('--soft', '#bbb')`);
    expect((await violationsOf(page)).map(({ id }) => id)).toContain('color-contrast');
    await page.close();
  });

  it('finds questions by their text and by what is wrong with them, and shows every test and verdict', async () => {
    const page = await open('usual', 1280);
    expect(await found(page)).toBe(43);
    await page.locator('#browser-search').fill('function_17 squares');
    await page.locator('#browser-found li').nth(1).waitFor({ state: 'detached' });
    expect(await found(page)).toBe(1);
    await page.locator('#browser-search').fill('');
    await page.locator('#browser-filter').selectOption('questionDropped');
    await expect.poll(() => found(page)).toBe(4);
    await page.locator('#browser-found a').first().click();
    const question = page.locator('#browser-question');
    await question.getByText('The question was dropped:').waitFor();
    expect(await question.textContent()).toContain('tooFewTestCases');
    expect(await question.textContent()).toContain('assertion_failed: the oracle gives 9');

    await page.locator('#browser-filter').selectOption('gained');
    await page.locator('#browser-found a').first().click();
    await question.getByText('Before and after training').waitFor();
    const programs = await question.locator('.program summary').allTextContents();
    expect(programs).toContainEqual(expect.stringMatching(/✗ .*policy initial, greedy answer/));
    expect(programs).toContainEqual(expect.stringMatching(/✓ .*policy trained, greedy answer/));
    await question.locator('.program.wrong summary').first().click();
    expect(await question.locator('.program.wrong .verdicts li').first().textContent()).toMatch(
      /pass|assertion_failed/,
    );

    await page.locator('#browser-filter').selectOption('rollouts');
    await page.locator('#browser-found a').first().click();
    await question.getByText('Rollouts of round 1 (the first with this question): 4 in all').waitFor();
    await question.getByText('Rollouts of round 2 (the last with this question): 4 in all').waitFor();
    const rollouts = await question.locator('.program summary').allTextContents();
    expect(rollouts).toContainEqual(expect.stringMatching(/round 2 .*reward [\d.]+ = tests [\d.]+ \+ reward model/));
    expect(rollouts).toContainEqual(expect.stringContaining('left out of training: unjudged'));
    // The address leads back to the question.
    const address = page.url();
    const name = await question.locator('h3').textContent();
    await page.goto('about:blank');
    await page.goto(address);
    await expect.poll(() => page.locator('#browser-question h3').textContent()).toBe(name);
    await page.close();
  });

  it('opens the questions behind a number, by the keyboard too', async () => {
    const page = await open('usual', 1280);
    const button = page.locator('header button[data-filter="gained"]').first();
    await button.focus();
    await page.keyboard.press('Enter');
    const gained = Number(
      /(\d+) of \d+ are solved by trained alone/.exec(
        ((await page.locator('header').textContent()) ?? '').replaceAll(/\s+/g, ' '),
      )![1],
    );
    expect(gained).toBeGreaterThan(0);
    expect(await found(page)).toBeGreaterThanOrEqual(gained);
    await page.close();
  });

  it('shows texts of models as texts', async () => {
    const page = await open('hostile', 1280);
    for (const link of (await page.locator('#browser-found a').all()).slice(0, 4)) {
      await link.click();
      await page.evaluate(OPEN_ALL);
    }
    expect(await page.evaluate('window.attacked')).toBeUndefined();
    expect(await page.locator('img').count()).toBe(0);
    expect(await page.locator('#browser-question').textContent()).toContain('<img src=x onerror=');
    await page.close();
  });

  it('reads questions from files next to it where they are many', async () => {
    const page = await open('sharded', 1280);
    expect(await found(page)).toBe(603);
    await page.locator('#browser-search').fill('function_587');
    await expect.poll(() => found(page)).toBe(1);
    await page.locator('#browser-found a').first().click();
    await expect.poll(() => page.locator('#browser-question h3').textContent()).toBe('function_587');
    await page.close();
  });

  it('takes in what is new while it is served, and asks first where somebody reads', async () => {
    const made = await makeExperiment(join(folder, 'live-store'), { questions: 12, stages: 4 });
    await buildReport(made.store, { ...made.source, live: 'first' }, join(folder, 'live'));
    let version = 'first';
    let loads = 0;
    const server = createServer((request, response) => {
      if (request.url === '/version') return void response.end(version);
      if (request.url === '/') loads += 1;
      response.setHeader('content-type', 'text/html; charset=utf-8');
      response.end(readFileSync(join(folder, 'live/report.html')));
    });
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
    pages['live'] = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
    const page = await browser.newPage();
    await page.clock.install();
    await page.goto(pages['live']);
    await page.locator('#browser-found a').first().waitFor();
    const button = page.locator('#live');
    expect(await button.isVisible()).toBe(false);
    await page.clock.runFor(6_000);
    expect(loads).toBe(1);
    await page.locator('#browser-found a').first().click();
    version = 'second';
    await expect
      .poll(async () => {
        await page.clock.runFor(6_000);
        return button.isVisible();
      })
      .toBe(true);
    expect(loads).toBe(1);
    await button.click();
    await expect.poll(() => loads).toBe(2);
    await page.close();
    server.close();
    server.closeAllConnections();
  });

  it('prints the tables of the plots, and nothing that only a screen can use', async () => {
    const page = await open('usual', 720, 'dark');
    await page.emulateMedia({ media: 'print' });
    expect(await page.locator('details.table table:visible').count()).toBe(14);
    expect(await page.locator('nav:visible, button:visible, input:visible').count()).toBe(0);
    expect(await page.evaluate('getComputedStyle(document.body).backgroundColor')).toBe('rgb(255, 255, 255)');
    await page.close();
  });

  it('shows everything but the questions without its script', async () => {
    const context = await browser.newContext({ javaScriptEnabled: false });
    const page = await context.newPage();
    await page.goto(pages['usual']!);
    expect(await page.locator('#questions noscript').textContent()).toContain('switched off');
    expect(await page.locator('#browser').isVisible()).toBe(false);
    expect(await page.locator('button:visible').count()).toBe(0);
    expect(await page.locator('svg[role=img]').count()).toBe(14);
    await context.close();
  });
});
