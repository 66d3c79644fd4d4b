/** The sections of a report below its first screen: one for each part of the chain. */
import { z } from 'zod';
import {
  fetchCommand,
  figureName,
  POOLS,
  TASK_PARTS,
  TRAINED,
  type ArtifactRef,
  type EvaluationResult,
  type Frontier,
  type Pool,
} from '../../workflows/contract/index.js';
import { loadingSnippet } from '../artifacts/model-card.js';
import { comparisons } from './compared.js';
import { facts, sentences, table } from './elements.js';
import type { Figures } from './figures.js';
import { filterButton, pairedSentence } from './first-screen.js';
import { html, nothing, type Html, type HtmlValue } from './html.js';
import type { AddedTestsTally } from './added-tests.js';
import { calibrationPlot, histogram, linePlot, plotFigure, timePlot, type Series } from './plots.js';
import { FILTERS, VERDICT_LETTERS, type DropExample, type FilterName, type SampleCurve } from './questions.js';
import type { ReportInput, StageArtifacts } from './report-input.js';
import { rewardModelCardContent } from './reward-model-card.js';
import { passRateHistogram } from './summarise.js';
import { countedRates, type VerifierRates } from '../statistics/verifier-quality.js';
import type { VerifierFigure } from './verifiers.js';
import { bytesText, durationText, numberText, percent, percentRange, plural, shortKey } from './text.js';

/** A section of the page: `id` is its anchor. */
export interface Section {
  id: string;
  title: string;
  content: Html;
}

/** All sections, in the order of the page. */
export function sectionsOf(input: ReportInput, figures: Figures, artifacts: StageArtifacts): Section[] {
  return [
    { id: 'evaluation', title: 'Evaluation', content: evaluationSection(input, figures, artifacts.evaluation) },
    { id: 'questions', title: 'Questions and programs', content: questionsSection(input) },
    { id: 'stages', title: 'Stages', content: stagesSection(input, figures) },
    ...(input.fork ? [{ id: 'fork', title: 'Fork', content: forkSection(input.fork, figures, artifacts) }] : []),
    { id: 'data', title: 'Data', content: dataSection(input, figures, artifacts) },
    ...hardeningSections(input, figures, artifacts),
    { id: 'reward-model', title: 'Reward model', content: rewardModelSection(input, figures, artifacts.rewardModel) },
    ...cardSections(input, figures, artifacts),
    ...otherTrainings(input, figures, artifacts),
    { id: 'reinforcement', title: 'Reinforcement learning', content: reinforcementSection(input, figures) },
    { id: 'recipe', title: 'Recipe', content: recipeSection(input, figures) },
    { id: 'models', title: 'Trained models', content: modelsSection(input, figures) },
    { id: 'checks', title: 'Checks', content: checksSection(input) },
  ];
}

// Evaluation

function evaluationSection(
  { evaluation, comparisons: paired = [], tallies }: ReportInput,
  figures: Figures,
  artifact: ArtifactRef | undefined,
): Html {
  if (evaluation.length === 0) return html`<p>Nothing was evaluated.</p>`;
  const columns = (of: 'passAtK' | 'bestOfN'): string[] =>
    [...new Set(evaluation.flatMap((result) => Object.keys(result[of])))].sort((a, b) => Number(a) - Number(b));
  const [passAtK, bestOfN] = [columns('passAtK'), columns('bestOfN')];
  const statements = comparisons(evaluation, paired);
  for (const { benchmark, after, measure, difference, p, adjustedP, minimalDetectable } of paired)
    for (const [name, value] of Object.entries({ difference, p, adjustedP, minimalDetectable }))
      figures.note(figureName('evaluation', benchmark, after, measure, name), value, artifact);
  const within = (interval: readonly [number, number] | null | undefined): HtmlValue =>
    interval ? html`${percentRange(interval)}<br>` : nothing;
  const cutRate = ({ benchmark, policy }: EvaluationResult): HtmlValue => {
    const own = tallies.evaluation.find((each) => each.benchmark === benchmark && each.policy === policy)?.answers;
    if (!own) return 'not recorded';
    const { truncated, answers } = own;
    const name = figureName('evaluation', benchmark, policy, 'truncated');
    return html`${figures.show(name, truncated / answers, artifact, percent(truncated / answers))}<br><small>${plural(
      answers,
      'answer',
    )}</small>`;
  };
  const rows = evaluation.map((result: EvaluationResult) => {
    const figure = (name: string) => figureName('evaluation', result.benchmark, result.policy, name);
    const rate = (name: string, value: number | null | undefined, extra: HtmlValue = nothing): HtmlValue =>
      value === null || value === undefined
        ? '–'
        : html`${figures.show(figure(name), value, artifact, percent(value))}<br><small>${extra}${plural(
            result.tasks,
            'task',
          )}</small>`;
    return {
      cells: [
        html`<bdi>${result.benchmark}</bdi>`,
        html`<bdi>${result.policy}</bdi>`,
        figures.show(figure('samples'), result.samples, artifact),
        rate('greedy', result.greedy, within(result.greedyInterval)),
        rate('mean', result.mean, within(result.intervals?.mean)),
        ...passAtK.map((k) => rate(`pass@${k}`, result.passAtK[k], within(result.intervals?.passAtK[k]))),
        ...bestOfN.map((n) => rate(`bestOf${n}`, result.bestOfN[n], within(result.intervals?.bestOfN[n]))),
        rate('oracle', result.oracle, within(result.intervals?.oracle)),
        cutRate(result),
      ],
    };
  });
  return html`${table(
    [
      'benchmark',
      'policy',
      '#samples',
      '#greedy',
      '#mean',
      ...passAtK.map((k) => `#pass@${k}`),
      ...bestOfN.map((n) => `#Best-of-${n}`),
      '#oracle',
      '#cut',
    ],
    rows,
  )}
