/** Kinds of a thing that a configuration chooses among, each defined in a file of its own. Pure. */

/** Looks kinds up by their names. */
export interface Registry<D> {
  /** The definition of a kind. @throws Error for a name that is not in the registry. */
  named: (kind: string) => D;
  /** Whether what a configuration has chosen is paid for. Reads a configuration that may be wrong. */
  isPaid: (given: unknown) => boolean;
}

/**
 * The registry of a list of definitions.
 *
 * @example
 * registryOf('teacher', [offline, openai]).isPaid({ kind: 'offline' }); // false
 */
export function registryOf<D extends { kind: string; paid: boolean }>(
  what: string,
  definitions: readonly D[],
): Registry<D> {
  return {
    named(kind) {
      const found = definitions.find((definition) => definition.kind === kind);
      if (!found) throw new Error(`there is no ${what} ${JSON.stringify(kind)}`);
      return found;
    },
    isPaid: (given) => definitions.some(({ kind, paid }) => paid && kindOf(given) === kind),
  };
}

/** The kind of a value that may be none. */
function kindOf(value: unknown): unknown {
  return typeof value === 'object' && value !== null && 'kind' in value ? value.kind : undefined;
}
