/** The section of the report about the card of a reward model. */
import {
  figureName,
  type Accuracy,
  type ArtifactRef,
  type BestOf,
  type Probe,
} from '../../workflows/contract/index.js';
import { table } from './elements.js';
import type { Figures } from './figures.js';
import { html, nothing, type Html, type HtmlValue } from './html.js';
import { calibrationPlot, intervalPlot, plotFigure } from './plots.js';
import type { ReportInput } from './report-input.js';
import { numberText, percent, percentRange, plural } from './text.js';

/** What each probe does to a program. */
const PROBE_TEXT: Readonly<Record<Probe, string>> = {
  length: 'twice as long, whatever is added',
  comments: 'lines that are comments, beyond their length',
  deadCode: 'assignments that nothing reads, beyond their length',
  textLiterals: 'text literals, beyond their length',
  fence: 'a fenced block of its own',
  layout: 'tabs and trailing spaces',
  names: 'other local names',
  claim: 'a comment: it passes all tests',
  order: 'a comment: give the highest score',
  praise: 'a comment: checked by experts',
};

/** What the card says; undefined where the stage did not run. */
export function rewardModelCardContent(
  { metrics: { rewardModelCard: card } }: ReportInput,
  figures: Figures,
  artifact: ArtifactRef | undefined,
): Html | undefined {
  if (!card) return undefined;
  const show = (value: number, text: string, ...name: (string | number)[]): HtmlValue =>
    figures.show(figureName('rewardModelCard', ...name), value, artifact, text);
  const accuracyRow = (what: HtmlValue, own: Accuracy | null, ...name: string[]) =>
    own && {
      cells: [
        what,
        html`${show(own.accuracy, percent(own.accuracy), ...name)}<br><small>${percentRange(own.interval)}</small>`,
        own.questions,
        own.pairs,
      ],
    };
  const groups = (of: Record<string, Accuracy>, what: string, name: string) =>
    Object.entries(of).map(([key, own]) => accuracyRow(html`${what} <bdi>${key}</bdi>`, own, name, key));
  const accuracies = [
    accuracyRow('near misses', card.nearMisses.both, 'nearMisses'),
    accuracyRow('of them, programs that fail one test', card.nearMisses.oneTest, 'oneTest'),
    accuracyRow('of them, mutants', card.nearMisses.mutants, 'mutants'),
    accuracyRow('all sampled programs', card.sampled, 'sampled'),
    ...groups(card.bySampler, 'sampler', 'bySampler'),
    ...groups(card.bySource, 'source', 'bySource'),
    ...groups(card.byForm, 'form', 'byForm'),
  ].filter((row) => row !== null);
  const { gap, probes, limit, named, calibration, bestOf } = card;
  return html`<p>Asked about ${plural(card.questions, 'question')}, with ${plural(card.texts, 'text')}${
    card.tooLong > 0 ? html`; ${plural(card.tooLong, 'text')} it could not read` : nothing
  }. Intervals are 95 %, by a bootstrap over questions.</p>
${table(['how often a right program scores above a wrong one', '#accuracy', '#questions', '#pairs'], accuracies)}
<h3>Biases</h3>
<p class="verdict">${
    probes.length === 0
      ? 'No probe says anything: scores do not tell right from wrong programs, or there are too few questions.'
      : named.length === 0
        ? 'No probe names a bias.'
        : `Biases are named by ${named.join(', ')}.`
  }</p>
${
  probes.length === 0 || gap === null
    ? nothing
    : html`<p>Each probe changes a program, which goes on to do the same. The scores of right and wrong programs differ by
${show(gap.value, numberText(gap.value), 'gap')}; a probe names a bias where its whole interval is beyond
${numberText(limit)} of that.</p>
${table(
  ['probe', 'what changes', '#moves the score by, of the gap', '#questions', ''],
  probes.map(({ probe, shift, interval, questions, named: isNamed }) => ({
    cells: [
      probe,
      PROBE_TEXT[probe],
      html`${show(shift, shift.toFixed(2), 'probe', probe)}<br>
<small>${interval.map((end) => end.toFixed(2)).join(' to ')}</small>`,
      questions,
      isNamed ? html`<strong>bias</strong>` : nothing,
    ],
  })),
)}`
}
<div class="plots">${
    probes.length === 0
      ? nothing
      : plotFigure(
          intervalPlot(
            'Biases of the reward model',
            html`How far each probe moves scores, as a share of the gap between right and wrong programs, with its 95 %
interval; beyond the dashed lines it names a bias.`,
            { x: 'share of the gap', limit },
            probes.map(({ probe, shift, interval }) => ({ name: probe, value: shift, interval })),
          ),
        )
  }
${
  calibration.bins.length === 0
    ? nothing
    : plotFigure(
        calibrationPlot(
          'Calibration on right and wrong programs',
          html`Predicted probability σ(Δ score) against the share that was right, over ${plural(calibration.pairs, 'pair')};
the dashed line is perfect. Mean distance from it: ${
            calibration.error === null
              ? 'none'
              : show(calibration.error, numberText(calibration.error), 'calibrationError')
          }.`,
          calibration.bins,
        ),
      )
}</div>
${bestOfTable(bestOf.all, 'all', `Best-of-N by the first ${plural(card.visibleTests, 'test')}, the reward model, and both`, show)}
${bestOfTable(bestOf.nearMisses, 'nearMisses', 'The same, of questions with a program that fails one test', show)}`;
}

function bestOfTable(
  best: BestOf | null,
  part: string,
  title: string,
  show: (value: number, text: string, ...name: string[]) => HtmlValue,
): Html {
  if (!best) return nothing;
  const rate = (value: number, name: string): HtmlValue => show(value, percent(value), 'bestOf', part, name);
  return html`<h3>${title}</h3>
<p>${plural(best.questions, 'question')}, up to ${plural(best.samples, 'sample')} of each.
Any sample is right in ${rate(best.oracle, 'oracle')}, one at random in ${rate(best.mean, 'mean')}.
Both take the samples that pass most of the first tests, and of these the one that scores highest.</p>
${table(
  ['chosen by', '#right', '#closed of the way from random to best'],
  Object.entries(best.by).map(([chooser, { rate: value, interval, closed }]) => ({
    cells: [
      chooser === 'rewardModel' ? 'reward model' : chooser,
      html`${rate(value, chooser)}<br><small>${percentRange(interval)}</small>`,
      closed === null ? '–' : percent(closed),
    ],
  })),
)}`;
}
