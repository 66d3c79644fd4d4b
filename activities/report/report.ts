/** The report of an experiment: one HTML file that loads nothing else. */
import type { ArtifactRef } from '../../workflows/contract/artifacts.js';
import { fetchCommand } from '../../workflows/contract/results.js';
import type { EvaluationResult } from '../../workflows/contract/metrics.js';
import type { RoundResult, Summary } from '../../workflows/contract/summary.js';
import { calibrationPlot, histogram, lineChart, numberText, timeChart } from './charts.js';
import { Html, html, nothing, type HtmlValue } from './html.js';

type SummaryStage = Summary['stages'][number];

/**
 * What the report shows: the summary. Parts of stages that have not run or not ended may be missing.
 * A {@link Summary} with a `teacherNote` is one.
 */
export interface ReportInput extends Pick<
  Summary,
  'experiment' | 'data' | 'recipe' | 'passRateHistogram' | 'cost' | 'models' | 'assertions'
> {
  /** State of the experiment: `done`, `parked`, `abandoned`, … */
  state: string;
  stages: (Omit<SummaryStage, 'artifact'> & { artifact?: ArtifactRef })[];
  rewardModel?: Summary['rewardModel'];
  reinforcement?: Summary['reinforcement'];
  /** The policies of a benchmark in the order of training. The others are compared with the first one. */
  evaluation: EvaluationResult[];
  /** A sentence about the teacher of questions and test cases. It says so where the teacher is no language model. */
  teacherNote: string;
}

/** The artifacts that figures come from, each with an anchor in the list at the end. */
class Sources {
  private readonly byKey = new Map<string, { artifact: ArtifactRef; names: string[] }>();

  add(name: string, artifact: ArtifactRef | undefined): void {
    if (artifact === undefined) return;
    const entry = this.byKey.get(artifact.key);
    if (entry === undefined) this.byKey.set(artifact.key, { artifact, names: [name] });
    else if (!entry.names.includes(name)) entry.names.push(name);
  }

  /** A figure with a link to the artifact that it comes from. */
  figure(text: HtmlValue, artifact: ArtifactRef | undefined): Html {
    if (artifact === undefined) return html`${text}`;
    const index = [...this.byKey.keys()].indexOf(artifact.key);
    return html`<a class="figure" href="#artifact-${index + 1}" title="${artifact.key}">${text}</a>`;
  }

  list(): Html {
    if (this.byKey.size === 0) return html`<p>There is no artifact yet.</p>`;
    return table(
      ['made by', 'kind', 'key', 'SHA-256', '#rows', '#size'],
      [...this.byKey.values()].map(({ artifact, names }, index) => ({
        id: `artifact-${index + 1}`,
        cells: [
          names.join(', '),
          artifact.kind,
          html`<code>${artifact.key}</code>`,
          html`<code>${artifact.digest}</code>`,
          artifact.rows ?? '–',
          bytesText(artifact.bytes),
        ],
      })),
    );
  }
}

/** A table; a heading that starts with `#` is a column of figures. */
function table(headings: string[], rows: { id?: string; cells: HtmlValue[] }[]): Html {
  const numeric = headings.map((heading) => heading.startsWith('#'));
  const cell = (value: HtmlValue, column: number): Html =>
    numeric[column] ? html`<td class="number">${value}</td>` : html`<td>${value}</td>`;
  const heads = headings.map(
    (heading, column) =>
      html`<th${numeric[column] ? html` class="number"` : nothing}>${heading.replace(/^#/, '')}</th>`,
  );
  return html`<div class="scroll"><table><thead><tr>${heads}</tr></thead><tbody>
${rows.map(
  ({ id, cells }) => html`<tr${id === undefined ? nothing : html` id="${id}"`}>${cells.map(cell)}</tr>
`,
)}</tbody></table></div>`;
}

function bytesText(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  const power = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  return `${numberText(bytes / 1000 ** power)} ${units[power]}`;
}

function durationText(seconds: number): string {
  if (seconds < 60) return `${numberText(Math.round(seconds * 10) / 10)} s`;
  const whole = Math.round(seconds);
  const [hours, minutes] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60];
  return hours > 0 ? `${hours} h ${minutes} min` : `${minutes} min ${whole % 60} s`;
}

