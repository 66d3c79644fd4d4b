/**
 * `npm run trace -- <key | row | figure | experiment>`: what an artifact, row or figure comes from, or what uses
 * it.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createArtifactStore, storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { named } from '../../activities/lineage/target.js';
import { traceText } from '../../activities/lineage/text.js';
import { Tracer } from '../../activities/lineage/trace.js';
import { asTyped, FLAG, runCommand, type CommandLine } from './command.js';
import { environmentOfStore, WHICH_STORE } from './store-of-environment.js';

const HELP = `npm run trace -- EXPERIMENT [FIGURE | ROW] [options]
npm run trace -- ARTIFACT_KEY [ROW] [options]
npm run trace -- FIGURE | ROW [--experiment EXPERIMENT] [options]

Says what a figure of a report, an artifact or a row comes from, back to the seed: each step with the key of its
artifact, the id of its row, its configuration and the version of its code. An EXPERIMENT is a workflow id; alone, it
lists the figures of its report. It asks the store alone, and reads only what it tells.

  --forward         what was built from it instead: it looks at the artifacts of --experiment, or else at every
                    manifest of the store (one listing, and one read for each). A ROW of a question may name one of
                    its kept tests: q-...#2
  --experiment ID   the experiment of a figure or row, and the bound of --forward
  --run RUN_ID      of this run, where a workflow id had several (default: the newest)
  --rows N          rows that are followed where several lead on (1)
  --depth N         steps below each other (all)
  --json            one JSON object
  --embedded        the store of the embedded stack, whatever ACECODER_S3_ENDPOINT says
  --help            print this

${WHICH_STORE}`;

const OPTIONS = {
  forward: FLAG,
  experiment: { type: 'string' },
  run: { type: 'string' },
  rows: { type: 'string', default: '1' },
  depth: { type: 'string', default: 'all' },
  json: FLAG,
  embedded: FLAG,
} as const;

async function run({ values, positionals }: CommandLine<typeof OPTIONS>): Promise<void> {
  const [first, which, ...more] = positionals;
  const what = first ?? values.experiment;
  if (what === undefined || more.length > 0)
    throw new Error('Give an experiment, a key, a row or a figure: npm run trace -- EXPERIMENT [FIGURE | ROW]');
  const rows = wholeNumber('--rows', values.rows);
  const depth = values.depth === 'all' ? Infinity : wholeNumber('--depth', values.depth);
  const cache = await mkdtemp(join(tmpdir(), 'acecoder-trace-'));
  try {
    const options = storeOptionsFromEnvironment(await environmentOfStore(values.embedded), cache);
    const store = createArtifactStore(options);
    const tracer = new Tracer(store, { rows, depth });
    // With a key, the experiment bounds the search alone.
    const isKey = what.startsWith('artifacts/');
    const experiment = isKey || first === undefined ? undefined : values.experiment;
    const { target, figure, experiment: of } = await named(store, tracer, { what, which, experiment, run: values.run });
    if (!target || (of && !figure && target.row === undefined && !values.forward)) return list(of!, values.json);
    const within = values.forward ? await scope(tracer, of?.results['report']?.key ?? (await reportKey())) : undefined;
    const steps = within ? await tracer.forward(target, within.values()) : await tracer.back(target);
    const about = figure && of ? { figure: figure.id, value: figure.value, experiment: of.workflowId } : {};
    const lookedAt = within ? { manifests: within.size } : {};
    if (values.json) return console.log(JSON.stringify({ ...about, ...lookedAt, steps }, null, 2));
    if (figure && of) console.log(`${figure.id} = ${figure.value}, of ${of.workflowId}`);
    console.log(traceText(steps, figure ? '  ' : '').join('\n'));
    if (within) console.log(`It looked at ${within.size} manifests.`);

    async function reportKey(): Promise<string | undefined> {
      if (values.experiment === undefined) return undefined;
      const bound = await named(store, tracer, { what: values.experiment, run: values.run });
      return bound.experiment?.results['report']?.key;
    }
  } finally {
    await rm(cache, { recursive: true, force: true });
  }
}

/** The manifests among which uses are looked for. */
function scope(tracer: Tracer, report: string | undefined) {
  return report === undefined ? tracer.everything() : tracer.closure([report]);
}

function list(
  { workflowId, figures, results }: NonNullable<Awaited<ReturnType<typeof named>>['experiment']>,
  json: boolean,
): void {
  if (json) return console.log(JSON.stringify({ experiment: workflowId, figures, results }, null, 2));
  console.log(asTyped(`${workflowId}: ${figures.length} figures; npm run trace -- ${workflowId} FIGURE follows one`));
  for (const { id, value } of figures) console.log(`  ${id} = ${value}`);
  for (const [name, { key }] of Object.entries(results)) console.log(`  ${name}: ${key}`);
}

function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= 1) return value;
  throw new Error(`${option} is ${text}; it is a whole number, 1 at least.`);
}

runCommand({ help: HELP, options: OPTIONS, run });
