/** The page of a report: one HTML document that asks for nothing but the questions next to it, where it has many. */
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../runtime/package.js';
import { Figures, type Figure } from './figures.js';
import { firstScreen } from './first-screen.js';
import { Html, html, nothing } from './html.js';
import { embeddedJson, SHARD } from './questions.js';
import type { ReportInput, StageArtifacts } from './report-input.js';
import { artifactsSection, browserSettings, sectionsOf } from './sections.js';

/** Files of the page that are no TypeScript: the package has them next to this module's source. */
const asset = (name: string): string => readFileSync(join(ROOT, 'activities/report', name), 'utf8');

/**
 * The page with everything in it, readable from disk, on a phone, on paper, in light and dark, and without its script.
 *
 * Every figure is a link to the artifact that it comes from, and has a name. Missing parts are named as missing. All
 * text of the input is escaped; what models wrote is shown by the script as text.
 *
 * @returns the page, and its figures for `figures.json`.
 */
export function renderReport(input: ReportInput): { page: string; figures: Figure[] } {
  const figures = new Figures();
  const artifacts: StageArtifacts = {};
  for (const { name, artifact } of input.stages) {
    artifacts[name] = artifact;
    figures.add(name, artifact);
  }
  for (const [at, { round, artifact }] of input.rounds.entries()) {
    const { rollouts, rewards } = input.about.rounds[at] ?? {};
    figures.add(`round ${round} of reinforcement`, artifact);
    figures.add(`rollouts of round ${round}`, rollouts);
    figures.add(`rewards of round ${round}`, rewards);
  }
  for (const { artifact } of input.dropped) if (artifact.kind === 'seeds') figures.add('seeds', artifact);
  for (const { name, artifact } of input.models) figures.add(`model ${name}`, artifact);
  const head = firstScreen(input, figures, artifacts);
  const sections = [...sectionsOf(input, figures, artifacts), artifactsSection(figures)];
  const script = asset('browse.js');
  const page = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policyOf(script, input)}">
<title>${input.experiment}: ${input.state}</title>
<style>${new Html(asset('page.css'))}</style>
</head>
<body>
<a class="skip" href="#evaluation">Skip to the results</a>
${head}
<nav aria-label="Sections"><ul>
${sections.map(({ id, title }) => html`<li><a href="#${id}">${title}</a></li>`)}</ul></nav>
<main>
${sections.map(
  ({ id, title, content }) => html`<section id="${id}" aria-labelledby="${id}-title">
<h2 id="${id}-title">${title}</h2>
${content}
</section>
`,
)}</main>
${
  input.live === undefined
    ? nothing
    : html`<button id="live" type="button" data-version="${input.live}" hidden>There are new figures: show them</button>
`
}${embedded(input)}
<script>${new Html(script)}</script>
</body>
</html>
`.markup;
  return { page, figures: figures.list() };
}

/** The script of this page alone may run, what it loads, and, where the page is served, what it asks the server. */
function policyOf(script: string, { questions, live }: ReportInput): string {
  const hash = createHash('sha256').update(script).digest('base64');
  return [
    `default-src 'none'`,
    `style-src 'unsafe-inline'`,
    `script-src 'sha256-${hash}'${'files' in questions ? ` 'strict-dynamic'` : ''}`,
    ...(live === undefined ? [] : [`connect-src 'self'`]),
    `base-uri 'none'`,
    `form-action 'none'`,
  ].join('; ');
}

/** The data of the script. */
function embedded(input: ReportInput): Html {
  const data = (id: string, json: string): Html =>
    html`<script type="application/json" id="${id}">${new Html(json)}</script>
`;
  const { questions, tallies } = input;
  if (tallies.questions === 0) return nothing;
  return html`${data('browser-settings', embeddedJson(browserSettings(input, SHARD)))}${
    'index' in questions
      ? [
          data('browser-index', embeddedJson(questions.index)),
          ...questions.texts.map((text, shard) => data(`shard-${shard}`, text)),
        ]
      : nothing
  }`;
}
