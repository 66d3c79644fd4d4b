/** `npm run compare -- BASE OTHER …`: experiments side by side, out of the store alone. */
import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { createArtifactStore, storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { compareSides, type Side } from '../../activities/comparison/compare.js';
import { renderComparison } from '../../activities/comparison/page.js';
import { readSide } from '../../activities/comparison/read.js';
import { reportText } from '../../activities/comparison/text.js';
import { FLAG, runCommand, type CommandLine } from './command.js';
import { environmentOfStore, WHICH_STORE } from './store-of-environment.js';

const HELP = `npm run compare -- BASE OTHER [OTHER …] [options]

Compares finished experiments with the first one: which settings differ, which stages are shared, and what the
same tasks say about their policies, by paired tests. An experiment is named by its workflow id, an evaluation
by the key of its artifact. It asks the store alone, so no worker and no Temporal server need run.

  --policy NAME    the policy of each that is compared (default: the last one that was trained)
  --output FOLDER  write comparison.html and comparison.json there too
  --json           the comparison as JSON in the place of the text
  --embedded       the store of the embedded stack, whatever ACECODER_S3_ENDPOINT says
  --help           print this

${WHICH_STORE}`;

const OPTIONS = {
  policy: { type: 'string' },
  output: { type: 'string' },
  json: FLAG,
  embedded: FLAG,
} as const;

async function run({ values, positionals: names }: CommandLine<typeof OPTIONS>): Promise<void> {
  if (names.length < 2) throw new Error('Give at least two experiments: npm run compare -- BASE OTHER');
  const twice = names.find((name, at) => names.indexOf(name) !== at);
  if (twice !== undefined) throw new Error(`${twice} is named twice; give each experiment once`);
  const cache = await mkdtemp(join(tmpdir(), 'acecoder-compare-'));
  try {
    const store = createArtifactStore(storeOptionsFromEnvironment(await environmentOfStore(values.embedded), cache));
    const sides: Side[] = [];
    for (const name of names) sides.push(await readSide(store, name));
    const report = compareSides(sides, { policy: values.policy });
    const json = `${JSON.stringify(report, null, 2)}\n`;
    if (values.output !== undefined) {
      const folder = resolve(values.output);
      await mkdir(folder, { recursive: true });
      await writeFile(join(folder, 'comparison.html'), renderComparison(report));
      await writeFile(join(folder, 'comparison.json'), json);
    }
    process.stdout.write(values.json ? json : reportText(report));
  } finally {
    await rm(cache, { recursive: true, force: true });
  }
}

runCommand({ help: HELP, options: OPTIONS, run });
