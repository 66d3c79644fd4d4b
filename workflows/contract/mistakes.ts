/** Mistakes of an input: where, what stands there and what is allowed, all together and without secrets. */
import { z } from 'zod';

/**
 * One mistake of an input. `value` is what stands there, or {@link HIDDEN} where that may be a secret.
 *
 * @example
 * ```ts
 * import { checkInput, type Mistake } from 'acecoder-temporal/contract';
 *
 * const mistakes: Mistake[] = checkInput('experiment', { nam: 'mine' }).mistakes ?? [];
 * for (const { path, value, message } of mistakes) console.error(path, value, message);
 * ```
 */
export interface Mistake {
  path: string;
  value: unknown;
  message: string;
}

/** Stands for a value that may be a secret. */
export const HIDDEN = '(hidden)';

/**
 * Fields that a schema no longer has, with their new places. A schema is registered last: `describe` makes a new one.
 */
export const MOVED_FIELDS = z.registry<Readonly<Record<string, string>>>();

/**
 * All mistakes of `input`, which `schema` refused with `error`. A misspelt field or value is told which one is near.
 */
export function mistakesOf(error: z.ZodError, input: unknown, schema: z.ZodType): Mistake[] {
  return error.issues.flatMap((issue) => ofIssue(issue, [], input, schema));
}

/** Characters of a value that are shown: an object key of the store fits. */
const SHOWN = 160;

/** Mistakes as the text of an error: one line each, values shortened. */
export function describeMistakes(mistakes: readonly Mistake[]): string {
  return mistakes
    .map(({ path, value, message }) => {
      const text = value === undefined ? 'missing' : JSON.stringify(value);
      return `${path}: ${message} (is ${text.length > SHOWN ? `${text.slice(0, SHOWN - 3)}...` : text})`;
    })
    .join('\n');
}

/** A mistake whose parts hold no secret. */
export function mistake(path: string, value: unknown, message: string): Mistake {
  return { path: withoutSecrets(path), value: masked(value, path), message: withoutSecrets(message) };
}

function mistakeAt(path: readonly PropertyKey[], input: unknown, message: string): Mistake {
  return mistake(path.map(String).join('.') || '(top)', valueAt(input, path), message);
}

function ofIssue(
  issue: z.core.$ZodIssue,
  before: readonly PropertyKey[],
  input: unknown,
  schema: z.ZodType,
): Mistake[] {
  const path = [...before, ...issue.path];
  if (issue.code === 'unrecognized_keys') {
    const forms = schemasAt(schema, path, input).filter((each) => each instanceof z.ZodObject);
    // Where a value has but the fields of another form, it is that form which is meant.
    const value = valueAt(input, path) as object;
    const meant = forms
      .find((form) => Object.keys(value).every((key) => Object.hasOwn(form.shape, key)))
      ?.safeParse(value);
    if (meant?.error) return meant.error.issues.flatMap((each) => ofIssue(each, path, input, schema));
    const known = forms.flatMap((form) => Object.keys(form.shape));
    const moved = Object.assign({}, ...forms.map((form) => MOVED_FIELDS.get(form))) as Record<string, string>;
    const why = (key: string): string =>
      Object.hasOwn(moved, key) ? `moved to ${moved[key]}` : `no such field${didYouMean(key, known)}`;
    return issue.keys.map((key) => mistakeAt([...path, key], input, why(key)));
  }
  if (issue.code === 'invalid_union') {
    // The alternative that the value comes nearest to says what is wrong with it; a value that is like none gets the
    // union's own sentence.
    const [nearest] = issue.errors
      .filter(
        (issues) =>
          issues.length > 0 && issues.every((each) => each.path.length > 0 || each.code === 'unrecognized_keys'),
      )
      .sort((a, b) => distance(a) - distance(b));
    if (nearest) return nearest.flatMap((each) => ofIssue(each, path, input, schema));
    const options = 'options' in issue && Array.isArray(issue.options) ? issue.options.map(String) : [];
    return [mistakeAt(path, input, options.length > 0 ? allowed(options, valueAt(input, path)) : issue.message)];
  }
  if (issue.code === 'invalid_key')
    return [
      mistakeAt(path, input, `the name is not allowed: ${issue.issues.map(({ message }) => message).join('; ')}`),
    ];
  if (issue.code === 'invalid_value' && issue.values.length > 1)
    return [mistakeAt(path, input, allowed(issue.values.map(String), valueAt(input, path)))];
  return [mistakeAt(path, input, issue.message.replace(/^Invalid input: /, ''))];
}

/** How far a value is from an alternative: a field that it does not have tells more than a field that is wrong. */
function distance(issues: readonly z.core.$ZodIssue[]): number {
  return issues.reduce((sum, issue) => sum + (issue.code === 'unrecognized_keys' ? 1 + issue.keys.length : 1), 0);
}

function allowed(values: readonly string[], value: unknown): string {
  const meant = typeof value === 'string' ? didYouMean(value, values) : '';
  return `must be one of ${values.map((each) => JSON.stringify(each)).join(', ')}${meant}`;
}

