/**
 * Texts of users where they become part of a path, an address or a command. Pure.
 *
 * What a schema can refuse is refused here by its form. What may be any text, such as a workflow id, becomes a name by
 * `safeName` of `activities/artifacts/keys.ts`, or a word of a command by {@link shellWord}.
 */
import { z } from 'zod';

/** Characters that end a path or a line, or that a terminal obeys. */
const CONTROL = /[\u0000-\u001f\u007f]/;

/**
 * Whether a text names a file below a folder: parts between slashes, none of them empty, `.` or `..`, and without
 * backslashes and control characters.
 */
export function isFileBelow(name: string): boolean {
  return (
    !CONTROL.test(name) && !name.includes('\\') && name.split('/').every((part) => !['', '.', '..'].includes(part))
  );
}

/** A file below a folder that is named elsewhere. */
export const FileBelow = z
  .string()
  .min(1)
  .refine(isFileBelow, { error: "path below the folder, without '..', '.', a leading slash and backslashes" });

/** Object key of a manifest. */
export const ManifestKey = z
  .string()
  .regex(/^artifacts\/[A-Za-z]+\/[\w-]{1,100}\.json$/, "key of a manifest: 'artifacts/<kind>/<name>.json'");

/** Import name of a Python package. */
export const PackageName = z
  .string()
  .regex(
    /^(?!.{201})[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*$/,
    'import name of a Python package: letters, digits and underscore',
  );

/** Id of a model or data set of the Hugging Face hub. */
export const HubId = z
  .string()
  .regex(
    /^(?!.*(?:--|\.\.))\w[\w.-]{0,95}(?:\/\w[\w.-]{0,95})?$/,
    "id of the hub, such as 'owner/name': letters, digits, dash, dot and underscore",
  );

/** Branch, tag or commit of a repository of the hub. */
export const HubRevision = z
  .string()
  .regex(
    /^(?!.*(?:\.\.|\/\/|\/$))\w[\w./-]{0,199}$/,
    'branch, tag or commit: letters, digits, dash, dot, slash and underscore',
  );

/**
 * A word of a shell command, quoted where a shell would read more than a word. Control characters are written as bash,
 * zsh and ksh read them, so that the command stays on one line.
 *
 * @example
 * shellWord("it's"); // 'it'\''s'
 */
export function shellWord(text: string): string {
  if (/^[\w./:@%+][\w./:@%+=-]*$/.test(text)) return text;
  if (!CONTROL.test(text)) return `'${text.replaceAll("'", "'\\''")}'`;
  const escaped = [...text].map((character) =>
    CONTROL.test(character)
      ? `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
      : character.replace(/['\\]/, '\\$&'),
  );
  return `$'${escaped.join('')}'`;
}
