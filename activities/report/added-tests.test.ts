/** What the tests that hardening added decide, by hand and in the report of a made-up experiment. */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { makeExperiment } from '../../test/fixtures/report-experiment.js';
import type { TestOutcome } from '../../workflows/contract/index.js';
import { AddedTests } from './added-tests.js';
import { buildReport } from './build.js';
import type { Figure } from './figures.js';

const STATUS = { p: 'pass', a: 'assertion_failed', u: 'unjudged' } as const;
/** A program by a letter a test. */
const judged = (letters: string, score?: number) => ({
  outcomes: [...letters].map((letter): TestOutcome => ({ status: STATUS[letter as keyof typeof STATUS] })),
  score,
});

describe('added tests', () => {
  const tests = ['assert f(1) == 1', 'assert f(2) == 2', { call: 'f(3)', expect: '3' }];
  const added = new AddedTests(
    new Map([
      ['q', ['{"call":"f(3)","expect":"3"}']],
      ['other', ['assert f(1) == 1']],
    ]),
  );

  it('split the programs that pass the tests before them, and ask whom the reward model prefers', () => {
    const of = (questionId: string, ...programs: ReturnType<typeof judged>[]) => ({ questionId, tests, programs });
    // Two are right, two fail the added test alone, one fails another, and one has no verdict.
    added.add(
      'first',
      of(
        'q',
        judged('ppp', 2),
        judged('ppp', 1),
        judged('ppa', 1),
        judged('ppa', 0),
        judged('apa', 9),
        judged('ppu', 9),
      ),
    );
    // Nobody passes the test before: nothing to share.
    added.add('first', of('other', judged('ppa'), judged('apa')));
    added.add('first', of('unknown', judged('ppa')));
    added.add('last', of('other', judged('app')));
    // A host that lost the sandbox gives no outcomes, and a question without judged programs does not count.
    added.add('last', of('q', { outcomes: [], score: 1 }));
    const [first, last, ...more] = added.result();
    expect(more).toEqual([]);
    expect(first).toMatchObject({ by: 'first', questions: 2, passOwn: 4, failAdded: 2 });
    expect(first!.share).toEqual({ mean: 0.5, interval: [0.5, 0.5], questions: 1 });
    // 2 > 1, 2 > 0, 1 > 0, and 1 = 1 as half.
    expect(first!.preferred).toEqual({ mean: 3.5 / 4, interval: [3.5 / 4, 3.5 / 4], questions: 1 });
    expect(last).toEqual({
      by: 'last',
      questions: 1,
      passOwn: 1,
      failAdded: 1,
      share: { mean: 1, interval: [1, 1], questions: 1 },
    });
  });

  it('stand in the report next to what hardening did, each figure with its artifact', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'report-added-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const made = await makeExperiment(join(folder, 'store'), { questions: 200, rounds: 4, rollouts: 6, hardened: 2 });
    await buildReport(made.store, made.source, join(folder, 'report'));
    const figures = JSON.parse(readFileSync(join(folder, 'report', 'figures.json'), 'utf8')) as Figure[];
    const figure = (id: string) => figures.find((each) => each.id === `hardening.rollouts.${id}`);
    const value = (id: string): number => figure(id)!.value as number;
    for (const by of ['first', 'last']) {
      expect(value(`${by}.failAdded`)).toBeGreaterThan(0);
      expect(value(`${by}.failAdded`)).toBeLessThan(value(`${by}.passOwn`));
      expect(figure(`${by}.passOwn`)!.artifact).toBe(made.refs['reinforcement']!.key);
      expect(value(`${by}.preferred`)).toBeGreaterThan(0);
    }
    const page = readFileSync(join(folder, 'report', 'report.html'), 'utf8');
    expect(page).toContain('last round of a question<');
  });
});
