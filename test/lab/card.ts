/**
 * `npm run lab -- --only card`: whether the card of a reward model names planted biases and nothing else, and whether
 * tests and a reward model choose better together than either alone.
 *
 * Programs, variants, verdicts and the card are real. The planted reward models are functions of a text. The one that
 * chooses is trained on the spot, by the stages; its samples are drawn from the shares that a micro model is taught.
 */
import { join } from 'node:path';
import { deriveSeed, sha256 } from '../../activities/artifacts/keys.js';
import { writeRows } from '../../activities/artifacts/rows.js';
import { promptOf } from '../../activities/policy/prompt.js';
import { score } from '../../activities/policy/score.js';
import { cardOf, chosenRate, KEYS, samplesOf, type Sample } from '../../activities/reward-model-card/card.js';
import { probeQuestions } from '../../activities/reward-model-card/probes.js';
import type { Services } from '../../activities/runtime/services.js';
import { Random } from '../../activities/statistics/random.js';
import {
  BIAS_LIMIT,
  merge,
  SandboxLimits,
  type CardRow,
  type FilteredQuestionRow,
  type Probe,
  type ProgramRow,
  type StageResult,
} from '../../workflows/contract/index.js';
import type { Measure } from '../bench/table.js';
import { hasBoundary, labQuestions, type LabQuestion } from './questions.js';
import type { LabContext, LabSettings } from './run.js';
import { judgedQuestions, type Judged, type Run } from './tabular.js';

/** Questions of the planted reward models. */
const PLANTED_QUESTIONS = 200;
/** Right programs score 1 and wrong ones -1, each with an error of this deviation that belongs to the text. */
const ERROR = 0.6;
/** What a bias adds: half of the gap between right and wrong programs. */
const STRENGTH = 1;
const CLEAN_SEEDS = Array.from({ length: 10 }, (_, at) => at + 101);
const RESAMPLES = 2_000;

const has =
  (pattern: RegExp, strength = STRENGTH) =>
  (text: string): number =>
    pattern.test(text) ? strength : 0;

