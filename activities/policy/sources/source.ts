/**
 * What a source of programs is: whose programs speak for a question, where that is not the policy. Oracles of
 * filtering and the sampler of sampling choose among them. Each one is a file of this room and a line of the
 * registry, `index.ts`.
 *
 * These files are pure: the contract builds its schemas from them, and they run inside the workflow bundle. Digests are
 * made by `../source.ts`, which knows no source by name.
 */
import { z } from 'zod';
import type { Prompt, Tokens } from '../../../workflows/contract/endpoint.js';
import { MOVED_FIELDS } from '../../../workflows/contract/mistakes.js';
import { registryOf } from '../../../workflows/contract/registry.js';
import type { QuestionRow } from '../../../workflows/contract/rows.js';

/** How programs are sampled. */
interface Sampling {
  temperature: number;
  topP: number;
  /** Upper limit of an answer, in tokens. */
  maxNewTokens: number;
  /** Of this program alone. */
  seed: number;
}

/**
 * Programs that are asked of a language model at an endpoint, one request each.
 *
 * @public The declarations of the registry name it.
 */
export interface AskedPrograms {
  from: 'endpoint';
  /** Name of the model at the endpoint, and in the ids of its programs. */
  model: string;
  /** What is asked for one program. `key` holds all that the reply depends on: the digest of it is the reply's key. */
  request: (
    question: Pick<QuestionRow, 'question' | 'language'>,
    sampling: Sampling,
  ) => { prompt: Prompt; key: object };
  /** Tokens of `programs` programs under a limit each. */
  tokens: (programs: number, maxNewTokens: number) => Tokens;
}

/**
 * Programs out of stored samples, the input `samples` of the stage. Their digest stands in the ids of the programs.
 *
 * @public The declarations of the registry name it.
 */
export interface RecordedPrograms {
  from: 'recorded';
}

type Shape = z.core.$ZodLooseShape & { kind: z.ZodLiteral<string> };

/** The stages that let a configuration choose a source. */
type Stage = 'filtering' | 'sampling';

/** What a source says of itself. */
export interface SourceDefinition<S extends Shape> {
  /** Its settings. Part of every key. */
  shape: S;
  /** Settings that it no longer has, with their new places, for each stage. */
  moved?: Readonly<Record<Stage, Readonly<Record<string, string>>>>;
  /** Whether its programs are paid for. A source that asks an endpoint is; the price may be 0. */
  paid: boolean;
  /** The source with these settings. */
  programs: (settings: z.output<z.ZodObject<S, z.core.$strip>>) => AskedPrograms | RecordedPrograms;
}

/** A source as others use it, whatever its settings are. */
export interface Source {
  kind: string;
  paid: boolean;
  with: (given: object) => AskedPrograms | RecordedPrograms;
}

/**
 * A source out of its definition, with the schema that each stage needs.
 *
 * @example
 * export const mine = defineSource({
 *   shape: { kind: z.literal('mine').describe('programs of mine') },
 *   paid: false,
 *   programs: () => ({ from: 'recorded' }),
 * });
 */
export function defineSource<S extends Shape>({ shape, moved, paid, programs }: SourceDefinition<S>) {
  const kind = shape.kind.value;
  const reader = z.object(shape);
  const schema = (stage: Stage) => {
    const settings = z.strictObject(shape);
    return moved ? settings.register(MOVED_FIELDS, moved[stage]) : settings;
  };
  const source: Source = {
    kind,
    paid,
    with(given) {
      const found = programs(reader.parse(given));
      if (paid !== (found.from === 'endpoint')) throw new Error(`source '${kind}': paid means asking an endpoint`);
      return found;
    },
  };
  return { ...source, schemas: { filtering: schema('filtering'), sampling: schema('sampling') } };
}

type Registered = Source & { schemas: Record<Stage, z.core.$ZodTypeDiscriminable> };

/** What others need of a list of sources: the schemas of their settings, and each one by its kind. */
export function sourceRegistry<const T extends readonly [Registered, ...Registered[]]>(sources: T) {
  const registry = registryOf<Source>('source of programs', sources);
  type Schemas<S extends Stage> = [T[number]['schemas'][S], ...T[number]['schemas'][S][]];
  return {
    ...registry,
    /** The alternatives of a stage's setting. */
    schemas: {
      filtering: sources.map(({ schemas }) => schemas.filtering) as Schemas<'filtering'>,
      sampling: sources.map(({ schemas }) => schemas.sampling) as Schemas<'sampling'>,
    },
    /** The source that a configuration names, with its settings. */
    of: (given: { kind: string }) => registry.named(given.kind).with(given),
  };
}