<p>Greedy: one answer per task, with the 95 % Wilson interval over tasks.
Mean, pass@k (unbiased), Best-of-N (the sample that the reward model scores highest) and oracle (any sample passes)
are over the samples of each task${
    evaluation.some(({ intervals }) => intervals)
      ? ', with the 95 % interval of a bootstrap over tasks'
      : '; they carry no interval here, so no gain is claimed from them'
  }.
Cut: answers that ended at the token limit.</p>
${
  statements.length === 0
    ? html`<p>Only one policy was evaluated on each benchmark, so there is nothing to compare.</p>`
    : sentences(statements)
}
${tallies.paired.map((tasks) => pairedSentence(tasks, figures, artifact))}
${partsTable(evaluation, figures, artifact)}
${selectionsTable(evaluation, figures, artifact)}
<div class="plots">${tallies.curves.map((curve) => bestOfPlot(curve, figures, artifact))}</div>`;
}

/** The same figures over the problems that the training cannot have seen, and over the others. */
function partsTable(
  evaluation: readonly EvaluationResult[],
  figures: Figures,
  artifact: ArtifactRef | undefined,
): Html {
  const looked = evaluation.filter(({ clean }) => clean !== undefined);
  if (looked.length === 0)
    return html`<p>No question of the training was run against these benchmarks, so nothing is said of contamination.</p>`;
  const rows = looked.flatMap((result) =>
    TASK_PARTS.flatMap((part) => {
      const own = result[part];
      if (!own) return [];
      const show = (name: string, value: number | null | undefined): HtmlValue =>
        value === null || value === undefined
          ? '–'
          : figures.show(
              figureName('evaluation', result.benchmark, result.policy, part, name),
              value,
              artifact,
              percent(value),
            );
      const highest = (rates: Record<string, number>): string | undefined =>
        Object.keys(rates).sort((a, b) => Number(b) - Number(a))[0];
      const [k, n] = [highest(own.passAtK), highest(own.bestOfN)];
      return [
        {
          cells: [
            html`<bdi>${result.benchmark}</bdi>`,
            html`<bdi>${result.policy}</bdi>`,
            part,
            figures.show(figureName('evaluation', result.benchmark, result.policy, part, 'tasks'), own.tasks, artifact),
            html`${show('greedy', own.greedy)}${
              own.greedyInterval ? html`<br><small>${percentRange(own.greedyInterval)}</small>` : nothing
            }`,
            show('mean', own.mean),
            k === undefined ? '–' : html`${show(`pass@${k}`, own.passAtK[k])}<br><small>k = ${k}</small>`,
            n === undefined ? '–' : html`${show(`bestOf${n}`, own.bestOfN[n])}<br><small>N = ${n}</small>`,
            show('oracle', own.oracle),
          ],
        },
      ];
    }),
  );
  return html`<h3>Clean and suspect problems</h3>
<p>A problem is suspect where a question of the training solves it, all of its tests passing, or is written like it.
The evaluation's artifact names the questions.</p>
${table(['benchmark', 'policy', 'problems', '#tasks', '#greedy', '#mean', '#pass@k', '#Best-of-N', '#oracle'], rows)}`;
}

/** Who chooses one of N samples, and what that gains over a sample at random. */
function selectionsTable(
  evaluation: readonly EvaluationResult[],
  figures: Figures,
  artifact: ArtifactRef | undefined,
): Html {
  const rows = evaluation.flatMap(({ benchmark, policy, selections = [] }) =>
    selections.map(({ method, N, rate, interval, gain, gainInterval }) => {
      const name = (what: string) => figureName('evaluation', benchmark, policy, `${method}-of-${N}`, what);
      return {
        cells: [
          html`<bdi>${benchmark}</bdi>`,
          html`<bdi>${policy}</bdi>`,
          method,
          N,
          html`${figures.show(name('rate'), rate, artifact, percent(rate))}<br>
<small>${percentRange(interval)}</small>`,
          html`${figures.show(name('gain'), gain, artifact, (100 * gain).toFixed(1))}<br>
<small>${gainInterval.map((end) => (100 * end).toFixed(1)).join(' to ')}</small>`,
        ],
      };
    }),
  );
  return rows.length === 0
    ? nothing
    : html`<h3>Who chooses one of N samples</h3>
<p>The reward model, the most frequent program, the leading tests of a task, or these tests and then the reward model;
with the gain over a sample at random, in points.</p>
${table(['benchmark', 'policy', 'chosen by', '#N', '#rate', '#gain'], rows)}`;
}

/** Best-of-N against N, between the mean and the oracle. */
function bestOfPlot(curve: SampleCurve, figures: Figures, artifact: ArtifactRef | undefined): Html {
  const { benchmark, policy, tasks, points } = curve;
  if (points.length < 2) return nothing;
  const series = (
    name: string,
    rate: (point: (typeof points)[number]) => number | undefined,
    level = false,
  ): Series => ({
    name,
    level,
    points: points.flatMap((point) => {
      const y = rate(point);
      if (y === undefined) return [];
      figures.note(figureName('evaluation', benchmark, policy, `curve-${name}`, point.n), y, artifact);
      return [{ x: point.n, y }];
    }),
  });
  return plotFigure(
    linePlot(
      `Best-of-N: ${policy} on ${benchmark}`,
      html`Rates over ${plural(tasks, 'task')} by the number of samples that are chosen from, counted from the stored
answers. ${source(figures, artifact)}`,
      { x: 'N', y: 'rate', log: true },
      [
        series('oracle', ({ oracle }) => oracle),
        series('reward model', ({ bestOf }) => bestOf),
        series('mean', ({ mean }) => mean, true),
      ],
    ),
  );
}

function source(figures: Figures, artifact: ArtifactRef | undefined): Html {
  return artifact === undefined ? nothing : html`From ${figures.key(artifact)}.`;
}

// Questions

/** The frame of the questions, which the script of the page fills, and what they say in numbers. */
function questionsSection({ tallies, questions }: ReportInput): Html {
  if (tallies.questions === 0) return html`<p>There is no question yet.</p>`;
  const options = (Object.entries(FILTERS) as [FilterName, string][]).filter(([name]) => tallies.found[name] > 0);
  return html`<p>${plural(tallies.questions, 'question')}: their tests, the programs that were written for them, what
