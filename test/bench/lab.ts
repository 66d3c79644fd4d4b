/**
 * `npm run lab`: whether the whole chain learns, shown in minutes on a micro model, on a stack of its own. The parts
 * `watch` and `noise` ask what rewards are worth, `curriculum` what chosen questions save, and `repair` what a second try
 * with feedback wins. They need dozens of runs, which a table of chances makes cheap. The part `card` plants biases in reward models, and lets a trained one choose
 * among samples.
 *
 * The settings are those of infra/experiments/lab.json; its hyperparameters were chosen with `--validation`, whose
 * questions no other run asks.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import { createArtifactStore, storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { startStack, stackEnvironment, stopStack } from '../../infra/stack/embedded-stack.js';
import { root, venvPython } from '../../infra/setup/paths.mjs';
import { onEndSignal } from '../../infra/setup/processes.mjs';
import { createServices } from '../../workers/plugins/services.js';
import { startWorker } from '../fixtures/start-worker.js';
import { bestOfMeasures, plantedMeasures } from '../lab/card.js';
import { curriculumMeasures } from '../lab/curriculum.js';
import { noiseMeasures } from '../lab/noise.js';
import { repairMeasures } from '../lab/repair.js';
import { FAMILIES, labQuestions, type Family } from '../lab/questions.js';
import { runSeed, type LabSettings, type SeedFigures } from '../lab/run.js';
import { judgedQuestions } from '../lab/tabular.js';
import { watchMeasures } from '../lab/watch.js';
import { report, type Measure } from './table.js';

/** The chain on the micro model, and what is shown by a cheap model of RL. */
const PARTS = ['chain', 'watch', 'noise', 'curriculum', 'repair', 'card'] as const;
type LabPart = (typeof PARTS)[number];
/** Questions of the cheap parts. */
const CHEAP_QUESTIONS = 400;

const HELP = `npm run lab -- [options]

  --only PART     only this part: ${PARTS.join(', ')} (may be given several times); chain where none is given
  --family NAME   only this family: ${FAMILIES.join(', ')} (may be given several times)
  --seed N        only this seed (may be given several times)
  --recipe NAME   only this recipe of the file (may be given several times); one at least has a reward model
  --settings FILE another file than infra/experiments/lab.json
  --validation    the validation questions, on which hyperparameters are chosen, instead of the held-out ones
  --json          one JSON object on the last line
  --help          print this`;

interface LabFile extends LabSettings {
  seeds: number[];
  validationSeed: number;
  families: Family[];
}

/** What each family must reach on held-out questions, for each seed. */
const BARS: Record<Family, { pairAccuracy: number; closed: number; tests: number; best: number; greedy?: number }> = {
  structural: { pairAccuracy: 0.97, closed: 0.8, tests: 0.88, best: 0.8, greedy: 0.9 },
  nearMiss: { pairAccuracy: 0.9, closed: 0.6, tests: 0.9, best: 0.65 },
};
const SECONDS_PER_SEED = 360;
const QUEUE = 'lab';

function measuresOf(
  { family, seed, base, recipes, unseen, wrongJudgedRight, questions, seconds }: SeedFigures,
  settings: LabSettings,
): Measure[] {
  const bars = BARS[family];
  const measure = (name: string, value: number, rest: Partial<Measure> = {}): Measure => ({
    name: `${family} ${seed}: ${name}`,
    value,
    unit: '',
    ...rest,
  });
  return [
    measure('base mean pass@1', base.mean, {
      note: `${questions.train} train and ${questions.heldOut} held-out questions`,
    }),
    measure('base greedy', base.greedy, { bar: 0.5, at: 'most' }),
    measure('base oracle of 16', base.oracle),
    measure('wrong answers judged right', wrongJudgedRight),
    ...Object.entries(recipes).flatMap(([name, { pairAccuracy, pairs, bestOf16, closed, mean, greedy }]) => {
      const best = name === 'best';
      return [
        ...(pairAccuracy === undefined
          ? []
          : [
              measure(`${name}: strict pair accuracy`, pairAccuracy, {
                ...(best ? { bar: bars.pairAccuracy } : {}),
                note: `${pairs} pairs`,
              }),
              measure(`${name}: closed by Best-of-16`, closed!, {
                ...(best ? { bar: bars.closed } : {}),
                note: `Best-of-16 ${bestOf16!.toFixed(3)}`,
              }),
            ]),
        measure(`${name}: mean pass@1 after RL`, mean, {
          note: settings.recipes[name]!.title,
          ...(name === 'tests' ? { bar: bars.tests } : best ? { bar: bars.best } : {}),
        }),
        measure(
          `${name}: greedy after RL`,
          greedy,
          name === 'tests' && bars.greedy !== undefined ? { bar: bars.greedy } : {},
        ),
      ];
    }),
    ...Object.entries(unseen.policies).flatMap(([policy, { mean, greedy }]) => [
      measure(`${policy}: mean pass@1 on unseen kinds`, mean, {
        note: `${unseen.tasks} questions of kinds that nothing was trained on`,
      }),
      measure(`${policy}: greedy on unseen kinds`, greedy),
    ]),
    { ...measure('wall time', seconds, { bar: SECONDS_PER_SEED, at: 'most' }), unit: 's' },
  ];
}