const percent = (rate: number): string => `${(100 * rate).toFixed(1)} %`;
const percentRange = ([low, high]: [number, number]): string =>
  `${(100 * low).toFixed(1)}–${(100 * high).toFixed(1)} %`;
const plural = (count: number, one: string, many = `${one}s`): string => `${count} ${count === 1 ? one : many}`;

/** Compares two greedy results of one benchmark. There is a difference only where the intervals do not overlap. */
export function compareGreedy(before: EvaluationResult, after: EvaluationResult): string {
  const name = `${after.policy} against ${before.policy} on ${after.benchmark}`;
  if (
    before.greedy === null ||
    after.greedy === null ||
    before.greedyInterval === null ||
    after.greedyInterval === null
  ) {
    return `${name}: not compared, because a greedy result is missing.`;
  }
  const [figureAfter, figureBefore] = [percent(after.greedy), percent(before.greedy)];
  const figures =
    `${figureAfter} (95 % interval ${percentRange(after.greedyInterval)}, ${plural(after.tasks, 'task')}) against ` +
    `${figureBefore} (${percentRange(before.greedyInterval)}, ${plural(before.tasks, 'task')})`;
  const [beforeLow, beforeHigh] = before.greedyInterval;
  const [afterLow, afterHigh] = after.greedyInterval;
  if (afterLow > beforeHigh) return `${name}: higher. ${figures}; the intervals do not overlap.`;
  if (afterHigh < beforeLow) return `${name}: lower. ${figures}; the intervals do not overlap.`;
  const overlap = 'the intervals overlap, so this run shows neither a gain nor a loss.';
  return `${name}: no difference shown. ${figures}; ${overlap}`;
}

function comparisons(evaluation: readonly EvaluationResult[]): string[] {
  const first = new Map<string, EvaluationResult>();
  return evaluation.flatMap((result) => {
    const before = first.get(result.benchmark);
    if (before === undefined) first.set(result.benchmark, result);
    return before === undefined ? [] : [compareGreedy(before, result)];
  });
}

