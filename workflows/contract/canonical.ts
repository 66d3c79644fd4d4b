/** Canonical JSON: the one text form of a value that digests and keys are taken of. */

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };

/**
 * JSON with object keys in code-unit order, no white space and `undefined` members left out.
 *
 * @throws TypeError for a value that JSON cannot hold (NaN, an infinity, a function, a bigint): a key that silently
 *   loses part of its input would make two different artifacts one.
 */
export function canonicalJson(value: unknown): string {
  switch (typeof value) {
    case 'number':
      if (!Number.isFinite(value)) throw new TypeError(`canonical JSON cannot hold the number ${value}`);
      return JSON.stringify(value);
    case 'string':
    case 'boolean':
      return JSON.stringify(value);
    case 'object': {
      if (value === null) return 'null';
      if (Array.isArray(value)) return `[${value.map(canonicalJson).join(',')}]`;
      if (Object.getPrototypeOf(value) !== Object.prototype && Object.getPrototypeOf(value) !== null) {
        throw new TypeError(`canonical JSON cannot hold a ${value.constructor.name}`);
      }
      const members = Object.entries(value)
        .filter(([, member]) => member !== undefined)
        .sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))
        .map(([key, member]) => `${JSON.stringify(key)}:${canonicalJson(member)}`);
      return `{${members.join(',')}}`;
    }
    default:
      throw new TypeError(`canonical JSON cannot hold a ${typeof value}`);
  }
}