each test said, and what the policies answer before and after training.</p>
<noscript><p>Questions are found and shown by a script, which is switched off.
The rest of the page needs none.</p></noscript>
<div id="browser" hidden>
<div class="controls">
<label>Search names and questions
<input id="browser-search" type="search" autocomplete="off" spellcheck="false"${
    'indexFile' in questions ? html` disabled="disabled"` : nothing
  }></label>
<label>Show only
<select id="browser-filter"${'indexFile' in questions ? html` disabled="disabled"` : nothing}>
<option value="">all questions</option>
${options.map(
  ([name, text]) => html`<option value="${name}">${text} (${numberText(tallies.found[name])})</option>
`,
)}</select></label>
</div>
<p id="browser-count" role="status" class="soft">The questions are being read …</p>
<ul id="browser-found" tabindex="0" aria-label="Questions that are found"></ul>
<button id="browser-more" type="button" hidden>List more</button>
<article id="browser-question" aria-label="Question" hidden></article>
</div>
${
  options.length === 0
    ? nothing
    : table(
        ['questions of which', '#count'],
        options.map(([name, text]) => ({
          cells: [html`${text}${filterButton(name, 'show them')}`, tallies.found[name]],
        })),
      )
}`;
}

/** What the script of the page is told: bits of the filters, words of the verdicts, where the questions are. */
export function browserSettings({ questions }: ReportInput, shardSize: number): object {
  return {
    shardSize,
    filters: Object.fromEntries(Object.keys(FILTERS).map((name, bit) => [name, 1 << bit])),
    letters: Object.fromEntries(Object.entries(VERDICT_LETTERS).map(([verdict, letter]) => [letter, verdict])),
    files: 'files' in questions ? questions.files : [],
    ...('indexFile' in questions ? { indexFile: questions.indexFile } : {}),
  };
}

// Stages and data

function stagesSection({ stages, about }: ReportInput, figures: Figures): Html {
  if (stages.length === 0) return html`<p>No stage is known.</p>`;
  const device = new Map(about.deviceSeconds.map(({ stage, seconds }) => [stage, seconds]));
  return table(
    ['stage', 'state', '#time', '#device', 'result', 'artifact'],
    stages.map(({ name, state, seconds, reused, artifact, progress }) => ({
      cells: [
        name,
        progress ? html`${state}<br><small>${progress}</small>` : state,
        figures.show(figureName(name, 'seconds'), seconds, artifact, durationText(seconds)),
        device.has(name)
          ? figures.show(
              figureName(name, 'deviceSeconds'),
              device.get(name)!,
              artifact,
              durationText(device.get(name)!),
            )
          : '–',
        artifact === undefined ? '–' : reused ? 'reused' : 'made',
        artifact === undefined ? 'none' : figures.key(artifact),
      ],
    })),
  );
}

/** What a fork changes, what it reused, what it made again, and why. */
function forkSection(fork: Frontier, figures: Figures, artifacts: StageArtifacts): Html {
  const json = (value: unknown): Html => html`<code><bdi>${JSON.stringify(value)}</bdi></code>`;
  const rounds = fork.stages.flatMap(({ name, steps }) =>
    Object.entries(steps ?? {}).map(([step, counts]) => ({ name, step, ...counts })),
  );
  return html`<p>It takes what <bdi>${fork.of}</bdi> has made before ${fork.from},
and runs the rest with other settings.</p>
<h3>What is another</h3>
${table(
  ['field', 'was', 'is'],
  fork.differences.map(({ field, was, is }) => ({ cells: [html`<code>${field}</code>`, json(was), json(is)] })),
)}
<h3>What was reused, and what was made again</h3>
${table(
  ['stage', 'result', 'because of', 'artifact'],
  fork.stages.map(({ name, reused, because }) => ({
    cells: [
      name,
      reused === undefined ? 'not done' : reused ? 'reused' : 'made again',
      because.join(', ') || '–',
      artifacts[name] === undefined ? 'none' : figures.key(artifacts[name]),
    ],
  })),
)}
${
  rounds.length === 0
    ? nothing
    : html`<h3>Rounds</h3>
${table(
  ['stage', 'step', '#reused', '#made again', '#first that was made'],
  rounds.map(({ name, step, reused, made, madeFrom }) => ({ cells: [name, step, reused, made, madeFrom ?? '–'] })),
)}`
}`;
}

function dataSection(input: ReportInput, figures: Figures, artifacts: StageArtifacts): Html {
  const { metrics, about, filterQuality, tallies } = input;
  const { synthesis, filtering, sampling, preferences } = metrics;
  const row = (what: string, id: string, value: number | undefined, artifact: ArtifactRef | undefined) => ({
    cells: [what, value === undefined ? '–' : figures.show(id, value, artifact)],
  });
  const verdicts = Object.entries(sampling?.verdicts ?? {}).sort(([, a], [, b]) => b - a);
  return html`<p>${about.teacherNote}</p>