/** What the held-out accuracy shows about the reward model. */
function accuracyVerdict({
  interval95,
  baselineAccuracy,
  heldOutAccuracy,
}: NonNullable<ReportInput['rewardModel']>): string {
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

function chart(caption: HtmlValue, svg: Html): Html {
  return html`<figure>${svg}<figcaption>${caption}</figcaption></figure>`;
}

function stageSection(input: ReportInput, sources: Sources): Html {
  return table(
    ['stage', 'state', '#time', 'result', 'artifact'],
    input.stages.map((stage) => ({
      cells: [
        stage.name,
        stage.state,
        durationText(stage.seconds),
        stage.artifact === undefined ? '–' : stage.reused ? 'reused' : 'made',
        stage.artifact === undefined
          ? 'none'
          : sources.figure(html`<code>${stage.artifact.key}</code>`, stage.artifact),
      ],
    })),
  );
}

function dataSection(
  { data, passRateHistogram, teacherNote, cost }: ReportInput,
  sources: Sources,
  artifacts: StageArtifacts,
): Html {
  const figure = (count: number, artifact: ArtifactRef | undefined) => sources.figure(count, artifact);
  const bins = passRateHistogram.map(({ from, to, programs }) => ({ from, to, count: programs }));
  return html`<p>${teacherNote} Teacher: ${cost.teacher}; spent: ${cost.amount.toFixed(2)} ${cost.currency}.</p>
${table(
  ['', '#count'],
  [
    { cells: ['questions written', figure(data.questions, artifacts.synthesis)] },
    { cells: ['test cases written', figure(data.testCases, artifacts.synthesis)] },
    { cells: ['test cases kept by the oracle', figure(data.keptTestCases, artifacts.filtering)] },
    { cells: ['programs sampled', figure(data.programs, artifacts.sampling)] },
    { cells: ['preference pairs', figure(data.pairs, artifacts.preferences)] },
  ],
)}
<h3>What was dropped, and why</h3>
${
  data.dropped.length === 0
    ? html`<p>Nothing was dropped.</p>`
    : table(
        ['stage', 'what', 'why', '#count'],
        data.dropped.map(({ stage, what, reason, count, artifact }) => ({
          cells: [stage, what, reason, figure(count, artifact)],
        })),
      )
}
${data.filterQuality === undefined ? nothing : filterQuality(data.filterQuality, artifacts.filtering, sources)}
<h3>Pass rates</h3>
${
  bins.every(({ count }) => count === 0)
    ? html`<p>No program has a pass rate.</p>`
    : chart(
        html`Pass rates of the sampled programs: passed tests over kept tests. The last bin includes 1.
${source(sources, artifacts.sampling)}`,
        histogram('Pass rates of the sampled programs', { x: 'pass rate', y: 'programs' }, bins),
      )
}`;
}

/** Precision and recall of the filter. Every rate comes with its counts. */
function filterQuality(
  { injected, dropped, droppedInjected }: NonNullable<ReportInput['data']['filterQuality']>,
  artifact: ArtifactRef | undefined,
  sources: Sources,
): Html {
  const rate = (of: number): HtmlValue =>
    of === 0
      ? 'not measured'
      : html`${sources.figure(percent(droppedInjected / of), artifact)} (${droppedInjected} of ${of})`;
  return html`<p>The filter against the errors that the offline teacher injected:
precision ${rate(dropped)} of the dropped test cases, recall ${rate(injected)} of the injected errors.
This checks the filter; it is no evidence about what language models write.</p>`;
}

function source(sources: Sources, artifact: ArtifactRef | undefined): Html {
  return artifact === undefined ? nothing : html`Source: ${sources.figure(artifact.kind, artifact)}.`;
}

function recipeSection({ recipe }: ReportInput, sources: Sources): Html {
  if (recipe.length === 0) return html`<p>Nothing was trained.</p>`;
  return html`<p>The settings that decide what the models learn; the stages' manifests hold all others.</p>
${table(
  ['stage', 'setting', '#value'],
  recipe.map(({ stage, setting, value, artifact }) => ({
    cells: [stage, html`<code>${setting}</code>`, sources.figure(String(value), artifact)],
  })),
)}`;
}

function rewardModelSection({ rewardModel }: ReportInput, sources: Sources, artifact: ArtifactRef | undefined): Html {
  if (rewardModel === undefined) return html`<p>No reward model was trained.</p>`;
  const figure = (text: HtmlValue) => sources.figure(text, artifact);
  const { heldOutAccuracy, interval95, baselineAccuracy, calibration, curve } = rewardModel;
  return html`${table(
    ['', '#value'],
    [
      { cells: ['pairs trained on', figure(rewardModel.pairs)] },
      { cells: ['held-out pairs', figure(rewardModel.heldOutPairs)] },
      { cells: ['questions they are from', figure(rewardModel.heldOutQuestions)] },
      { cells: ['held-out accuracy', heldOutAccuracy === null ? 'not measured' : figure(percent(heldOutAccuracy))] },
      { cells: ['its 95 % interval', interval95 === null ? 'not measured' : figure(percentRange(interval95))] },
      {
        cells: [
          'accuracy of the baseline',
          baselineAccuracy === null ? 'not measured' : figure(percent(baselineAccuracy)),
        ],
      },
    ],
  )}
<p class="verdict">${accuracyVerdict(rewardModel)}</p>
<div class="charts">${
    calibration.length === 0
      ? html`<p>There is no calibration: no held-out pairs were scored.</p>`
      : chart(
          html`Calibration on held-out pairs: predicted probability σ(Δ score) against the share that was right;
the dashed line is perfect. ${source(sources, artifact)}`,
          calibrationPlot('Calibration', { x: 'predicted probability', y: 'observed share' }, calibration),
        )
  }
${
  curve.length === 0
    ? nothing
    : chart(
        html`Bradley-Terry loss over training. ${source(sources, artifact)}`,
        lineChart(
          'Training loss',
          { x: 'step', y: 'loss' },
          curve.map(({ step, loss }) => ({ x: step, y: loss })),
        ),
      )
}</div>
${
  calibration.length === 0
    ? nothing
    : html`<details><summary>Calibration as numbers</summary>${table(
        ['#predicted', '#observed', '#pairs'],
        calibration.map((point) => ({
          cells: [figure(percent(point.predicted)), figure(percent(point.observed)), figure(point.count)],
        })),
      )}</details>`
}`;
}

function droppedText(dropped: Record<string, number>): string {
  return (
    Object.entries(dropped)
      .filter(([, count]) => count > 0)
      .map(([reason, count]) => `${reason} ${count}`)
      .join(', ') || '–'
  );
}

function reinforcementSection({ reinforcement }: ReportInput, sources: Sources): Html {
  const rounds = reinforcement?.rounds ?? [];
  if (rounds.length === 0) return html`<p>No round of reinforcement learning was run.</p>`;
  const line = (label: string, value: (round: RoundResult) => number): Html =>
    lineChart(
      `${label} over rounds`,
      { x: 'round', y: label },
      rounds.map((round) => ({ x: round.round, y: value(round) })),
    );
  return html`<div class="charts">${chart(
    'Mean reward of the trained rollouts; values and sources in the table below.',
    line('reward', ({ reward }) => reward),
  )}
${chart(
  'KL divergence from the reference policy; values and sources in the table below.',
  line('KL', ({ kl }) => kl),
)}</div>
${chart(
  html`When the steps of each round worked.
The device waited ${percent(reinforcement!.deviceWaiting)} of the time between its first and its last work;
programs run meanwhile.
Times are those of the artifacts in the table below, also where another run made them.`,
  timeChart(
    'Time line of the rounds',
    'seconds since the first round began',
    rounds.map(({ round, steps }) => ({
      name: `round ${round}`,
      spans: steps.map(({ step, from, to }) => ({ kind: step, from, to })),
    })),
  ),
)}
<p>Each round samples its own questions, so the reward of a round is no measure of progress; the evaluation is.</p>
${table(
  ['#round', '#reward', '#KL', '#entropy', '#clipped', '#non-zero advantages', '#rollouts', '#trained', 'dropped'],
  rounds.map((round) => {
    const figure = (text: HtmlValue) => sources.figure(text, round.artifact);
    return {
      cells: [
        figure(round.round),
        figure(numberText(round.reward)),
        figure(numberText(round.kl)),
        figure(numberText(round.entropy)),
        figure(percent(round.clipFraction)),
        figure(round.nonZeroAdvantages),
        figure(round.rollouts),
        figure(round.trained),
        droppedText(round.dropped),
      ],
    };
  }),
)}`;
}

function evaluationSection({ evaluation }: ReportInput, sources: Sources, artifact: ArtifactRef | undefined): Html {
  if (evaluation.length === 0) return html`<p>Nothing was evaluated.</p>`;
  const columns = (of: 'passAtK' | 'bestOfN'): string[] =>
    [...new Set(evaluation.flatMap((result) => Object.keys(result[of])))].sort((a, b) => Number(a) - Number(b));
  const [passAtK, bestOfN] = [columns('passAtK'), columns('bestOfN')];
  const statements = comparisons(evaluation);
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
    ],
    evaluation.map((result) => {
      const rate = (value: number | null | undefined, extra: HtmlValue = nothing): HtmlValue =>
        value === null || value === undefined
          ? '–'
          : html`${sources.figure(percent(value), artifact)}<br><small>${extra}${plural(result.tasks, 'task')}</small>`;
      return {
        cells: [
          result.benchmark,
          result.policy,
          sources.figure(result.samples, artifact),
          rate(
            result.greedy,
            result.greedyInterval === null ? nothing : html`${percentRange(result.greedyInterval)}<br>`,
          ),
          rate(result.mean),
          ...passAtK.map((k) => rate(result.passAtK[k])),
          ...bestOfN.map((n) => rate(result.bestOfN[n])),
          rate(result.oracle),
        ],
      };
    }),
  )}
