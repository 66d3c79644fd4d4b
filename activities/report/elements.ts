/** Parts that pages of this room share: tables, lists of facts, sentences. */
import { html, nothing, type Html, type HtmlValue } from './html.js';

/** A table; a heading that starts with `#` is a column of figures. */
export function table(headings: readonly string[], rows: readonly { id?: string; cells: HtmlValue[] }[]): Html {
  const numeric = headings.map((heading) => heading.startsWith('#'));
  const cell = (value: HtmlValue, column: number): Html =>
    numeric[column] ? html`<td class="number">${value}</td>` : html`<td>${value}</td>`;
  const heads = headings.map(
    (heading, column) =>
      html`<th scope="col"${numeric[column] ? html` class="number"` : nothing}>${heading.replace(/^#/, '')}</th>`,
  );
  // A region that scrolls can be reached by the keyboard.
  return html`<div class="scroll" tabindex="0"><table><thead><tr>${heads}</tr></thead><tbody>
${rows.map(
  ({ id, cells }) => html`<tr${id === undefined ? nothing : html` id="${id}"`}>${cells.map(cell)}</tr>
`,
)}</tbody></table></div>`;
}

/** Facts as terms with what they are. */
export function facts(entries: readonly (readonly [term: string, value: HtmlValue])[]): Html {
  return html`<dl class="facts">${entries.map(
    ([term, value]) => html`<dt>${term}</dt><dd>${value}</dd>
`,
  )}</dl>`;
}

/** Sentences as a list without bullets. */
export function sentences(items: readonly HtmlValue[]): Html {
  return html`<ul class="plain">${items.map(
    (item) => html`<li>${item}</li>
`,
  )}</ul>`;
}

/** Parts with a text between them. */
export function joined(parts: readonly HtmlValue[], between: string): Html {
  return html`${parts.map((part, at) => html`${at === 0 ? '' : between}${part}`)}`;
}