/** Mean and spread (largest less smallest) over the seeds of what the seeds' measures have in common. */
function spreadOf(measures: readonly Measure[]): Measure[] {
  const groups = new Map<string, Measure[]>();
  for (const measure of measures) {
    const name = measure.name.replace(/ \d+:/, ':');
    groups.set(name, [...(groups.get(name) ?? []), measure]);
  }
  return [...groups]
    .filter(([, group]) => group.length > 1)
    .map(([name, group]) => {
      const values = group.map(({ value }) => value);
      const spread = Math.max(...values) - Math.min(...values);
      return {
        name: `${name}, mean of seeds`,
        value: values.reduce((sum, value) => sum + value, 0) / values.length,
        unit: group[0]!.unit,
        note: `spread ${spread.toPrecision(2)}`,
      };
    });
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      family: { type: 'string', multiple: true },
      seed: { type: 'string', multiple: true },
      recipe: { type: 'string', multiple: true },
      settings: { type: 'string', default: join(root, 'infra/experiments/lab.json') },
      validation: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const parts = (values.only ?? ['chain']) as LabPart[];
  for (const part of parts)
    if (!PARTS.includes(part)) throw new Error(`--only ${part}: give one of ${PARTS.join(', ')}`);
  const measures = await cheapMeasures(parts, values.seed?.map(Number));
  if (parts.includes('chain') || parts.includes('card')) measures.push(...(await stackMeasures(parts, values)));
  report('lab', measures, values.json);
}

/** The parts that need the sandbox alone. */
async function cheapMeasures(parts: readonly LabPart[], seeds: readonly number[] | undefined): Promise<Measure[]> {
  const measures: Measure[] = [];
  if (parts.every((part) => part === 'chain')) return measures;
  const services = createServices({ label: 'lab' });
  const say = (line: string): void => console.error(line);
  try {
    const judgedOf = (family: Family) => judgedQuestions(services.sandbox, labQuestions(family, 1, CHEAP_QUESTIONS));
    const judged = await judgedOf('structural');
    if (parts.includes('watch')) measures.push(...watchMeasures(judged, say));
    if (parts.includes('noise')) measures.push(...noiseMeasures(judged, say));
    if (parts.includes('curriculum'))
      measures.push(...curriculumMeasures({ structural: judged, nearMiss: await judgedOf('nearMiss') }, say));
    if (parts.includes('repair')) {
      const families = { structural: judged, nearMiss: await judgedOf('nearMiss') };
      measures.push(...(await repairMeasures(services.sandbox, families, say, seeds)));
    }
    if (parts.includes('card')) measures.push(...(await plantedMeasures(services.sandbox, judged, say)));
  } finally {
    await services.close();
  }
  return measures;
}

/** What the options of the chain say. */
interface ChainOptions {
  settings: string;
  validation: boolean;
  family?: string[] | undefined;
  seed?: string[] | undefined;
  recipe?: string[] | undefined;
}

/** The parts that need servers and workers. */
async function stackMeasures(parts: readonly LabPart[], values: ChainOptions): Promise<Measure[]> {
  const file = JSON.parse(readFileSync(values.settings, 'utf8')) as LabFile;
  const families = (values.family ?? file.families) as Family[];
  for (const family of families)
    if (!FAMILIES.includes(family)) throw new Error(`--family ${family}: give one of ${FAMILIES.join(', ')}`);
  const seeds = values.validation ? [file.validationSeed] : (values.seed ?? file.seeds).map(Number);
  const recipes = Object.fromEntries(
    Object.entries(file.recipes).filter(([name]) => values.recipe?.includes(name) ?? true),
  );

  const home = mkdtempSync(join(tmpdir(), 'acecoder-lab-'));
  const began = performance.now();
  const say = (line: string): void => console.error(`[${((performance.now() - began) / 1000).toFixed(0)} s] ${line}`);
  const stack = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 } });
  const environment = Object.fromEntries(
    Object.entries({ ...stackEnvironment(stack), ACECODER_PYTHON: venvPython() }).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    ),
  );
  const workers = startWorker(QUEUE, environment);
  const services = createServices({ env: environment, label: 'lab' });
  const connection = await Connection.connect({ address: stack.address });
  let ending: Promise<void> | undefined;
  const end = (): Promise<void> =>
    (ending ??= (async () => {
      await connection.close();
      await services.close();
      await workers.stop();
      await stopStack({ home });
      rmSync(home, { recursive: true, force: true });
    })());
  onEndSignal(() => void end().finally(() => process.exit(130)));
  try {
    const context = {
      client: new Client({ connection, namespace: stack.namespace }),
      taskQueue: QUEUE,
      models: services.models,
      store: createArtifactStore(storeOptionsFromEnvironment(environment, join(home, 'lab-cache'))),
      folder: home,
      say,
    };
    const measures: Measure[] = [];
    if (parts.includes('card')) {
      const ofCard: Measure[] = [];
      for (const seed of seeds)
        ofCard.push(...(await bestOfMeasures({ ...context, sandbox: services.sandbox }, file, seed)));
      measures.push(...ofCard, ...spreadOf(ofCard));
    }
    for (const family of parts.includes('chain') ? families : []) {
      const ofFamily: Measure[] = [];
      for (const seed of seeds)
        ofFamily.push(...measuresOf(await runSeed(context, { ...file, recipes }, family, seed), file));
      measures.push(...ofFamily, ...spreadOf(ofFamily));
    }
    return measures;
  } finally {
    await end();
  }
}

await main();