${table(
  ['', '#count'],
  [
    row('seeds', 'synthesis.seeds', synthesis?.seeds, artifacts.synthesis),
    row('questions written', 'synthesis.questions', synthesis?.questions, artifacts.synthesis),
    row('test cases written', 'filtering.testCases', filtering?.testCases, artifacts.filtering),
    row('test cases kept by the oracle', 'filtering.keptTestCases', filtering?.keptTestCases, artifacts.filtering),
    row('questions kept', 'filtering.questions', filtering?.questions, artifacts.filtering),
    row('of them held out', 'filtering.heldOut', filtering?.heldOut, artifacts.filtering),
    row('programs sampled', 'sampling.programs', sampling?.programs, artifacts.sampling),
    row('preference pairs', 'preferences.pairs', preferences?.pairs, artifacts.preferences),
    row('held-out pairs', 'preferences.heldOutPairs', preferences?.heldOutPairs, artifacts.preferences),
  ],
)}
<h3>What was dropped, and why</h3>
${droppedTable(input, figures)}
${filterQuality === undefined ? nothing : filterQualityText(filterQuality, filtering?.testCases ?? 0, figures, artifacts.filtering)}
${verifierQuality(input, figures, artifacts.sampling)}
<h3>Pass rates</h3>
${
  sampling === undefined || sampling.programs === 0
    ? html`<p>No program has a pass rate.</p>`
    : html`<div class="plots">${plotFigure(
        histogram(
          'Pass rates of the sampled programs',
          html`Passed tests over kept tests; the last bin includes 1. The mean is ${figures.show(
            'sampling.meanPassRate',
            sampling.meanPassRate,
            artifacts.sampling,
            percent(sampling.meanPassRate),
          )}. ${source(figures, artifacts.sampling)}`,
          { x: 'pass rate', y: 'programs' },
          passRateHistogram(sampling).map(({ from, to, programs }) => {
            figures.note(figureName('sampling', 'histogram', `${from * 10}`), programs, artifacts.sampling);
            return { from, to, count: programs };
          }),
        ),
      )}<div>${table(
        ['verdict', '#tests'],
        verdicts.map(([verdict, count]) => ({
          cells: [verdict, figures.show(figureName('sampling', 'verdicts', verdict), count, artifacts.sampling)],
        })),
      )}${
        tallies.sampling
          ? html`<p class="soft">${percent(tallies.sampling.truncated / tallies.sampling.answers)} of the programs were
cut at the token limit.</p>`
          : nothing
      }</div></div>`
}`;
}

/** What each figure of verifiers is called, and how it is written. */
const VERIFIER_FIGURES: Record<VerifierFigure, [name: string, text: (value: number) => string]> = {
  tests: ['kept tests', numberText],
  duplicates: ['tests with the verdicts of an earlier one', numberText],
  rank: ['rank of the verdicts', numberText],
  discrimination: ['share of the pairs of programs that a test tells apart', numberText],
  truePositive: ['TPR, estimated', numberText],
  falsePositive: ['FPR, estimated', numberText],
  j: ['J = TPR − FPR, estimated', numberText],
};

/** The kept tests of each question as a verifier of programs. */
function verifierQuality(
  { tallies: { verifiers } }: ReportInput,
  figures: Figures,
  artifact: ArtifactRef | undefined,
): HtmlValue {
  if (verifiers === undefined) return nothing;
  const { questions, estimated, means, histogram: bins } = verifiers;
  const name = (figure: string): string => figureName('verifier', figure);
  const rows = (Object.entries(VERIFIER_FIGURES) as [VerifierFigure, [string, (value: number) => string]][]).flatMap(
    ([figure, [what, text]]) => {
      const own = means[figure];
      return own === undefined
        ? []
        : [
            {
              cells: [
                what,
                figures.show(name(figure), own.mean, artifact, text(own.mean)),
                own.interval.map(text).join(' to '),
              ],
            },
          ];
    },
  );
  return html`<h3>The tests as a verifier</h3>
<p>From the verdicts of the sampled programs alone, as means over ${plural(questions, 'question')}, of which
${figures.show(name('estimated'), estimated, artifact)} have estimated rates.
The best programs of a question are taken for the right ones. Where none is right, J is too high.</p>
<div class="plots">${
    estimated === 0
      ? nothing
      : plotFigure(
          histogram(
            'J of the questions',
            html`True positive rate less false positive rate of the tests of a question, estimated; what is below 0 is in
the first bin. ${source(figures, artifact)}`,
            { x: 'J', y: 'questions' },
            bins.map((bin) => {
              figures.note(
                figureName('verifier', 'j', 'histogram', `${Math.round(bin.from * 10)}`),
                bin.count,
                artifact,
              );
              return bin;
            }),
          ),
        )
  }<div>${table(['per question', '#mean', '#95 % interval'], rows)}</div></div>`;
}

/** What hardening did to tests, pass rates, pairs and RL; no section where the stage did not run. */
function hardeningSections(
  { metrics: { hardening }, tallies: { addedTests } }: ReportInput,
  figures: Figures,
  artifacts: StageArtifacts,
): Section[] {
  if (!hardening) return [];
  const artifact = artifacts.hardening;
  const show = (name: string, value: number, text?: string): HtmlValue =>
    figures.show(`hardening.${name}`, value, artifact, text);
  const row = (what: string, name: string, value: number) => ({ cells: [what, show(name, value)] });
  const { tests, mutants, survivors, rank, trusts, teacher, meanPassRate, pairs, notHardened, refused } = hardening;
  const reasons = (counts: Record<string, number>, name: string) =>
    Object.entries(counts)
      .sort(([, a], [, b]) => b - a)
      .map(([reason, times]) => row(reason, `${name}.${reason}`, times));
  const content = html`<p>What vouches for an input is ${TRUST_TEXT[hardening.trust]}.
