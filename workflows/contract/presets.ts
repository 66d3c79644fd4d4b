/** Named starting points: `{"extends": "quickstart", ...}` is merged over one of these. */
import { PRESETS } from './preset-list.js';

/**
 * Merges the preset named by `extends` under an experiment. Objects merge member by member, everything else
 * (arrays too) replaces; a discriminated object whose `kind` differs, or that says where data is, replaces as a whole.
 * `$schema`, which is for
 * editors, is left out.
 *
 * @throws Error naming the preset when it is unknown.
 * @example
 * ```ts
 * import { expandPreset } from 'acecoder-temporal/contract';
 *
 * const whole = expandPreset({ extends: 'paper-7b', stages: { reinforcement: { rounds: 10 } } });
 * ```
 */
export function expandPreset(input: unknown): unknown {
  if (!isObject(input) || (input['extends'] === undefined && input['$schema'] === undefined)) return input;
  const { extends: name, $schema: _schema, ...rest } = input;
  if (name === undefined) return rest;
  if (typeof name !== 'string' || !Object.hasOwn(PRESETS, name)) {
    throw new Error(`unknown preset ${JSON.stringify(name)}; known are ${Object.keys(PRESETS).join(', ')}`);
  }
  return merge(valuesOf(name), rest);
}

/** The values of a preset over those of all presets that it extends, each of which counts once. */
function valuesOf(name: string): unknown {
  return [...lineOf(name)].map((each) => PRESETS[each]!.values).reduce<unknown>(merge, {});
}

/** A preset after those that it extends, and these after those that they extend. */
function lineOf(name: string, line = new Set<string>()): Set<string> {
  for (const base of PRESETS[name]!.extends ?? []) lineOf(base, line);
  return line.add(name);
}

/** Deep merge of `over` over `base`; see {@link expandPreset} for the rule. */
export function merge(base: unknown, over: unknown): unknown {
  if (over === undefined) return base;
  if (!isObject(base) || !isObject(over)) return over;
  if (Object.hasOwn(base, 'kind') && Object.hasOwn(over, 'kind') && (base['kind'] !== over['kind'] || namesData(over)))
    return over;
  // Own members alone, on both sides: a member called `__proto__` is a name like any other, and the schema refuses it.
  const own = (key: string): unknown => (Object.hasOwn(base, key) ? base[key] : undefined);
  return Object.fromEntries([
    ...Object.entries(base),
    ...Object.entries(over).map(([key, value]) => [key, merge(own(key), value)]),
  ]);
}

/** Whether an object says where data or a model is: half of one place and half of another is no place. */
function namesData(value: Record<string, unknown>): boolean {
  return ['path', 'key', 'format', 'ref'].some((name) => Object.hasOwn(value, name));
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
