/** The page of a preview: each seed with its question, test cases, programs and pairs, or why it has none. */
import {
  testText,
  type FilteredQuestionRow,
  type PairRow,
  type ProgramRow,
  type QuestionRow,
  type SeedRow,
} from '../../workflows/contract/index.js';
import { html, nothing, type Html } from '../report/html.js';

export interface PreviewRows {
  name: string;
  seeds: readonly SeedRow[];
  questions: readonly QuestionRow[];
  filtered: readonly FilteredQuestionRow[];
  programs: readonly ProgramRow[];
  pairs: readonly PairRow[];
  /** The version of the prompt that `questions` were asked by, and the questions of other versions. */
  prompt?: string;
  others?: readonly { prompt: string; questions: readonly QuestionRow[] }[];
}

const STYLE = `body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
pre{background:#f5f6f8;padding:.6rem .8rem;overflow-x:auto;border-radius:4px;font-size:13px}
h2{border-top:1px solid #d5d9df;padding-top:1rem}
.prompts{display:flex;gap:1rem}.prompts>section{flex:1;min-width:0;overflow-wrap:anywhere}
li.dropped{color:#a1260d}code{font-size:13px}summary{cursor:pointer}.why{color:#a1260d}`;

const LEFT_OUT = html`<p class="why">Left out before the teacher was asked: a duplicate, or part of a benchmark.</p>`;

/** One HTML page that needs no network. */
export function renderPreview({
  name,
  seeds,
  questions,
  filtered,
  programs,
  pairs,
  prompt = '',
  others = [],
}: PreviewRows): string {
  const asked = questions.filter(({ failure }) => failure === undefined).length;
  const counts = [
    `${seeds.length} seeds, ${asked} questions, ${filtered.length} after the filter`,
    `${programs.length} programs, ${pairs.length} training pairs`,
  ].join(', ');
  const page = html`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Preview of ${name}</title><style>${STYLE}</style></head><body>
<h1>Preview of ${name}</h1>
<p>${counts}.</p>
${seeds.map((seed) => {
  const question = questions.find(({ seedId }) => seedId === seed.id);
  const kept = filtered.find(({ seedId }) => seedId === seed.id);
  return html`<h2>${seed.id}</h2><details><summary>seed</summary><pre>${seed.code}</pre></details>
${question ? sideBySide(prompt, questionOf(question, kept), seed, others) : LEFT_OUT}
${
  kept
    ? programsOf(
        programs.filter(({ questionId }) => questionId === kept.id),
        pairs.filter(({ questionId }) => questionId === kept.id),
      )
    : nothing
}`;
})}
</body></html>
`;
  return page.markup;
}

/** What each version of the prompt made of a seed; the one column alone where there is one version. */
function sideBySide(prompt: string, own: Html, seed: SeedRow, others: NonNullable<PreviewRows['others']>): Html {
  if (others.length === 0) return own;
  return html`<div class="prompts"><section><h3>prompt ${prompt}</h3>${own}</section>
${others.map(({ prompt: version, questions }) => {
  const question = questions.find(({ seedId }) => seedId === seed.id);
  return html`<section><h3>prompt ${version}</h3>${question ? askedOf(question) : LEFT_OUT}</section>`;
})}</div>`;
}

/** A question as the teacher wrote it, before any filter. */
function askedOf({ question, failure, testCases, rejectedTests = [] }: QuestionRow): Html {
  if (failure !== undefined) return html`<p class="why">No question: ${failure}</p>`;
  return html`<p>${question}</p>
<p>${testCases.length} test cases, before the filter.</p>
<ul>${testCases.map(({ test }) => html`<li><code>${testText(test)}</code></li>`)}
${rejectedTests.map(({ test, reason }) => html`<li class="dropped"><code>${test}</code> (${reason})</li>`)}</ul>`;
}

function questionOf(question: QuestionRow, kept: FilteredQuestionRow | undefined): Html {
  if (question.failure !== undefined) {
    const detail = question.failureDetail === undefined ? '' : ` (${question.failureDetail})`;
    return html`<p class="why">No question: ${question.failure}${detail}</p>`;
  }
  const tests = new Set((kept?.tests ?? []).map(testText));
  const outcome = kept
    ? html`${tests.size} of ${question.testCases.length} test cases were kept;
${kept.split === 'train' ? 'for training' : 'held out'}.`
    : html`<span class="why">The filter dropped the question.</span>`;
  const dropped = (test: string, why: string): Html => html`<li class="dropped"><code>${test}</code> (${why})</li>`;
  return html`<p>${question.question}</p>
<p>${outcome}</p>
<ul>${question.testCases.map(({ test }) =>
    tests.has(testText(test)) ? html`<li><code>${testText(test)}</code></li>` : dropped(testText(test), 'dropped'),
  )}
${(question.rejectedTests ?? []).map(({ test, reason }) => dropped(test, reason))}</ul>`;
}

function programsOf(programs: readonly ProgramRow[], pairs: readonly PairRow[]): Html {
  if (programs.length === 0) return html`<p>No programs were sampled for it.</p>`;
  const percent = ({ passRate }: ProgramRow): string => `${Math.round(100 * passRate)} %`;
  return html`<details><summary>${programs.length} programs, pass rates ${programs.map(percent).join(', ')}</summary>
${programs.map((row) => html`<p>${percent(row)}</p><pre>${row.program}</pre>`)}</details>
<p>${pairs.length} pairs.</p>`;
}