The rates and pairs of all later stages are those after hardening.</p>
${table(
  ['', '#count'],
  [
    row('questions with programs', 'questions', hardening.questions),
    row('questions with added tests', 'hardened', hardening.hardened),
    row('tests added because they kill a sampled program', 'tests.program', tests.program),
    row('tests added because they kill a mutant of the reference alone', 'tests.mutant', tests.mutant),
    row('tests added because they ask something new', 'tests.kind', tests.kind),
    row('programs that pass all tests of their question', 'survivors.programs', survivors.programs),
    row('of them, programs that fail an added test', 'survivors.killed', survivors.killed),
    row('mutants that pass all tests of their question', 'mutants.survive', mutants.survive),
    row('of them, mutants that fail an added test', 'mutants.killed', mutants.killed),
    row('independent ways in which attackers fail on proposed tests', 'rank.proposed', rank.proposed),
    row('of them, told apart by added tests', 'rank.added', rank.added),
    ...(teacher
      ? [
          row('inputs that the teacher proposes', 'teacher.proposed', teacher.proposed),
          row('of them, inputs that were tried', 'teacher.tried', teacher.tried),
          row('of them, inputs of added tests', 'teacher.tests', teacher.tests),
        ]
      : []),
  ],
)}
<p>What each trust would keep of the added tests, and what it costs: a program that fails only tests for which nothing
vouches but the reference may be right.</p>
${table(
  ['who vouches', '#added tests', '#programs that fail one', '#programs that fail only others'],
  Object.entries(trusts).map(([trust, { tests: kept, killed }]) => ({
    cells: [
      trust,
      show(`trusts.${trust}.tests`, kept),
      show(`trusts.${trust}.killed`, killed),
      show(`trusts.${trust}.others`, trusts.reference.killed - killed),
    ],
  })),
)}
${table(
  ['', '#before', '#after'],
  [
    {
      cells: [
        'mean pass rate',
        show('meanPassRate.before', meanPassRate.before, percent(meanPassRate.before)),
        show('meanPassRate.after', meanPassRate.after, percent(meanPassRate.after)),
      ],
    },
    {
      cells: ["pairs by the paper's rule", show('pairs.before', pairs.before), show('pairs.after', pairs.after)],
    },
  ],
)}
${addedTestsContent(addedTests, figures, artifacts)}
${reasonsTable('questions without added tests', reasons(notHardened, 'notHardened'))}
${reasonsTable('inputs that became no test', reasons(refused, 'refused'))}`;
  return [{ id: 'hardening', title: 'Hardening', content }];
}

/** What the added tests decide in RL, and whether the reward model agrees with them. */
function addedTestsContent(
  tallies: readonly AddedTestsTally[],
  figures: Figures,
  { reinforcement }: StageArtifacts,
): Html {
  if (tallies.length === 0) return html``;
  const show = (by: string, name: string, value: number, text?: string): HtmlValue =>
    figures.show(`hardening.rollouts.${by}.${name}`, value, reinforcement, text);
  const counts = (what: string, name: 'questions' | 'passOwn' | 'failAdded') => ({
    cells: [what, ...tallies.map((tally) => show(tally.by, name, tally[name]))],
  });
  const shares = (what: string, name: 'share' | 'preferred') => ({
    cells: [
      what,
      ...tallies.map(({ by, [name]: figure }): HtmlValue =>
        figure
          ? html`${show(by, name, figure.mean, percent(figure.mean))} (${percentRange(figure.interval)}),
${plural(figure.questions, 'question')}`
          : '–',
      ),
    ],
  });
  return html`<p>A rollout that passes the tests that its question had before, and fails an added one, would be rewarded
as right without hardening.</p>
${table(
  ['rollouts', ...tallies.map(({ by }) => `#${by} round of a question`)],
  [
    counts('questions with added tests', 'questions'),
    counts('rollouts that pass the tests before', 'passOwn'),
    counts('of them, rollouts that fail an added test', 'failAdded'),
    shares('their share, averaged over questions (95 %)', 'share'),
    shares('the reward model scores a rollout that passes all above one of them (95 %)', 'preferred'),
  ],
)}`;
}

const TRUST_TEXT = {
  reference: 'the reference alone: where the reference is wrong, or the input is not meant, a right program may fail',
  contract: "the contract of the question's row, next to the reference",
  agreement: 'a sampled program that passes all tests of the question and answers as the reference does',
} as const;

function reasonsTable(title: string, rows: { cells: HtmlValue[] }[]): Html {
  return rows.length === 0 ? nothing : html`${table([title, '#count'], rows)}`;
}

/** What was dropped by reason; a reason opens to examples. */
function droppedTable({ dropped, tallies, metrics }: ReportInput, figures: Figures): Html {
  if (dropped.length === 0) return html`<p>Nothing was dropped.</p>`;
  return table(
    ['stage', 'what', 'why', '#count'],
    dropped.map(({ stage, what, reason, count, artifact }) => {
      const examples: readonly DropExample[] =
        reason === 'benchmarkContamination'
          ? (metrics.synthesis?.contaminated ?? []).slice(0, 3).map(({ seed, why }) => ({ text: `${seed}: ${why}` }))
          : (tallies.examples[`${stage} ${what} ${reason}`] ?? []);
      return {
        cells: [
          stage,
          what,
          withExamples(reason, examples),
          figures.show(figureName(stage, 'dropped', what, reason), count, artifact),
        ],
      };
    }),
  );
}

/** A reason that opens to examples, where there are some. */
function withExamples(reason: string, examples: readonly DropExample[]): HtmlValue {
  if (examples.length === 0) return reason;
  return html`<details><summary>${reason}</summary><ul>${examples.map(
    ({ text, question }) =>
      html`<li><code><bdi>${text}</bdi></code>${
        question === undefined ? nothing : html` <a href="#q=${encodeURIComponent(question)}">the question</a>`
      }</li>`,
  )}</ul></details>`;
}

/** Precision and recall of the filter. Every rate comes with its counts. */
function filterQualityText(
  { injected, dropped, droppedInjected }: NonNullable<ReportInput['filterQuality']>,
  testCases: number,
  figures: Figures,
  artifact: ArtifactRef | undefined,
): Html {
  const right = testCases - injected;
  const known = countedRates({
    right: { passed: right - (dropped - droppedInjected), all: right },
    wrong: { passed: injected - droppedInjected, all: injected },
  });
  const known95 = (name: keyof VerifierRates): HtmlValue =>
    known
      ? html`${figures.show(figureName('filtering', name), known[name].value, artifact)}
