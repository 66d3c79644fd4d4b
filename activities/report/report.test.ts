import { describe, expect, it, test } from 'vitest';
import type { ArtifactKind, ArtifactRef } from '../../workflows/contract/artifacts.js';
import { STAGES } from '../../workflows/contract/names.js';
import type { EvaluationResult } from '../../workflows/contract/metrics.js';
import { Summary } from '../../workflows/contract/summary.js';
import { calibrationPlot, histogram, lineChart, numberText, ticks } from './charts.js';
import { compareGreedy, renderReport, type ReportInput } from './report.js';

function artifact(kind: ArtifactKind, index: number): ArtifactRef {
  const digest = index.toString(16).padStart(64, '0');
  return { kind, key: `artifacts/${kind}/${digest}.json`, digest, rows: 10 * index, bytes: 40 ** index };
}

const KINDS = ['questions', 'filteredQuestions', 'programs', 'pairs', 'rewardModel', 'policy', 'evaluation'] as const;
const STAGE_ARTIFACTS = KINDS.map((kind, index) => artifact(kind, index + 1));
const [, , PROGRAMS, PAIRS, REWARD_MODEL, , EVALUATION] = STAGE_ARTIFACTS as [
  ArtifactRef,
  ArtifactRef,
  ArtifactRef,
  ArtifactRef,
  ArtifactRef,
  ArtifactRef,
  ArtifactRef,
];
const ROUND = artifact('policy', 8);

function result(policy: string, greedy: number | null, greedyInterval: [number, number] | null): EvaluationResult {
  return {
    benchmark: 'heldOut',
    policy,
    tasks: 24,
    samples: 8,
    greedy,
    greedyInterval,
    mean: 0.4125,
    passAtK: { '1': 0.4125, '8': 0.75 },
    bestOfN: { '8': 0.625 },
    oracle: 0.75,
  };
}

const SUMMARY: Summary = Summary.parse({
  experiment: 'quickstart',
  state: 'done',
  stages: STAGES.filter((name) => name !== 'fineTuning').map((name, index) => ({
    name,
    state: 'done',
    seconds: 61.5 * index,
    reused: index < 2,
    artifact: STAGE_ARTIFACTS[index],
  })),
  data: {
    questions: 120,
    testCases: 2388,
    keptTestCases: 1910,
    programs: 961,
    pairs: 413,
    dropped: [
      { stage: 'synthesis', what: 'seed', reason: 'benchmarkContamination', count: 8, artifact: STAGE_ARTIFACTS[0] },
      { stage: 'filtering', what: 'testCase', reason: 'assertion_failed', count: 478, artifact: STAGE_ARTIFACTS[1] },
    ],
    filterQuality: { injected: 400, dropped: 478, droppedInjected: 390 },
  },
  recipe: [
    { stage: 'preferences', setting: 'labels', value: 'strict', artifact: STAGE_ARTIFACTS[3] },
    { stage: 'reinforcement', setting: 'algorithm.beta', value: 0.137, artifact: ROUND },
  ],
  passRateHistogram: [
    { from: 0, to: 0.5, programs: 555 },
    { from: 0.5, to: 1, programs: 406 },
  ],
  rewardModel: {
    pairs: 380,
    heldOutAccuracy: 0.66,
    heldOutPairs: 33,
    heldOutQuestions: 11,
    interval95: [0.52, 0.78],
    baselineAccuracy: 0.4,
    calibration: [
      { predicted: 0.3, observed: 0.4, count: 8 },
      { predicted: 0.75, observed: 0.7, count: 25 },
    ],
    curve: [
      { step: 1, loss: 0.7 },
      { step: 2, loss: 0.6 },
    ],
  },
  reinforcement: {
    rounds: [
      {
        round: 1,
        reward: 0.351,
        kl: 0.00123,
        entropy: 0.9,
        clipFraction: 0.013,
        nonZeroAdvantages: 40,
        rollouts: 64,
        trained: 57,
        dropped: { degenerateGroup: 7 },
        artifact: ROUND,
        steps: [
          { step: 'sampling', from: 0, to: 6 },
          { step: 'judging', from: 6, to: 10 },
          { step: 'training', from: 10, to: 16 },
        ],
      },
    ],
    deviceWaiting: 0.25,
  },
  evaluation: [result('base', 0.5, [0.31, 0.69]), result('final', 0.6, [0.41, 0.79])],
  cost: { teacher: 'offline', currency: 'USD', amount: 0 },
  models: [
    { name: 'reward model', artifact: REWARD_MODEL, folder: '/models/reward' },
    { name: 'final policy', artifact: ROUND, folder: '/models/policy' },
  ],
  assertions: [
    { text: 'pairs come from spread pass rates', ok: true },
    { text: 'rollouts equal the plan', ok: false },
  ],
});
const INPUT: ReportInput = { ...SUMMARY, teacherNote: 'Written by the offline teacher, which is no language model.' };

