/** The languages: a new one is a file of this room and a line of this list. */
import type { LanguageDefinition } from './language.js';
import { python } from './python.js';

export const LANGUAGES = [python] as const;
export type LanguageName = (typeof LANGUAGES)[number]['name'];

/** The language of rows that name none. */
const DEFAULT: LanguageName = python.name;

/**
 * The language of a seed, a question or a program.
 *
 * @throws Error for a name that is not in the registry.
 * @example
 * languageOf({}).name; // 'python'
 */
export function languageOf({
  language = DEFAULT,
}: {
  language?: string | undefined;
}): LanguageDefinition<LanguageName> {
  const found = LANGUAGES.find(({ name }) => name === language);
  if (!found) throw new Error(`there is no language ${JSON.stringify(language)}`);
  return found;
}

/**
 * A language as rows and keys hold it. The default one is left out, so that bytes and keys from before there was a
 * choice are still found.
 *
 * @example
 * keyedLanguage('python'); // {}
 */
export function keyedLanguage<L extends string>(language: L | undefined): { language?: L } {
  return language === undefined || language === DEFAULT ? {} : { language };
}