(95 % interval ${known[name].interval.map(numberText).join(' to ')})`
      : 'not measured';
  const rate = (name: string, of: number): HtmlValue =>
    of === 0
      ? 'not measured'
      : html`${figures.show(`filtering.${name}`, droppedInjected / of, artifact, percent(droppedInjected / of))} (${
          droppedInjected
        } of ${of})`;
  return html`<p>The filter against the errors that the offline teacher injected:
precision ${rate('precision', dropped)} of the dropped test cases, recall ${rate('recall', injected)} of the injected
errors.
As a verifier of test cases it keeps a share ${known95('truePositive')} of the right ones and
${known95('falsePositive')} of the wrong ones: J = ${known95('j')}.
This checks the filter; it is no evidence about what language models write.</p>`;
}

// Trainings

/** What the held-out accuracy shows about the reward model. */
function accuracyVerdict({
  interval95,
  baselineAccuracy,
  heldOutAccuracy,
}: NonNullable<ReportInput['metrics']['rewardModel']>): string {
  if (heldOutAccuracy === null || interval95 === null)
    return 'There is no held-out accuracy with an interval, so nothing is claimed about the reward model.';
  const [low, high] = interval95;
  const chance =
    low > 0.5
      ? 'The interval lies above 50 %, the accuracy of a coin.'
      : high < 0.5
        ? 'The interval lies below 50 %: the reward model ranks worse than a coin.'
        : 'The interval holds 50 %, so this run does not show that the reward model ranks better than a coin.';
  if (baselineAccuracy === null) return chance;
  const baseline =
    low > baselineAccuracy
      ? 'It lies above the baseline as well.'
      : high < baselineAccuracy
        ? 'It lies below the baseline.'
        : 'It holds the accuracy of the baseline, so no gain over the baseline is shown.';
  return `${chance} ${baseline}`;
}

function rewardModelSection(
  { metrics: { rewardModel } }: ReportInput,
  figures: Figures,
  artifact: ArtifactRef | undefined,
): Html {
  if (rewardModel === undefined) return html`<p>No reward model was trained.</p>`;
  const show = (id: string, value: number, text?: string) =>
    figures.show(`rewardModel.${id}`, value, artifact, text ?? numberText(value));
  const rate = (id: string, value: number | null): HtmlValue =>
    value === null ? 'not measured' : show(id, value, percent(value));
  const { heldOutAccuracy, interval95, baselineAccuracy, calibration, curve, byGap } = rewardModel;
  const about = 'Bradley-Terry loss over training.';
  const loss = trainingCurve('Training loss of the reward model', about, curve, 'rewardModel', figures, artifact);
  return html`${table(
    ['', '#value'],
    [
      { cells: ['pairs trained on', show('pairs', rewardModel.pairs)] },
      { cells: ['pairs left out as too long', show('tooLong', rewardModel.tooLong)] },
      { cells: ['held-out pairs', show('heldOutPairs', rewardModel.heldOutPairs)] },
      { cells: ['questions they are from', show('heldOutQuestions', rewardModel.heldOutQuestions)] },
      { cells: ['held-out accuracy', rate('heldOutAccuracy', heldOutAccuracy)] },
      {
        cells: [
          'its 95 % interval',
          interval95 === null
            ? 'not measured'
            : figures.show('rewardModel.interval95', percentRange(interval95), artifact),
        ],
      },
      { cells: ['accuracy of the baseline, before training', rate('baselineAccuracy', baselineAccuracy)] },
    ],
  )}
<p class="verdict">${accuracyVerdict(rewardModel)}</p>
<div class="plots">${
    calibration.length === 0
      ? html`<p>There is no calibration: no held-out pairs were scored.</p>`
      : plotFigure(
          calibrationPlot(
            'Calibration',
            html`On held-out pairs: predicted probability σ(Δ score) against the share that was right;
the dashed line is perfect. ${source(figures, artifact)}`,
            calibration,
          ),
        )
  }
${loss}</div>
${
  byGap.length === 0
    ? nothing
    : html`<h3>Accuracy by the difference of pass rates</h3>${table(
        ['difference', '#accuracy', '#pairs'],
        byGap.map(({ above, atMost, accuracy, count }) => ({
          cells: [
            `above ${percent(above)} to ${percent(atMost)}`,
            show(figureName('byGap', `${atMost}`), accuracy, percent(accuracy)),
            count,
          ],
        })),
      )}`
}`;
}

/** What the card of the reward model says; no section where the stage did not run. */
function cardSections(input: ReportInput, figures: Figures, { rewardModelCard }: StageArtifacts): Section[] {
  const content = rewardModelCardContent(input, figures, rewardModelCard);
  return content ? [{ id: 'reward-model-card', title: 'Card of the reward model', content }] : [];
}

function trainingCurve(
  title: string,
  caption: string,
  curve: readonly { step: number; loss: number }[],
  stage: string,
  figures: Figures,
  artifact: ArtifactRef | undefined,
): Html {
  if (curve.length === 0) return nothing;
  for (const { step, loss } of curve) figures.note(figureName(stage, 'loss', step), loss, artifact);
  return plotFigure(
    linePlot(title, html`${caption} ${source(figures, artifact)}`, { x: 'step', y: 'loss' }, [
      { name: 'loss', points: curve.map(({ step, loss }) => ({ x: step, y: loss })) },
    ]),
  );
}

/** What a training says of itself, whatever stage it is: its numbers, and its loss. */
const Training = z.looseObject({ curve: z.array(z.object({ step: z.number(), loss: z.number() })).default([]) });

/** Trainings that have no section of their own. */
function otherTrainings({ metrics }: ReportInput, figures: Figures, artifacts: StageArtifacts): Section[] {
  return TRAINED.filter(({ name }) => name !== 'rewardModel' && name !== 'reinforcement').flatMap(({ name }) => {
    const training = Training.safeParse(metrics[name]);
    if (!training.success) return [];
    const { curve, ...rest } = training.data;
    const numbers = Object.entries(rest).filter((entry): entry is [string, number] => typeof entry[1] === 'number');
    const loss = trainingCurve(
      `Training loss of ${name}`,
      'Loss over training.',
      curve,
      name,
      figures,
      artifacts[name],
    );
    return [
      {
        id: name,
        title: `Training: ${name}`,
        content: html`${table(
          ['', '#value'],
          numbers.map(([what, value]) => ({
            cells: [what, figures.show(figureName(name, what), value, artifacts[name])],
          })),
        )}
