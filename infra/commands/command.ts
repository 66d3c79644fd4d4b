/** What commands do alike: they read their options, print their help, and say in one sentence what is wrong. */
import { parseArgs, type ParseArgsConfig } from 'node:util';
import { didYouMean } from '../../workflows/contract/index.js';
import { home, isPackage } from '../setup/paths.mjs';

type Options = NonNullable<ParseArgsConfig['options']>;

/** An option without a value. */
export const FLAG = { type: 'boolean', default: false } as const;

/** A text with its commands as they are typed here: a checkout has npm scripts, the package one command. */
export function asTyped(text: string, packaged = isPackage): string {
  if (!packaged) return text;
  return text.replace(/npm run ([a-z][a-z:]*)( \[)?( ?-- )?/g, (_, name: string, bracket = '', dashes = '') =>
    name === 'clean' ? `rm -r ${home()}` : `npx acecoder-temporal ${name}${bracket || (dashes && ' ')}`,
  );
}

/** What `parseArgs` gives for options. */
type Parsed<O extends Options> = ReturnType<typeof parseArgs<{ allowPositionals: true; options: O; args: string[] }>>;

/** Reads options and words, without `--help`. @throws Error in one sentence. */
function given<const O extends Options>(options: O, args: string[], command: string): Parsed<O> {
  try {
    return parseArgs({ allowPositionals: true, options, args });
  } catch (error) {
    const problem = optionProblem(error, command, Object.keys(options));
    throw problem === undefined ? error : new Error(problem, { cause: error });
  }
}

/** What is wrong with an option, in a sentence, where an error of `parseArgs` is about one that there is not. */
export function optionProblem(error: unknown, command: string, options: readonly string[] = []): string | undefined {
  const { code, message } = error as NodeJS.ErrnoException;
  const [, option] = /'(--?[^' ]+)/.exec(message) ?? [];
  if (code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION' || option === undefined) return undefined;
  const names = options.map((name) => `--${name}`);
  const meant = didYouMean(option, names) || '.';
  return `There is no option ${option}${meant} ${command} -- --help says which there are.`;
}

/** What stands in a command line: values of the options, and the other words. */
export type CommandLine<O extends Options> = Parsed<O>;

/**
 * Runs a command and ends the process: with the exit code that `run` gives (none is 0), or with 1 and the message of
 * what it throws. `--help` prints the help, whose first words are the command's name. Without `words`, only options
 * may be given.
 *
 * @example
 * runCommand({ help: HELP, options: { json: FLAG }, run: ({ values }) => console.log(values.json) });
 */
export function runCommand<const O extends Options>({
  help,
  options,
  words = true,
  run,
}: {
  help: string;
  options: O;
  words?: boolean;
  run: (line: CommandLine<O>) => Promise<number | void> | number | void;
}): void {
  const args = process.argv.slice(2);
  const end = args.indexOf('--');
  const main = async (): Promise<number> => {
    if (!args.slice(0, end < 0 ? args.length : end).includes('--help')) {
      const [command = 'the command'] = /^npm (run \S+|test)/.exec(help) ?? [];
      const line = given(options, args, command);
      const [word] = line.positionals;
      if (!words && word !== undefined) throw new Error(`${command} takes options alone, and '${word}' is none.`);
      return (await run(line)) ?? 0;
    }
    console.log(asTyped(help));
    return 0;
  };
  main().then(
    (code) => process.exit(code),
    (error: unknown) => {
      console.error(asTyped(reasonOf(error)));
      process.exit(1);
    },
  );
}

/** Why something failed, in words: `fetch` hides its reason in the cause. */
export function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const isHidden = error.message === 'fetch failed' && error.cause instanceof Error;
  return isHidden ? `${error.message}: ${(error.cause as Error).message}` : error.message;
}

/**
 * The port that an option names; undefined where it is not given. 0 stands for any free one.
 *
 * @throws Error where it is none.
 */
export function portOf(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text);
  throw new Error(`--${option} is ${JSON.stringify(text)}: give a port number from 0 to 65535, 0 for any free port.`);
}
