/** `npm run docs:bad-input`: writes docs/reference/bad-input.md, the table of bad inputs with what each printed. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { checkInput, refusalText, type WorkflowName } from '../../workflows/contract/index.js';
import { root } from '../setup/paths.mjs';

/** An input that is refused. What only a server can tell (`lookedUp`) has its text recorded, and a test compares it. */
export interface BadInput {
  title: string;
  workflow: WorkflowName;
  input: unknown;
  lookedUp?: boolean;
  printed?: string;
}

export const BAD_INPUT_PAGE = join(root, 'docs/reference/bad-input.md');

/** The table of bad inputs, as data. */
export function badInputs(): BadInput[] {
  return JSON.parse(readFileSync(join(root, 'test/fixtures/bad-inputs.json'), 'utf8')) as BadInput[];
}

/** What a bad input prints. @throws Error for an input that is not refused. */
export function printedFor({ title, workflow, input, lookedUp, printed }: BadInput): string {
  const { mistakes } = checkInput(workflow, input);
  if (lookedUp ? mistakes : !mistakes)
    throw new Error(`"${title}" is ${mistakes ? 'refused without a look-up' : 'not refused'}`);
  if (mistakes) return refusalText(workflow, mistakes);
  if (printed === undefined) throw new Error(`"${title}" has no recorded text`);
  return printed;
}

/** The page as Markdown. */
export function badInputPage(): string {
  const section = (each: BadInput, index: number): string =>
    [
      `### ${index + 1}. ${each.title}`,
      `\`${each.workflow}\` was given`,
      `\`\`\`json\n${JSON.stringify(each.input)}\n\`\`\``,
      'and failed with `InvalidExperiment`:',
      `\`\`\`text\n${printedFor(each)}\n\`\`\``,
    ].join('\n\n');
  const inputs = badInputs();
  const pure = inputs.filter(({ lookedUp }) => !lookedUp);
  return (
    [
      '# Bad inputs and what they print',
      `<!-- Written by \`npm run docs:bad-input\` from test/fixtures/bad-inputs.json. -->`,
      'A workflow checks its input before it does anything.\n' +
        'It fails at once, with every mistake: path, what is allowed, and the value in parentheses.\n' +
        'Text under a name such as `token`, and text that looks like an API key, is printed as `(hidden)`.\n' +
        'Nothing is stored.',
      `## Seen from the input alone (${pure.length})`,
      ...pure.map(section),
      `## Seen when the input is looked up (${inputs.length - pure.length})`,
      'References, files, models and benchmarks are looked up on the workers that need them, before anything is ' +
        'imported.',
      ...inputs.filter(({ lookedUp }) => lookedUp).map((each, index) => section(each, pure.length + index)),
    ].join('\n\n') + '\n'
  );
}

if (process.argv[1] === import.meta.filename) {
  mkdirSync(dirname(BAD_INPUT_PAGE), { recursive: true });
  writeFileSync(BAD_INPUT_PAGE, badInputPage());
  console.log(`${badInputs().length} bad inputs in ${BAD_INPUT_PAGE}`);
}