<div class="plots">${loss}</div>`,
      },
    ];
  });
}

function droppedText(dropped: Record<string, number>): string {
  return (
    Object.entries(dropped)
      .filter(([, count]) => count > 0)
      .map(([reason, count]) => `${reason} ${count}`)
      .join(', ') || '–'
  );
}

/** Rollouts that no round trained on, by reason. */
function droppedRollouts({ rounds, tallies }: ReportInput, figures: Figures): Html {
  const counts: Record<string, number> = {};
  for (const { dropped } of rounds)
    for (const [reason, count] of Object.entries(dropped)) counts[reason] = (counts[reason] ?? 0) + count;
  const found = Object.entries(counts).filter(([, count]) => count > 0);
  if (found.length === 0) return nothing;
  return html`<h3>Rollouts that were left out of training</h3>
${table(
  ['why', '#count'],
  found.map(([reason, count]) => ({
    cells: [
      withExamples(reason, tallies.examples[`reinforcement rollout ${reason}`] ?? []),
      figures.show(figureName('reinforcement', 'dropped', reason), count, rounds.at(-1)!.artifact),
    ],
  })),
)}`;
}

function reinforcementSection(input: ReportInput, figures: Figures): Html {
  const { rounds, about, deviceWaiting, tallies } = input;
  if (rounds.length === 0) return html`<p>No round of reinforcement learning was run.</p>`;
  const all = rounds.map((round, at) => ({ ...round, details: about.rounds[at] ?? {} }));
  type Round = (typeof all)[number];
  const series = (name: string, value: (round: Round) => number | undefined, scale = 1): Series => ({
    name,
    points: all.flatMap((round) => {
      const y = value(round);
      return y === undefined ? [] : [{ x: round.round, y: y * scale }];
    }),
  });
  const plot = (title: string, caption: HtmlValue, y: string, of: Series[]): Html =>
    of.every(({ points }) => points.length === 0)
      ? nothing
      : of.every(({ points }) => points.every((point) => point.y === 0))
        ? html`<p class="soft">${title}: 0 in every round.</p>`
        : plotFigure(linePlot(title, caption, { x: 'round', y }, of));
  const optional = (round: Round, name: string, value: number | undefined, artifact?: ArtifactRef, text?: string) =>
    value === undefined
      ? 'not recorded'
      : figures.show(
          figureName('reinforcement', 'round', round.round, name),
          value,
          artifact,
          text ?? numberText(value),
        );
  return html`<div class="plots">${plot(
    'Reward',
    'Mean reward of the trained rollouts, and the share of passed tests over all rollouts.',
    'reward',
    [series('reward', ({ reward }) => reward), series('tests passed', ({ details }) => details.passRate)],
  )}
${plot(
  'Score of the reward model',
  'Mean raw score over all rollouts; the reward takes it in held-out standard deviations.',
  'score',
  [series('score', ({ details }) => details.score)],
)}
${plot(
  'KL divergence',
  'From the reference policy, in nats per token; the estimator k1 may be slightly negative.',
  'KL',
  [series('KL', ({ kl }) => kl)],
)}
${plot('Entropy', 'Of the policy over its rollouts, in nats per token.', 'entropy', [
  series('entropy', ({ entropy }) => entropy),
])}
${plot('Length', 'Mean tokens of an answer.', 'tokens', [series('tokens', ({ details }) => details.meanTokens)])}
${plot('Cut answers', 'Answers that were cut at the token limit, in per cent.', 'per cent', [
  series('cut answers', ({ details }) => details.truncated, 100),
])}
${plot(
  'Hidden tests',
  'Share of passed tests, of those that rewards read and of those that they do not; and programs that pass all of the ' +
    'former less those that pass all tests. If they part, the policy learns the tests.',
  'share',
  [
    series('visible tests', ({ details }) => details.watch?.visiblePassRate),
    series('hidden tests', ({ details }) => details.watch?.hiddenPassRate),
    series('gap', ({ details }) => details.watch?.gap?.value),
  ],
)}
${plot(
  'Promise of the reward model',
  'Programs that it promises to pass, less those that pass, by the curve of the first round.',
  'share',
  [series('gap', ({ details }) => details.watch?.rewardModelGap?.value)],
)}
${plot(
  'Groups without signal',
  'Groups whose rewards are all equal: of the first draw of a round, and after groups were drawn again; and the ' +
    'rollouts that drawing again cost, against those of the round.',
  'per cent',
  [
    series(
      'first draw',
      ({ details: { curriculum } }) => curriculum && curriculum.firstWithoutSignal / curriculum.groups,
      100,
    ),
    series(
      'trained on',
      ({ details: { curriculum } }) => curriculum && curriculum.withoutSignal / curriculum.groups,
      100,
    ),
    series(
      'extra rollouts',
      ({ rollouts, details: { curriculum } }) => curriculum && curriculum.extraRollouts / rollouts,
      100,
    ),
  ],
)}
${plot(
  'Pools',
  'Questions by what is known of their pass rate before the last draw of a round: unsolved below 10 %, hard below 35 %, ' +
    'medium below 65 %, easy below 90 %, solved above that.',
  'questions',
  (Object.keys(POOLS) as Pool[]).map((pool) => series(pool, ({ details: { curriculum } }) => curriculum?.pools[pool])),
)}
${plot(
  'Repair turns',
  'Conversations whose first answer passes all tests that rewards read, and those whose last one does. Between them ' +
    'are the programs that the policy mended.',
  'share',
  [
    series('first answer', ({ details }) => details.repair?.firstPass),
    series('last answer', ({ details }) => details.repair?.lastPass),
  ],
)}
${plot('Clipped', 'Tokens whose probability ratio was clipped, in per cent.', 'per cent', [
  series('clipped', ({ clipFraction }) => clipFraction, 100),
])}</div>
<p>Each round samples its own questions, so the reward of a round is no measure of progress; the evaluation is.${
    tallies.found.rollouts > 0
      ? html`
The rollouts of ${plural(tallies.found.rollouts, 'question')} are with the questions, of the first round and of the
last.${filterButton('rollouts', 'show them')}`
      : nothing
  }</p>