const EMPTY: ReportInput = {
  experiment: 'empty',
  state: 'parked',
  stages: [],
  evaluation: [],
  recipe: [],
  passRateHistogram: [],
  models: [],
  assertions: [],
  data: { questions: 0, testCases: 0, keptTestCases: 0, programs: 0, pairs: 0, dropped: [] },
  cost: { teacher: 'offline', currency: 'USD', amount: 0 },
  teacherNote: '',
};

/** Every tag with its attribute names. Throws when a `<` is no such tag: something got out of its text or attribute. */
function tags(markup: string): string[] {
  const body = markup.replace(/<!doctype html>|<style>[^]*?<\/style>/g, '');
  const found = [...body.matchAll(/<(\/?[a-z0-9]+)((?: [A-Za-z0-9:-]+="[^"<>]*")*)(\/?)>/g)];
  if (found.length !== body.split('<').length - 1) throw new Error('the document holds a stray "<"');
  return found.map(([, name, attributes, end]) => `${name}${attributes?.replace(/="[^"]*"/g, '')}${end}`);
}

/** Whether every element is closed in order. */
function expectWellFormed(markup: string): void {
  const open: string[] = [];
  for (const tag of tags(markup)) {
    const [name] = tag.split(' ') as [string];
    if (name.startsWith('/')) expect(open.pop()).toBe(name.slice(1));
    else if (!tag.endsWith('/') && name !== 'meta' && name !== 'br') open.push(name);
  }
  expect(open).toEqual([]);
}

/** The same structure with every text, keys of records of counts included, made hostile. */
function poison<T>(value: T, hostile: string): T {
  if (typeof value === 'string') return (value + hostile) as T;
  if (Array.isArray(value)) return value.map((item: unknown) => poison(item, hostile)) as T;
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value).map(([key, item]: [string, unknown]) => [
      key,
      key === 'dropped' && !Array.isArray(item) && typeof item === 'object' && item !== null
        ? Object.fromEntries(Object.entries(item).map(([reason, count]) => [reason + hostile, count]))
        : ['kind', 'name', 'stage'].includes(key) && STAGES.some((stage) => stage === item)
          ? item
          : poison(item, hostile),
    ]),
  ) as T;
}

describe('renderReport', () => {
  const page = renderReport(INPUT);

  it('is one well-formed document that asks for nothing', () => {
    expectWellFormed(page);
    expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
    expect(page).not.toMatch(/<script|<link|<img|<iframe|\ssrc=|url\(|@import|https?:/i);
    expect([...page.matchAll(/href="(.)/g)].every(([, start]) => start === '#')).toBe(true);
  });

  it('leads every figure to the artifact it was read from', () => {
    const rows = new Map(
      [...page.matchAll(/<tr id="(artifact-\d+)">.*?<code>(.*?)<\/code>/g)].map(([, id, key]) => [id, key]),
    );
    expect(new Set(rows.values())).toEqual(new Set([...STAGE_ARTIFACTS, ROUND].map(({ key }) => key)));
    const figures = [...page.matchAll(/<a class="figure" href="#(.*?)" title="(.*?)">(.*?)<\/a>/g)];
    expect(figures.length).toBeGreaterThan(50);
    for (const [, id, key] of figures) expect(rows.get(id as string)).toBe(key);
    const sourceOf = (text: string) =>
      new Set(figures.filter((figure) => figure[3] === text).map((figure) => figure[2]));
    expect(sourceOf('961')).toEqual(new Set([PROGRAMS.key]));
    expect(sourceOf('413')).toEqual(new Set([PAIRS.key]));
    expect(sourceOf('66.0 %')).toEqual(new Set([REWARD_MODEL.key]));
    expect(sourceOf('0.351')).toEqual(new Set([ROUND.key]));
    expect(sourceOf('0.137')).toEqual(new Set([ROUND.key]));
    expect(sourceOf('41.3 %')).toEqual(new Set([EVALUATION.key]));
  });

  it('writes the number of tasks beside every rate of the evaluation', () => {
    const section = page.slice(page.indexOf('<h2>Evaluation'), page.indexOf('<h2>Trained'));
    const rates = [...section.matchAll(/<td class="number"><a [^>]*>[\d.]+ %<\/a>(.*?)<\/td>/g)];
    expect(rates.length).toBe(12);
    for (const [, rest] of rates) expect(rest).toContain('24 tasks');
  });

  it('names state, teacher, drops, checks and how to load the models', () => {
    expect(page).toContain('<span class="state">done</span>');
    expect(page).toContain('Written by the offline teacher, which is no language model.');
    expect(page).toMatch(
      new RegExp(
        '<td>synthesis</td><td>seed</td><td>benchmarkContamination</td>' +
          '<td class="number"><a [^>]*title="artifacts/questions[^>]*>8</a>',
      ),
    );
    expect(page).toMatch(/precision <a [^>]*>81\.6 %<\/a> \(390 of 478\).*recall <a [^>]*>97\.5 %<\/a> \(390 of 400\)/);
    expect(page).toContain('This checks the filter; it is no evidence about what language models write.');
    expect(page).toContain('Checks that hold: 1 of 2.');
    expect(page).toContain('✗ does not hold</strong> rollouts equal the plan');
    expect(page).toContain('model = AutoModelForSequenceClassification.from_pretrained(folder)');
    expect(page).toContain('model = AutoModelForCausalLM.from_pretrained(folder)');
    expect(page).toContain('folder = &quot;/models/policy&quot;');
    expect(page).toContain('2 reused, 21 min 32 s of stage time');
  });

  it.each([
    `"><script>alert(1)</script>`,
    `' onmouseover='x`,
    '</style></title></svg><img/src/onerror=x>',
    '&lt;b&gt;\u0000\u001b',
  ])('keeps its structure when every text holds %j', (hostile) => {
    const attacked = renderReport(poison(INPUT, hostile));
    expectWellFormed(attacked);
    expect(tags(attacked)).toEqual(tags(page));
    expect(attacked).not.toMatch(/[\u0000\u001b]/);
    expect(attacked).not.toContain(hostile);
  });

  it('says which parts are missing', () => {
    const empty = renderReport(EMPTY);
    expectWellFormed(empty);
    for (const sentence of [
      'Nothing was dropped.',
      'Nothing was trained.',
      'No program has a pass rate.',
      'No reward model was trained.',
      'No round of reinforcement learning was run.',
      'Nothing was evaluated.',
      'No model was trained.',
      'Nothing was checked.',
      'There is no artifact yet.',
    ]) {
      expect(empty).toContain(sentence);
      expect(page).not.toContain(sentence);
    }
    expect(empty).not.toContain('NaN');
    expect(page).not.toContain('NaN');
  });

  it('renders a stage that made nothing and a reward model without held-out pairs', () => {
    const partial = renderReport({
      ...INPUT,
      state: 'parked',
      stages: [{ name: 'synthesis', state: 'parked', seconds: 3, reused: false }],
      rewardModel: {
        pairs: 2,
        heldOutAccuracy: null,
        heldOutPairs: 0,
        heldOutQuestions: 0,
        interval95: null,
        baselineAccuracy: null,
        calibration: [],
        curve: [],
      },
      evaluation: [result('base', null, null)],
    });
    expectWellFormed(partial);
    expect(partial).toContain('nothing is claimed about the reward model');
    expect(partial).toContain('there is nothing to compare');
    expect(partial).toContain('<td>parked</td>');
  });
});

describe('what the report claims', () => {
  test.each([
    [
      [0.4, 0.6],
      [0.55, 0.75],
      /no difference shown.*the intervals overlap, so this run shows neither a gain nor a loss/,
    ],
    [[0.4, 0.6], [0.6, 0.75], /no difference shown/],
    [[0.4, 0.6], [0.61, 0.75], /: higher\..*the intervals do not overlap/],
    [[0.4, 0.6], [0.2, 0.39], /: lower\..*the intervals do not overlap/],
  ] as [[number, number], [number, number], RegExp][])('before %j, after %j', (before, after, text) => {
    const statement = compareGreedy(result('base', 0.5, before), result('final', (after[0] + after[1]) / 2, after));
    expect(statement).toMatch(text);
    expect(statement).toContain('24 tasks');
    expect(renderReport({ ...INPUT, evaluation: [result('base', 0.5, before), result('final', 0.7, after)] })).toMatch(
      text,
    );
  });

  it('compares nothing without a greedy result', () => {
    expect(compareGreedy(result('base', null, null), result('final', 0.5, [0.3, 0.7]))).toContain('not compared');
  });

  test.each([
    [[0.52, 0.78], 0.4, 'lies above 50 %', 'above the baseline as well'],
    [[0.52, 0.78], 0.6, 'lies above 50 %', 'no gain over the baseline is shown'],
    [[0.45, 0.78], null, 'does not show that the reward model ranks better than a coin', ''],
    [[0.2, 0.45], 0.6, 'ranks worse than a coin', 'below the baseline'],
  ] as [[number, number], number | null, string, string][])(
    'held-out interval %j, baseline %j',
    (interval95, baselineAccuracy, chance, baseline) => {
      const page = renderReport({ ...INPUT, rewardModel: { ...SUMMARY.rewardModel, interval95, baselineAccuracy } });
      expect(page).toContain(chance);
      expect(page).toContain(baseline);
    },
  );
});

describe('charts', () => {
  it('put ticks at round values that enclose the data', () => {
    expect(ticks(0, 310, 4)).toEqual([0, 100, 200, 300, 400]);
    expect(ticks(-0.013, 0.029, 4)).toEqual([-0.02, 0, 0.02, 0.04]);
    expect(ticks(5, 5, 4)).toEqual([2, 4, 6, 8]);
    expect(ticks(0, 0, 4)).toEqual([-0.5, 0, 0.5]);
  });

  it('write numbers shortly', () => {
    expect([0, 12345, 0.123456, 0.00001234, 1234567.8].map(numberText)).toEqual([
      '0',
      '12345',
      '0.123',
      '1.23e-5',
      '1.23e+6',
    ]);
  });

  it('carry values and axis labels as text', () => {
    const columns = histogram('h', { x: 'pass rate', y: 'programs' }, [
      { from: 0, to: 0.5, count: 7 },
      { from: 0.5, to: 1, count: 0 },
    ]).markup;
    expect(columns).toContain('<title>0 to 0.5: 7</title>');
    expect(columns).toMatch(/class="label"[^>]*>pass rate</);
    expect(columns).toMatch(/class="label"[^>]*>programs</);
  });

  it('put points where their values say, also a single one', () => {
    const line = lineChart('l', { x: 'round', y: 'KL' }, [
      { x: 1, y: 0 },
      { x: 2, y: 1 },
      { x: 3, y: 2 },
    ]).markup;
    const points = /points="(.*?)"/
      .exec(line)?.[1]
      ?.split(' ')
      .map((point) => point.split(',').map(Number)) as [number, number][];
    expect(points.map(([x]) => x)).toEqual([62, 232, 402]);
    expect(points.map(([, y]) => y)).toEqual([192, 104, 16]);
    expect(lineChart('l', { x: 'round', y: 'KL' }, [{ x: 1, y: 0 }]).markup).not.toContain('NaN');
    const plot = calibrationPlot('c', { x: 'p', y: 'o' }, [{ predicted: 1, observed: 0, count: 3 }]).markup;
    expect(plot).toContain('<circle class="dot" cx="402" cy="332" r="10">');
  });
});
