/** Sides against the first one: verdicts, refusals with their reasons, differing settings and shared stages. */
import { describe, expect, it } from 'vitest';
import { Manifest, type ArtifactRef, type EvaluationResult } from '../../workflows/contract/index.js';
import { evaluate } from '../evaluation/figures.js';
import { compareSides, type ComparedRow, type Side } from './compare.js';
import { renderComparison } from './page.js';
import { comparisonText, reportText, verdictText } from './text.js';

const HARNESS = { version: '1', python: '3.11', importPolicy: 'all' };
const CONDITIONS = { temperature: 0.8, topP: 1, maxNewTokens: 64, prompt: 1, harness: [] };

const artifact = (kind: ArtifactRef['kind'], name: string): ArtifactRef => ({
  kind,
  key: `artifacts/${kind}/${name}.json`,
  digest: 'a'.repeat(64),
  bytes: 1,
});

const manifest = (kind: ArtifactRef['kind'], config: object): Manifest =>
  Manifest.parse({
    ...{ schema: 1, kind, stage: kind, stageKey: 'k', digest: 'a'.repeat(64), files: [], bytes: 1, inputs: {}, config },
    ...{ metrics: {}, createdAt: '2026-01-01T00:00:00Z', seconds: 30 },
    producer: { workflowId: 'w', runId: 'r', activity: 'a', attempt: 1, host: 'h', package: 'p', versions: {} },
  });

interface Made {
  right: number;
  policy?: string;
  benchmark?: string;
  conditions?: Partial<typeof CONDITIONS>;
  harness?: object;
  change?: (row: ComparedRow) => ComparedRow;
  samples?: string;
  /** Tasks that its training may have seen; absent: nobody looked. */
  suspects?: string[];
}

function side(name: string, { right, policy = 'trained', benchmark = 'humaneval', ...made }: Made): Side {
  const rows = Array.from({ length: 164 }, (_, task): ComparedRow => {
    const passed = task < right;
    const row: ComparedRow = {
      ...{ benchmark, policy, taskId: `t${task}`, mode: 'greedy', passed, finish: 'stop', program: '' },
      outcomes: [{ status: passed ? 'pass' : 'raised' }],
      question: `q${task}`,
      harness: { ...HARNESS, ...made.harness },
    };
    return made.change?.(row) ?? row;
  });
  const result: EvaluationResult = {
    ...evaluate(rows, { passAtK: [1] }),
    conditions: { ...CONDITIONS, ...made.conditions },
  };
  return {
    name,
    artifacts: { sampling: artifact('programs', made.samples ?? 'one'), evaluation: artifact('evaluation', name) },
    manifests: {
      sampling: manifest('programs', { samples: 16, seed: made.samples ?? 'one' }),
      evaluation: manifest('evaluation', { temperature: 0.8 }),
    },
    results: [result],
    rows,
    suspectsOf: () => made.suspects && new Set(made.suspects),
  };
}

const refusal = (first: Side, second: Side): string | undefined => compareSides([first, second]).verdicts[0]!.refused;