${table(
  [
    '#round',
    '#reward',
    '#its deviation',
    '#tests passed',
    '#score',
    '#KL',
    '#entropy',
    '#clipped',
    '#tokens an answer',
    '#cut',
    '#non-zero advantages',
    '#rollouts',
    '#trained',
    'dropped',
    'artifact',
  ],
  all.map((round) => {
    const { details, artifact } = round;
    const show = (name: string, value: number, text?: string) => optional(round, name, value, artifact, text);
    return {
      cells: [
        round.round,
        show('reward', round.reward),
        optional(round, 'rewardDeviation', details.rewardDeviation, details.rewards),
        optional(
          round,
          'passRate',
          details.passRate,
          details.rewards,
          details.passRate === undefined ? '' : percent(details.passRate),
        ),
        details.score === undefined ? '–' : optional(round, 'score', details.score, details.rewards),
        show('kl', round.kl),
        show('entropy', round.entropy),
        show('clipFraction', round.clipFraction, percent(round.clipFraction)),
        optional(round, 'meanTokens', details.meanTokens, details.rollouts),
        optional(
          round,
          'truncated',
          details.truncated,
          details.rollouts,
          details.truncated === undefined ? '' : percent(details.truncated),
        ),
        show('nonZeroAdvantages', round.nonZeroAdvantages),
        show('rollouts', round.rollouts),
        show('trained', round.trained),
        droppedText(round.dropped),
        figures.key(artifact),
      ],
    };
  }),
)}
${droppedRollouts(input, figures)}
<h3>Time line and use of the device</h3>
${plotFigure(
  timePlot(
    'Time line of the rounds',
    html`When the steps of each round worked.
The device waited ${figures.show(
      'reinforcement.deviceWaiting',
      deviceWaiting,
      rounds.at(-1)!.artifact,
      percent(deviceWaiting),
    )} of the time between its first and its last work; programs run meanwhile.
Times are those of the artifacts in the table above, also where another run made them.`,
    rounds.map(({ round, steps }) => ({
      name: `round ${round}`,
      spans: steps.map(({ step, from, to }) => ({ kind: step, from, to })),
    })),
  ),
)}`;
}

// Settings, models, checks

function recipeSection({ recipe }: ReportInput, figures: Figures): Html {
  if (recipe.length === 0) return html`<p>Nothing was trained.</p>`;
  return html`<p>The settings that decide what the models learn; the stages' manifests hold all others.</p>
${table(
  ['stage', 'setting', '#value'],
  recipe.map(({ stage, setting, value, artifact }) => ({
    cells: [
      stage,
      html`<code>${setting}</code>`,
      figures.show(figureName('recipe', stage, setting), value, artifact, String(value)),
    ],
  })),
)}`;
}

function modelsSection({ experiment, models }: ReportInput, figures: Figures): Html {
  if (models.length === 0) return html`<p>No model was trained.</p>`;
  return html`${models.map((model) => {
    // On a cluster the models are in the store alone.
    const fetched = `models/${model.name}`;
    const place =
      model.folder === ''
        ? html`in the store; <code>${fetchCommand(experiment)} . --models</code> puts it into <code>${fetched}</code>`
        : html`in <code>${model.folder}</code>`;
    return html`<h3>${model.name}</h3>
<p>${figures.key(model.artifact)}, ${bytesText(model.artifact.bytes)}, ${place}.</p>
<details><summary>How to load it</summary>
<pre tabindex="0"><code>${loadingSnippet(model.artifact.kind, model.folder || fetched)}</code></pre></details>
`;
  })}`;
}

function checksSection({ assertions }: ReportInput): Html {
  if (assertions.length === 0) return html`<p>Nothing was checked.</p>`;
  return html`<ul class="checks">${assertions.map(
    ({ text, ok }) => html`<li class="${ok ? 'ok' : 'failed'}">
<strong>${ok ? '✓ holds' : '✗ does not hold'}</strong> ${text}</li>
`,
  )}</ul>`;
}

/** All artifacts that the page names, with their whole keys. It is written last, when all of them are known. */
export function artifactsSection(figures: Figures): Section {
  const artifacts = figures.artifacts();
  return {
    id: 'artifacts',
    title: 'Artifacts',
    content:
      artifacts.length === 0
        ? html`<p>There is no artifact yet.</p>`
        : table(
            ['made by', 'artifact', '#rows', '#size'],
            artifacts.map(({ id, names, artifact, size }) => ({
              id,
              cells: [
                names,
                html`<details><summary><code title="${artifact.key}">${shortKey(artifact.key)}</code></summary>
${facts([
  ['key', html`<code>${artifact.key}</code>`],
  ['SHA-256', html`<code>${artifact.digest}</code>`],
])}</details>`,
                artifact.rows === undefined ? '–' : numberText(artifact.rows),
                size,
              ],
            })),
          ),
  };
}