/** The schemas that may hold the value at a path: more than one where a union does not say which is meant. */
function schemasAt(schema: z.ZodType, path: readonly PropertyKey[], input: unknown): z.ZodType[] {
  const inner = unwrapped(schema);
  if (inner instanceof z.ZodDiscriminatedUnion) {
    const { discriminator } = inner.def;
    const kind = valueAt(input, [discriminator]);
    return (inner.options as z.ZodType[])
      .filter(
        (option) => option instanceof z.ZodObject && (option.shape[discriminator] as z.ZodType).safeParse(kind).success,
      )
      .flatMap((option) => schemasAt(option, path, input));
  }
  if (inner instanceof z.ZodUnion)
    return (inner.options as z.ZodType[]).flatMap((option) => schemasAt(option, path, input));
  const [key, ...rest] = path;
  if (key === undefined) return [inner];
  const next =
    inner instanceof z.ZodObject
      ? Object.hasOwn(inner.shape, key)
        ? (inner.shape[String(key)] as z.ZodType)
        : undefined
      : inner instanceof z.ZodArray
        ? (inner.element as z.ZodType)
        : inner instanceof z.ZodRecord
          ? (inner.valueType as z.ZodType)
          : undefined;
  return next ? schemasAt(next, rest, valueAt(input, [key])) : [];
}

/** A schema without the defaults and options around it. */
export function unwrapped(schema: z.ZodType): z.ZodType {
  return schema instanceof z.ZodOptional ||
    schema instanceof z.ZodNullable ||
    schema instanceof z.ZodDefault ||
    schema instanceof z.ZodPrefault
    ? unwrapped(schema.unwrap() as z.ZodType)
    : schema;
}

/** `; did you mean "x"?` where one of the candidates is near: at most a third of the letters differ. */
export function didYouMean(word: string, candidates: readonly string[]): string {
  const near = candidates
    .map((candidate) => ({ candidate, distance: editDistance(word.toLowerCase(), candidate.toLowerCase()) }))
    .filter(
      ({ candidate, distance }) => distance <= Math.max(1, Math.floor(Math.max(word.length, candidate.length) / 3)),
    )
    .sort((a, b) => a.distance - b.distance)[0];
  return near ? `; did you mean ${JSON.stringify(near.candidate)}?` : '';
}

/**
 * Insertions, deletions, replacements and swaps of neighbours that make one word of the other (optimal string
 * alignment).
 */
function editDistance(a: string, b: string): number {
  let beforeLast: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, column) => column);
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    for (let column = 1; column <= b.length; column += 1) {
      const same = a[row - 1] === b[column - 1];
      let cost = Math.min(last[column]! + 1, current[column - 1]! + 1, last[column - 1]! + (same ? 0 : 1));
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1])
        cost = Math.min(cost, beforeLast[column - 2]! + 1);
      current.push(cost);
    }
    beforeLast = last;
    last = current;
  }
  return last[b.length]!;
}

const SECRET_NAME = /(key|token|secret|password|passwd|passphrase|credentials?|authorization)$/i;
/** Forms of the keys of well-known services, JSON web tokens, private keys, and addresses with a password. */
const SECRET_VALUE = new RegExp(
  [
    String.raw`\b(?:sk|pk|rk)[-_][A-Za-z0-9_-]{8,}`,
    String.raw`\bgh[a-z]_[A-Za-z0-9]{16,}`,
    String.raw`\bgithub_pat_\w{16,}`,
    String.raw`\bhf_[A-Za-z0-9]{8,}`,
    String.raw`\bA(?:KIA|SIA)[A-Z0-9]{12,}`,
    String.raw`\bAIza[\w-]{16,}`,
    String.raw`\bxox[a-z]-[\w-]{8,}`,
    String.raw`\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?`,
    String.raw`\bBearer\s+\S+`,
    String.raw`-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*`,
    String.raw`://[^/\s:@]+:[^/\s@]+@`,
  ].join('|'),
  'g',
);
/** Keys of the store's own objects stand in references under the name `key` and are no secrets. */
const OBJECT_KEY = /^artifacts\/[A-Za-z0-9/._-]+$/;

/** A text with everything that looks like an API key hidden. */
export function withoutSecrets(text: string): string {
  return text.replace(SECRET_VALUE, HIDDEN);
}

/** A value as it may be shown: text under a name of secrets, and text that looks like an API key, is hidden. */
function masked(value: unknown, name = ''): unknown {
  if (typeof value === 'string')
    return SECRET_NAME.test(name) && !OBJECT_KEY.test(value) ? HIDDEN : withoutSecrets(value);
  if (Array.isArray(value)) return value.map((each) => masked(each, name));
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [withoutSecrets(key), masked(each, key)]));
}

function valueAt(input: unknown, path: readonly PropertyKey[]): unknown {
  return path.reduce<unknown>(
    (value, key) =>
      typeof value === 'object' && value !== null ? (value as Record<PropertyKey, unknown>)[key] : undefined,
    input,
  );
}