describe('compareSides', () => {
  it('calls 14 tasks gained and none lost higher, and says who is compared with whom', () => {
    const report = compareSides([side('base', { right: 60 }), side('other', { right: 74, samples: 'two' })]);
    const [verdict] = report.verdicts;
    expect(verdict!.comparison).toMatchObject({
      ...{ before: 'base trained', after: 'other trained', gained: 14, lost: 0, verdict: 'higher' },
    });
    expect(report.differences).toEqual([{ stage: 'sampling', setting: 'seed', values: ['"one"', '"two"'] }]);
    expect(report.shared).toEqual([]);
    expect(verdictText(verdict!)).toContain('other trained is higher than base trained. 45.1 % against 36.6 %');
  });

  it('names the stages that sides share', () => {
    const { shared, differences } = compareSides([side('base', { right: 60 }), side('other', { right: 60 })]);
    expect(shared).toEqual([{ stage: 'sampling', key: 'artifacts/programs/one.json', sides: ['base', 'other'] }]);
    expect(differences).toEqual([]);
  });

  it('says the same of the tasks that neither training may have seen, and of the others', () => {
    const sides = [
      side('base', { right: 60, suspects: ['t0', 't1'] }),
      side('other', { right: 74, suspects: ['t1', 't60', 't61'] }),
    ];
    const [verdict] = compareSides(sides).verdicts;
    expect(verdict!.comparison).toMatchObject({
      ...{ tasks: 164, gained: 14 },
      clean: { tasks: 160, gained: 12, lost: 0 },
      suspect: { tasks: 4, gained: 2, lost: 0 },
    });
    expect(verdictText(verdict!)).toContain(' On the 160 clean tasks: 43.8 % against 36.3 %, +7.5 points, p = ');
    const [unknown] = compareSides([side('base', { right: 60 }), sides[1]!]).verdicts;
    expect(unknown!.comparison!.clean, 'nobody looked at the first one').toBeUndefined();
  });

  it('allows for the number of comparisons', () => {
    const sides = [60, 67, 60, 60, 60, 60].map((right, at) => side(`s${at}`, { right }));
    const [alone] = compareSides(sides.slice(0, 2)).verdicts;
    expect(alone!.comparison!.verdict).toBe('higher');
    const [among] = compareSides(sides).verdicts;
    expect(among!.comparison).toMatchObject({ gained: 7, verdict: 'noDifference' });
    expect(comparisonText(among!.comparison!)).toContain('with allowance for all comparisons');
  });

  it.each<[string, Made, RegExp]>([
    [
      'another slice',
      { right: 1, change: (row) => ({ ...row, taskId: `x${row.taskId}` }) },
      /no task of one was asked/,
    ],
    ['another version', { right: 1, change: (row) => ({ ...row, question: 'else' }) }, /t0 asks something else/],
    ['another harness', { right: 1, harness: { version: '2' } }, /different harnesses/],
    ['a shorter answer', { right: 1, conditions: { maxNewTokens: 32 } }, /maxNewTokens 64 and 32/],
    ['another prompt', { right: 1, conditions: { prompt: 2 } }, /prompt 1 and 2/],
    ['another benchmark', { right: 1, benchmark: 'mbpp' }, /base was not asked mbpp/],
  ])('gives no verdict across %s, and says why', (_, made, why) => {
    const { verdicts } = compareSides([side('base', { right: 60 }), side('other', made)]);
    expect(verdicts.map(({ refused }) => refused).join()).toMatch(why);
    expect(verdicts.every(({ comparison }) => comparison === undefined)).toBe(true);
  });

  it('compares greedy answers whatever the temperature of the samples was', () => {
    expect(refusal(side('base', { right: 60 }), side('other', { right: 60, conditions: { temperature: 1 } }))).toBe(
      undefined,
    );
  });

  it('refuses one side, and a policy that a side does not have', () => {
    const [base, other] = [side('base', { right: 60 }), side('other', { right: 60, policy: 'mine' })];
    expect(() => compareSides([base])).toThrow('at least two sides');
    expect(() => compareSides([base, other], { policy: 'trained' })).toThrow(
      'other has no policy trained; it has mine',
    );
    expect(compareSides([base, other]).sides.map(({ policy }) => policy)).toEqual(['trained', 'mine']);
    const two = { ...other, results: [...other.results, { ...other.results[0]!, policy: 'yours' }] };
    expect(() => compareSides([base, two])).toThrow('has the policies mine, yours; name the one');
  });
});

describe('the page and the text', () => {
  it('say the verdicts, and escape what names hold', () => {
    const name = '<img src=x onerror=alert(1)>';
    const report = compareSides([side('base', { right: 60 }), side(name, { right: 74 })]);
    const page = renderComparison(report);
    expect(page).toContain('&lt;img src=x');
    expect(page).not.toContain('<img');
    expect(page).toContain('14 gained, 0 lost');
    expect(reportText(report)).toContain('Shared stages, made once:\n  sampling: base, ');
  });
});
