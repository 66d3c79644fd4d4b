/** HTML text that is escaped by construction. */

/** A piece of finished markup. Everything else that goes into {@link html} is escaped. */
export class Html {
  constructor(readonly markup: string) {}
}

export type HtmlValue = Html | string | number | readonly HtmlValue[];

const ENTITIES: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };

function markupOf(value: HtmlValue): string {
  if (value instanceof Html) return value.markup;
  if (typeof value === 'object') return value.map(markupOf).join('');
  // Control characters other than white space are not allowed in HTML, escaped or not.
  return String(value)
    .replace(/[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f]/g, '\ufffd')
    .replace(/[&<>"']/g, (character) => ENTITIES[character] as string);
}

/** Template tag. The literal parts are markup. Values are escaped unless they are {@link Html}; lists are joined. */
export function html(parts: TemplateStringsArray, ...values: HtmlValue[]): Html {
  return new Html(
    parts.map((part, index) => (index === 0 ? part : markupOf(values[index - 1] as HtmlValue) + part)).join(''),
  );
}

export const nothing = new Html('');