<p>Greedy: one answer per task, with the 95 % Wilson interval over tasks.
Mean, pass@k (unbiased), Best-of-N (the sample that the reward model scores highest) and oracle (any sample passes)
are over the samples of each task; they carry no interval here, so no gain is claimed from them.</p>
${
  statements.length === 0
    ? html`<p>Only one policy was evaluated on each benchmark, so there is nothing to compare.</p>`
    : html`<ul class="verdict">${statements.map((statement) => html`<li>${statement}</li>`)}</ul>`
}`;
}

/** Python that loads a model folder with Hugging Face transformers and uses it once. */
function loadingSnippet({ artifact, folder }: Summary['models'][number]): string {
  const isRewardModel = artifact.kind === 'rewardModel';
  const auto = isRewardModel ? 'AutoModelForSequenceClassification' : 'AutoModelForCausalLM';
  const template = 'tokenizer.apply_chat_template(messages';
  const use = isRewardModel
    ? [
        'messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]',
        `inputs = ${template}, return_tensors="pt", return_dict=True)`,
        'score = model(**inputs).logits[0, 0].item()',
      ]
    : [
        'messages = [{"role": "user", "content": question}]',
        `inputs = ${template}, add_generation_prompt=True, return_tensors="pt", return_dict=True)`,
        'output = model.generate(**inputs, max_new_tokens=256)',
        'answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)',
      ];
  return [
    `from transformers import ${auto}, AutoTokenizer`,
    '',
    `folder = ${JSON.stringify(folder)}`,
    'tokenizer = AutoTokenizer.from_pretrained(folder)',
    `model = ${auto}.from_pretrained(folder)`,
    ...use,
  ].join('\n');
}

function modelsSection({ experiment, models }: ReportInput, sources: Sources): Html {
  if (models.length === 0) return html`<p>No model was trained.</p>`;
  return html`${models.map((model) => {
    // On a cluster the models are in the store alone.
    const fetched = `models/${model.name}`;
    const place =
      model.folder === ''
        ? html`in the store; <code>${fetchCommand(experiment)} . --models</code> puts it into <code>${fetched}</code>`
        : html`in <code>${model.folder}</code>`;
    return html`<h3>${model.name}</h3>
<p>${model.artifact.kind} ${place},
SHA-256 ${sources.figure(html`<code>${model.artifact.digest}</code>`, model.artifact)}</p>
<pre><code>${loadingSnippet({ ...model, folder: model.folder || fetched })}</code></pre>
`;
  })}`;
}

function assertionsSection({ assertions }: ReportInput): Html {
  if (assertions.length === 0) return html`<p>Nothing was checked.</p>`;
  return html`<ul class="checks">${assertions.map(
    ({ text, ok }) => html`<li class="${ok ? 'ok' : 'failed'}">
<strong>${ok ? '✓ holds' : '✗ does not hold'}</strong> ${text}</li>
`,
  )}</ul>`;
}

type StageArtifacts = Partial<Record<SummaryStage['name'], ArtifactRef>>;

function headline(input: ReportInput): Html {
  const failed = input.assertions.filter(({ ok }) => !ok).length;
  const seconds = input.stages.reduce((total, stage) => total + stage.seconds, 0);
  const reused = input.stages.filter((stage) => stage.reused).length;
  const names = input.stages.map(({ name }) => name).join(', ') || 'none';
  const sentences = [
    `${plural(input.stages.length, 'stage')} (${names}), ${reused} reused, ${durationText(seconds)} of stage time.`,
    ...(input.assertions.length === 0
      ? []
      : [`Checks that hold: ${input.assertions.length - failed} of ${input.assertions.length}.`]),
  ];
  return html`<header>
