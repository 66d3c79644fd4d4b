/**
 * The figures of a report: each number of the page has a name, a value and the artifact that it comes from. The page
 * shows them, and `figures.json` lists them, so that a program can start from a figure and follow it back.
 */
import type { ArtifactRef } from '../../workflows/contract/artifacts.js';
import { html, type Html, type HtmlValue } from './html.js';
import { bytesText, numberText, shortKey } from './text.js';

/** A line of `figures.json`. */
export interface Figure {
  /** Stable over runs, such as `evaluation.humaneval.trained.greedy`. */
  id: string;
  value: string | number | boolean | null;
  /** Key of the artifact's manifest. */
  artifact: string;
}

export class Figures {
  readonly #artifacts = new Map<string, { artifact: ArtifactRef; names: string[] }>();
  readonly #figures = new Map<string, Figure>();

  /** Takes an artifact into the list of the page. */
  add(name: string, artifact: ArtifactRef | undefined): void {
    if (artifact === undefined) return;
    const entry = this.#artifacts.get(artifact.key);
    if (entry === undefined) this.#artifacts.set(artifact.key, { artifact, names: [name] });
    else if (!entry.names.includes(name)) entry.names.push(name);
  }

  /**
   * A figure as a link to its artifact. The first time that a figure is shown, its element has the id `figure-<name>`.
   * Without an artifact it is plain text, because nothing could be followed.
   */
  show(
    id: string,
    value: Figure['value'],
    artifact: ArtifactRef | undefined,
    text: HtmlValue = typeof value === 'number' ? numberText(value) : String(value),
  ): Html {
    if (artifact === undefined) return html`${text}`;
    const isNew = !this.#figures.has(id);
    if (isNew) this.#figures.set(id, { id, value, artifact: artifact.key });
    const anchor = isNew ? html` id="figure-${id}"` : html``;
    return html`<a class="figure"${anchor} href="${this.#anchorOf(artifact)}" data-figure="${id}"
 data-artifact="${artifact.key}" title="${id}, from ${shortKey(artifact.key)}">${text}</a>`;
  }

  /** Names a figure that stands in a plot alone. */
  note(id: string, value: Figure['value'], artifact: ArtifactRef | undefined): void {
    if (artifact !== undefined && !this.#figures.has(id)) this.#figures.set(id, { id, value, artifact: artifact.key });
  }

  /** The short form of an artifact's key, as a link to the whole one. */
  key(artifact: ArtifactRef): Html {
    return html`<a class="figure" href="${this.#anchorOf(artifact)}"
 data-artifact="${artifact.key}" title="${artifact.key}"><code>${shortKey(artifact.key)}</code></a>`;
  }

  /** All figures, in the order of the page. */
  list(): Figure[] {
    return [...this.#figures.values()];
  }

  /** Names, kinds and whole keys of all artifacts, in the order in which they were added. */
  artifacts(): { id: string; names: string; artifact: ArtifactRef; size: string }[] {
    return [...this.#artifacts.values()].map(({ artifact, names }, index) => ({
      id: `artifact-${index + 1}`,
      names: names.join(', '),
      artifact,
      size: bytesText(artifact.bytes),
    }));
  }

  #anchorOf({ key }: ArtifactRef): string {
    const index = [...this.#artifacts.keys()].indexOf(key);
    return index < 0 ? '#artifacts' : `#artifact-${index + 1}`;
  }
}
