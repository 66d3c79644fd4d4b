/** A comparison as one HTML file that loads nothing else. */
import { TASK_PARTS } from '../../workflows/contract/index.js';
import { html, Html, nothing, type HtmlValue } from '../report/html.js';
import type { ComparisonReport } from './compare.js';
import { percent, verdictText } from './text.js';

/**
 * The page. The verdicts come first, then what differs.
 *
 * @example
 * renderComparison(compareSides(sides)).startsWith('<!doctype html>'); // true
 */
export function renderComparison(report: ComparisonReport): string {
  const { sides, verdicts, differences, shared } = report;
  const names = sides.map(({ name }) => name);
  const body = html`<h1>${names.slice(1).join(', ')} against ${names[0]!}</h1>
<h2>What do the same tasks say?</h2>
<ul class="verdict">${verdicts.map((verdict) => html`<li>${verdictText(verdict)}</li>`)}</ul>
<h2>What was measured?</h2>
${figures(report)}
${rewards(report)}
<h2>Which settings differ?</h2>
${
  differences.length === 0
    ? html`<p>No setting differs.</p>`
    : table(
        ['stage', 'setting', ...names],
        differences.map(({ stage, setting, values }) => [
          stage,
          html`<code>${setting}</code>`,
          ...values.map((value) => (value === undefined ? 'none' : html`<code>${value}</code>`)),
        ]),
      )
}
<h2>What is shared?</h2>
${
  shared.length === 0
    ? html`<p>No stage is shared.</p>`
    : table(
        ['stage', 'experiments', 'artifact, made once'],
        shared.map(({ stage, sides: of, key }) => [stage, of.join(', '), html`<code>${key}</code>`]),
      )
}`;
  return html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${names.join(' and ')} compared</title><style>${new Html(STYLE)}</style></head>
<body><main>${body}</main></body></html>
`.markup;
}

function figures({ sides }: ComparisonReport): Html {
  return table(
    [
      'experiment',
      'policy',
      'benchmark',
      'problems',
      'tasks',
      'greedy',
      'mean',
      'Best-of-N by the reward model',
      'time',
      'cost',
    ],
    sides.flatMap(({ name, policy, seconds, costUsd, figures: results }) =>
      results.flatMap((result) =>
        [
          { of: 'all', figures: result },
          ...TASK_PARTS.flatMap((part) => (result[part] ? [{ of: part, figures: result[part] }] : [])),
        ].map(({ of, figures: own }) => [
          name,
          policy,
          result.benchmark,
          of,
          own.tasks,
          rate(own.greedy, own.greedyInterval),
          rate(own.mean, own.intervals?.mean),
          Object.entries(own.bestOfN)
            .map(([N, value]) => `${N}: ${percent(value)}`)
            .join(', ') || '–',
          `${Math.round(seconds)} s`,
          costUsd === null ? 'not recorded' : `${costUsd.toFixed(2)} USD`,
        ]),
      ),
    ),
  );
}

function rewards({ sides }: ComparisonReport): Html {
  const rounds = [...new Set(sides.flatMap((side) => side.rewards.map(({ round }) => round)))].sort((a, b) => a - b);
  if (rounds.length === 0) return nothing;
  return html`<h3>Mean reward by round</h3>
${table(
  ['round', ...sides.map(({ name }) => name)],
  rounds.map((round) => [
    round,
    ...sides.map((side) => side.rewards.find((each) => each.round === round)?.reward.toPrecision(4) ?? '–'),
  ]),
)}`;
}

function rate(value: number | null, interval: [number, number] | null | undefined): HtmlValue {
  if (value === null) return '–';
  return interval
    ? html`${percent(value)}<br><small>${percent(interval[0])} to ${percent(interval[1])}</small>`
    : percent(value);
}

function table(headings: readonly string[], rows: readonly (readonly HtmlValue[])[]): Html {
  return html`<div class="scroll"><table><thead><tr>${headings.map((head) => html`<th scope="col">${head}</th>`)}</tr>
</thead><tbody>${rows.map((row) => html`<tr>${row.map((cell) => html`<td>${cell}</td>`)}</tr>`)}</tbody></table></div>`;
}

const STYLE = `
:root { color-scheme: light dark; }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: auto; padding: 1rem; }
h1, h2 { line-height: 1.25; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 0.8rem 0.3rem 0; border-bottom: 1px solid #8888; }
code { overflow-wrap: anywhere; font-size: 0.9em; }
`;