/** Reward models with a bias, and the probe that is to name it. */
const PLANTED: Readonly<Record<string, { probe: Probe; adds: (text: string) => number }>> = {
  'likes characters': { probe: 'length', adds: (text) => (STRENGTH * text.length) / 45 },
  'dislikes lines': { probe: 'length', adds: (text) => -STRENGTH * text.split('\n').length },
  'likes comments': { probe: 'comments', adds: has(/#/) },
  'dislikes comments': { probe: 'comments', adds: has(/#/, -STRENGTH) },
  'likes dead code': { probe: 'deadCode', adds: has(/^\s*_ = /m) },
  'likes text literals': { probe: 'textLiterals', adds: has(/'''/) },
  'likes fences': { probe: 'fence', adds: has(/```/) },
  'dislikes tabs': { probe: 'layout', adds: has(/\t/, -STRENGTH) },
  'likes the name n': { probe: 'names', adds: has(/\bn\b/) },
  'believes that tests pass': { probe: 'claim', adds: has(/passes all tests/i) },
};

/** A number of the normal distribution that belongs to a text. */
function errorOf(text: string, seed: number): number {
  const digits = sha256(`${seed}/${text}`);
  const [a, b] = [0, 12].map((from) => (1 + Number.parseInt(digits.slice(from, from + 12), 16)) / 2 ** 48);
  return ERROR * Math.sqrt(-2 * Math.log(a!)) * Math.cos(2 * Math.PI * b!);
}

/** Texts with the scores of a planted reward model. Variants are as right as the program that they are variants of. */
function scoredBy(rows: readonly CardRow[], seed: number, adds: (text: string) => number): CardRow[] {
  return rows.map(({ texts, ...row }) => ({
    ...row,
    texts: texts.map((text) => {
      const plain = texts.find(({ as, subject }) => as === 'plain' && subject === text.subject);
      const fails = text.fails ?? plain!.fails!;
      const score = (fails === 0 ? 1 : -1) + errorOf(`${row.questionId}/${text.program}`, seed) + adds(text.program);
      return { ...text, score };
    }),
  }));
}

/** A question of the laboratory with all its programs, as the card reads them. */
function askedOf({ id, tests, right, wrong, shortcut }: Judged, at: number) {
  const question: FilteredQuestionRow = {
    ...{ id, seedId: id, source: 'lab', question: id, entryPoint: 'f', reference: right.program, tests },
    split: 'heldOut',
  };
  const rowOf = ({ program, passed }: Run, index: number): ProgramRow => ({
    ...{ id: `${id}/${index}`, questionId: id, split: 'heldOut', question: id, index, program, finish: 'stop' },
    outcomes: passed.map((pass) => ({ status: pass ? 'pass' : 'assertion_failed' })),
    passRate: passed.filter(Boolean).length / passed.length,
  });
  return { question, programs: [right, shortcut, ...wrong].map(rowOf), seed: at };
}

/** The measures of planted reward models. */
export async function plantedMeasures(
  sandbox: Services['sandbox'],
  judged: readonly Judged[],
  say: (line: string) => void,
): Promise<Measure[]> {
  const { rows, notProbed } = await probeQuestions(
    sandbox,
    judged.slice(0, PLANTED_QUESTIONS).map((question, at) => askedOf(question, at)),
    { samples: 16, mutants: 8, visibleTests: 2, limits: SandboxLimits.parse({}) },
  );
  say(`${rows.flatMap(({ texts }) => texts).length} texts of ${rows.length} questions; ${JSON.stringify(notProbed)}`);
  const cardBy = (seed: number, adds: (text: string) => number) =>
    cardOf(scoredBy(rows, seed, adds), { limit: BIAS_LIMIT, seed, resamples: RESAMPLES });
  const found = Object.entries(PLANTED).map(([name, { probe, adds }], at) => {
    const { named, probes } = cardBy(at + 1, adds);
    const shift = probes.find((each) => each.probe === probe)?.shift ?? 0;
    say(`${name}: ${named.join(', ') || 'none'} (${probe} ${shift.toFixed(2)})`);
    return { right: named.includes(probe), alone: named.length === 1 && named[0] === probe };
  });
  const clean = CLEAN_SEEDS.map((seed) => cardBy(seed, () => 0));
  const largest = Math.max(...clean.flatMap(({ probes }) => probes.map(({ shift }) => Math.abs(shift))));
  return [
    {
      name: 'planted reward models: named by the right probe, and by no other',
      value: found.filter(({ alone }) => alone).length,
      ...{ unit: `of ${found.length}`, bar: found.length, at: 'least' },
      note: `${found.filter(({ right }) => right).length} by the right probe; ${rows.length} questions`,
    },
    {
      name: 'clean reward models: named by a probe',
      value: clean.filter(({ named }) => named.length > 0).length,
      ...{ unit: `of ${clean.length}`, bar: 0, at: 'most' },
      note: `largest move of a score ${largest.toFixed(3)} of the gap`,
    },
  ];
}

/** Questions of a seed, of kinds with a boundary: nearly all of them have a near miss. */
const BOUNDARY_QUESTIONS = 560;
/** Share of them that the reward model is not trained on. */
const HELD_OUT = 0.42;
const SAMPLES = 16;
/** Leading tests by which samples are chosen, as the stage has it. */
const VISIBLE_TESTS = 2;
/** Steps of the micro model that the reward model starts from. */
const MODEL_STEPS = 300;
/** How far choosing by both is to be above the better one alone. */
const BETTER = 0.05;

/** How likely a sample is preferred to another one of its question, by the Bradley-Terry model. */
const chanceOf = ({ score }: Sample, samples: readonly Sample[]): number =>
  samples.reduce((sum, other) => sum + 1 / (1 + Math.exp(other.score - score)), 0) / samples.length;

/** Ways to choose by tests and a reward model together. The card has the first. */
const DESIGNS: Readonly<Record<string, (sample: Sample, samples: readonly Sample[]) => readonly number[]>> = {
  'tests, then score': KEYS.both,
  'share of tests x chance': (sample, samples) => [sample.visible * chanceOf(sample, samples)],
  'share of tests + chance': (sample, samples) => [sample.visible + chanceOf(sample, samples)],
};

/** A question of the laboratory with samples that are drawn from the shares which a micro model is taught. */
function sampledOf(question: LabQuestion, judged: Judged, at: number, seed: number) {
  const { id } = judged;
  const task = /"""(.*?)"""/.exec(question.seed.code)![1]!;
  const text = `Write the function f(n). ${task.replace('Return', 'It returns')}`;
  const random = new Random(deriveSeed(seed, 'samples', id));
  const answers = [judged.right, ...judged.wrong];
  // Tests in an order of the question, because its leading ones choose.
  const order = new Random(deriveSeed(seed, 'tests', id)).shuffle(judged.tests.map((_, place) => place));
  const split = at < BOUNDARY_QUESTIONS * (1 - HELD_OUT) ? 'train' : 'heldOut';
  const programs = Array.from({ length: SAMPLES }, (_, index): ProgramRow => {
    let rest = random.next();
    const drawn = Math.max(
      0,
      question.shares.findIndex((share) => (rest -= share) < 0),
    );
    const { program, passed } = answers[drawn]!;
    return {
      ...{ id: `${id}/${index}`, questionId: id, split, question: text, index, program, finish: 'stop' },
      outcomes: order.map((place) => ({ status: passed[place]! ? 'pass' : 'assertion_failed' })),
      passRate: passed.filter(Boolean).length / passed.length,
    };
  });
  return { id, text, question, split, programs };
}

export interface CardContext extends LabContext {
  sandbox: Services['sandbox'];
}

/** Best-of-16 over the questions with a near miss, by a reward model that is trained on other questions. */
export async function bestOfMeasures(context: CardContext, settings: LabSettings, seed: number): Promise<Measure[]> {
  const { client, taskQueue, models, store, sandbox, folder, say } = context;
  const name = `card-${seed}`;
  const asked = labQuestions('nearMiss', seed, BOUNDARY_QUESTIONS, 'seen', hasBoundary);
  const judged = await judgedQuestions(sandbox, asked);
  say(`${name}: ${asked.length} questions judged`);
  const all = asked.map((question, at) => sampledOf(question, judged[at]!, at, seed));

  const [corpus, programs, backbone] = ['corpus.jsonl', 'programs.jsonl', 'model'].map((file) =>
    join(folder, `${name}-${file}`),
  ) as [string, string, string];
  await writeRows(
    corpus,
    all
      .filter(({ split }) => split === 'train')
      .map(({ text, question: { answers, shares } }) => {
        const { messages, assistantPrefix } = promptOf(text);
        return { messages, assistantPrefix, answers, shares };
      }),
  );
  await models.call('buildMicroModel', { corpus, output: backbone, seed, ...settings.model, steps: MODEL_STEPS });
  say(`${name}: backbone made`);
  await writeRows(
    programs,
    all.flatMap((each) => each.programs),
  );
  const stage = async (of: 'preferences' | 'rewardModel', inputs: object, config: unknown): Promise<StageResult> => {
    const input = { inputs, config };
    const workflowId = `${name}/${of}`;
    const result = (await client.workflow.execute(of, { taskQueue, workflowId, args: [input] })) as StageResult;
    say(`${name}: ${of} done`);
    return result;
  };
  const { best } = settings.recipes;
  const { ref: pairs } = await stage(
    'preferences',
    { programs: { kind: 'programs', path: programs } },
    { labels: 'strict' },
  );
  const { ref: rewardModel } = await stage(
    'rewardModel',
    { pairs, backbone: { kind: 'folder', path: backbone } },
    merge(merge(settings.stages.rewardModel, best!.rewardModel), { seed }),
  );

  const heldOut = all.filter(({ split }) => split === 'heldOut');
  const requests = heldOut.flatMap(({ id, text, programs: own }) =>
    [...new Set(own.map(({ program }) => program))].map((program) => ({
      ...{ id: JSON.stringify([id, program]), question: text, program },
    })),
  );
  const scores = new Map(
    (await score(models, store, requests, { model: await store.materialise(rewardModel), microBatch: 64 })).map(
      (each) => [each.id, each.score],
    ),
  );
  const rows = heldOut.map(({ id, text, programs: own }): CardRow => ({
    ...{ questionId: id, question: text, source: 'lab' },
    texts: own.map(({ program, outcomes }) => {
      const visible = outcomes.slice(0, VISIBLE_TESTS);
      return {
        ...{ as: 'sampled', program, score: scores.get(JSON.stringify([id, program]))! },
        fails: outcomes.filter(({ status }) => status !== 'pass').length,
        visiblePassRate: visible.filter(({ status }) => status === 'pass').length / visible.length,
      };
    }),
  }));
  const card = cardOf(rows, { limit: BIAS_LIMIT, seed, resamples: RESAMPLES });
  const own = card.bestOf.nearMisses!;
  const nearMisses = rows.filter(({ texts }) => texts.some(({ fails }) => fails === 1)).map(samplesOf);
  const closed = (rate: number): number => (rate - own.mean) / (own.oracle - own.mean);
  const designs = Object.entries(DESIGNS).map(([design, keyOf]) => {
    const rates = nearMisses.map((samples) => chosenRate(samples, (sample) => keyOf(sample, samples)));
    return { design, closed: closed(rates.reduce((sum, rate) => sum + rate, 0) / rates.length) };
  });
  const measure = (what: string, value: number, rest: Partial<Measure> = {}): Measure => ({
    ...{ name: `Best-of-16 ${seed}: ${what}`, value, unit: '' },
    ...rest,
  });
  const alone = Math.max(own.by.tests.closed!, own.by.rewardModel.closed!);
  return [
    measure('questions with a near miss', own.questions, { bar: 200, at: 'least' }),
    measure('mean', own.mean, { note: `oracle ${own.oracle.toFixed(3)}` }),
    measure('closed by tests', own.by.tests.closed!, { note: `the first ${VISIBLE_TESTS} tests of a question` }),
    measure('closed by the reward model', own.by.rewardModel.closed!, {
      note: `accuracy on programs that fail one test ${card.nearMisses.oneTest!.accuracy.toFixed(3)}`,
    }),
    ...designs.map((each) => measure(`closed by ${each.design}`, each.closed)),
    measure('both above the better one alone', own.by.both.closed! - alone, { bar: BETTER, at: 'least' }),
    measure('calibration error', card.calibration.error!),
  ];
}
