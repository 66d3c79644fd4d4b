/**
 * Which parameters of sampling a model at an endpoint refuses. They are left out of every later request, by every
 * worker, because the refusal is stored before anything is asked without them.
 *
 * A reply that was asked for without a parameter has another key than one with it. So a reply of an endpoint that
 * refuses a parameter never answers for an endpoint that takes it.
 */
import { canonicalJson, type EndpointExecution, type EndpointModel } from '../../workflows/contract/index.js';
import { objectKeys, sha256 } from '../artifacts/keys.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { REFUSABLE, type Refusable } from './meaning.js';

const NAMES = Object.keys(REFUSABLE) as Refusable[];

export class Refusals {
  readonly #refused = new Set<Refusable>();

  constructor(
    private readonly store: Pick<ArtifactStore, 'getJson' | 'putJson'>,
    private readonly endpoint: Pick<EndpointExecution, 'baseUrl'>,
    private readonly model: Pick<EndpointModel, 'model' | 'temperature' | 'topP'>,
  ) {}

  /** What is known of a model at an endpoint, with these values of its parameters. */
  static async of(...known: ConstructorParameters<typeof Refusals>): Promise<Refusals> {
    const refusals = new Refusals(...known);
    for (const name of NAMES)
      if ((await refusals.store.getJson(refusals.#document(name))) !== undefined) refusals.#refused.add(name);
    return refusals;
  }

  /** The parameters that are left out, in the order of their names. */
  get names(): Refusable[] {
    return [...this.#refused].sort();
  }

  /** Stores that these are refused. */
  async add(names: readonly Refusable[], message: string): Promise<void> {
    const { baseUrl } = this.endpoint;
    for (const name of names) {
      await this.store.putJson(this.#document(name), { baseUrl, model: this.model.model, parameter: name, message });
      this.#refused.add(name);
    }
  }

  /**
   * The key of a reply that is asked for now: `key` itself where nothing is left out.
   *
   * @param names parameters that are left out; absent: those that are known.
   */
  keyOf(key: string, names: readonly string[] = this.names): string {
    return names.length === 0 ? key : sha256(canonicalJson({ key, leftOut: [...names] }));
  }

  /**
   * Keys under which a reply may be stored that counts: with all parameters, or without some of those that are known to
   * be refused. Rows are asked while a refusal is learnt, and what they were answered stays theirs.
   */
  keysOf(key: string): string[] {
    const subsets = this.names.reduce<string[][]>((all, name) => [...all, ...all.map((each) => [...each, name])], [[]]);
    return subsets.sort((a, b) => a.length - b.length).map((names) => this.keyOf(key, names));
  }

  /** The document of a refusal. It holds for the values that were refused, because another one may be taken. */
  #document(parameter: Refusable): string {
    const { baseUrl } = this.endpoint;
    const { model, temperature, topP } = this.model;
    return objectKeys.refusal(sha256(canonicalJson({ baseUrl, model, temperature, topP, parameter })));
  }
}