<h1>${input.experiment} <span class="state">${input.state}</span></h1>
<p>${sentences.join(' ')}</p>
<ul>${comparisons(input.evaluation).map((statement) => html`<li>${statement}</li>`)}</ul>
</header>`;
}

const STYLE = `
:root { color-scheme: light dark; --page: #fcfcfb; --ink: #1b1c1e; --soft: #5c6066; }
:root { --line: #d9dbde; --panel: #f1f2f3; --mark: #2a6fbf; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --page: #17181a; --ink: #e9eaec; --soft: #a2a7ae; }
  :root { --line: #3a3d42; --panel: #222427; --mark: #6ea8ea; --bad: #ff897d; }
}
body { background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
body { margin: 0 auto; padding: 24px 20px 60px; max-width: 1000px; }
h1 { font-size: 26px; line-height: 1.25; margin: 0 0 8px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 40px 0 10px; border-bottom: 1px solid var(--line); padding-bottom: 4px; }
h3 { font-size: 15px; margin: 22px 0 6px; }
.state { font-size: 14px; font-weight: 600; vertical-align: 4px; }
.state { border: 1px solid var(--line); border-radius: 10px; padding: 1px 10px; background: var(--panel); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; }
th, td { text-align: left; vertical-align: top; padding: 4px 12px 4px 0; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
small, figcaption { color: var(--soft); font-size: 12.5px; }
code { font: 12.5px/1.4 ui-monospace, monospace; overflow-wrap: anywhere; }
td:has(code) { min-width: 260px; }
pre { background: var(--panel); border-radius: 6px; padding: 10px 14px; overflow-x: auto; }
a.figure { color: inherit; text-decoration: underline dotted var(--soft); text-underline-offset: 3px; }
a.figure:hover { text-decoration-style: solid; }
tr:target { background: var(--panel); }
figure { margin: 8px 0; flex: 1 1 380px; max-width: 640px; }
.charts { display: flex; flex-wrap: wrap; gap: 8px 24px; align-items: flex-start; }
.charts figure { max-width: 440px; }
.checks { list-style: none; padding: 0; }
.failed strong { color: var(--bad); }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif; }
svg text { fill: var(--soft); }
svg text.value, svg text.label { fill: var(--ink); }
.grid { stroke: var(--line); stroke-width: 1; }
.axis { stroke: var(--soft); stroke-width: 1; }
.bar { fill: var(--mark); }
.dot { fill: var(--mark); stroke: var(--page); stroke-width: 1.5; }
.span0 { fill: var(--mark); }
.span1 { fill: var(--soft); }
.span2 { fill: color-mix(in srgb, var(--mark) 45%, var(--page)); }
.span3 { fill: var(--ink); }
.hidden { fill: transparent; }
.line { fill: none; stroke: var(--mark); stroke-width: 2; }
.reference { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 5; }
@media print {
  :root { color-scheme: light; --page: #fff; --ink: #000; --soft: #444; }
  :root { --line: #bbb; --panel: #f4f4f4; --mark: #2a6fbf; --bad: #a00; }
  body { max-width: none; padding: 0; font-size: 11pt; }
  .scroll, pre { overflow: visible; }
  pre { white-space: pre-wrap; }
  figure, tr, li { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
}`;

/**
 * One HTML document with everything in it: no script, no request, readable from disk, on paper, in light and dark.
 *
 * Every figure is a link to the artifact that it comes from (key as its title, row in the list at the end). A
 * difference between policies is stated only where their 95 % intervals do not overlap. Missing parts are named as
 * missing. All text of the input is escaped.
 */
export function renderReport(input: ReportInput): string {
  const sources = new Sources();
  const artifacts: StageArtifacts = {};
  for (const { name, artifact } of input.stages) {
    artifacts[name] = artifact;
    sources.add(name, artifact);
  }
  for (const { round, artifact } of input.reinforcement?.rounds ?? [])
    sources.add(`reinforcement, round ${round}`, artifact);
  for (const { name, artifact } of input.models) sources.add(`model ${name}`, artifact);
  const sections: [string, Html][] = [
    ['Stages', stageSection(input, sources)],
    ['Data', dataSection(input, sources, artifacts)],
    ['Recipe', recipeSection(input, sources)],
    ['Reward model', rewardModelSection(input, sources, artifacts.rewardModel)],
    ['Reinforcement learning', reinforcementSection(input, sources)],
    ['Evaluation', evaluationSection(input, sources, artifacts.evaluation)],
    ['Trained models', modelsSection(input, sources)],
    ['Checks', assertionsSection(input)],
    ['Artifacts', sources.list()],
  ];
  return html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${input.experiment}: ${input.state}</title>
<style>${new Html(STYLE)}</style>
</head>
<body>
${headline(input)}
${sections.map(
  ([title, content]) => html`<section>
<h2>${title}</h2>
${content}
</section>
`,
)}</body>
</html>
`.markup;
}
