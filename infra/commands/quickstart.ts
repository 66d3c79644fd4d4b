/** `npm run quickstart`: a real experiment from end to end on this machine. */
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { Client, Connection } from '@temporalio/client';
import { dataConverterOf, payloadCodec } from '../../workers/payloads/codec.js';
import { safeName } from '../../activities/artifacts/keys.js';
import { placeFiles } from '../../activities/artifacts/results.js';
import { createArtifactStore, storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { Summary, type ArtifactRef } from '../../workflows/contract/index.js';
import { stackEnvironment, startStack, stopStack, type Stack } from '../stack/embedded-stack.js';
import { FLAG, portOf, runCommand, type CommandLine } from './command.js';
import { estimateExperiment, estimateLine, readExperiment } from './estimate.js';
import { home as acecoderHome, root, temporal } from '../setup/paths.mjs';
import { checkStore } from '../setup/store-choice.mjs';
import { onEndSignal } from '../setup/processes.mjs';
import { lineTeller, parkedText, watch } from './progress.js';
import { startExperiment } from './start-experiment.js';
import { ensureWorkers, findWorkers, stopWorkers } from '../stack/worker-process.js';

const HELP = `npm run quickstart [-- options]

Sets up, starts Temporal, the object store and the workers on this machine, and runs the experiment
infra/experiments/quickstart.json: synthesis, filtering, sampling, preference pairs, reward model,
RL rounds and evaluation with SmolLM2-135M-Instruct. Stopped at any point, it goes on where it was.

  --fresh             start over: removes the data, reports and cache of earlier runs
  --keep              leave Temporal, the store and the workers running at the end
  --experiment FILE   another experiment file; its name becomes the workflow id
  --store STORE       minio, seaweedfs or versitygw; the home keeps the first choice
  --port N, --ui-port N, --store-port N   ports (7733, 8733, 9733; 0: any free one)
  --help              print this`;

/** The address of the UI. The production server comes without one. */
const uiOf = ({ uiUrl }: Stack): string => uiUrl ?? 'none with the server on PostgreSQL';

const OPTIONS = {
  fresh: FLAG,
  keep: FLAG,
  experiment: { type: 'string', default: join(root, 'infra/experiments/quickstart.json') },
  store: { type: 'string' },
  port: { type: 'string' },
  'ui-port': { type: 'string' },
  'store-port': { type: 'string' },
} as const;

/** What an experiment returns of its report. Version 0.1.0 stored none. */
interface Reported {
  report?: ArtifactRef;
  html?: string;
  summary?: string;
}

/** Paths of the report on this disk. Where somebody removed it, it comes out of the store again. */
async function reportOnDisk(
  stack: Stack,
  workflowId: string,
  { report, html, summary }: Reported,
): Promise<{ html: string; summary: string }> {
  if (html !== undefined && summary !== undefined && existsSync(html) && existsSync(summary)) return { html, summary };
  if (!report)
    throw new Error(
      `The experiment has finished, but its report ${summary} is gone: npm run quickstart -- --fresh runs it anew.`,
    );
  const folder = join(stack.home, 'reports', safeName(workflowId));
  const options = storeOptionsFromEnvironment(stackEnvironment(stack), join(stack.home, 'cache'));
  const store = createArtifactStore(options);
  await placeFiles(store, (await store.manifest(report)).files, folder, 'copy');
  return { html: join(folder, 'report.html'), summary: join(folder, 'summary.json') };
}

function printSummary(summary: Summary, report: { html: string; summary: string }): boolean {
  const percent = (value: number | null): string => (value === null ? '-' : `${(100 * value).toFixed(1)} %`);
  console.log('');
  for (const { name, seconds, reused } of summary.stages)
    console.log(`  ${name.padEnd(14)} ${String(Math.round(seconds)).padStart(5)} s${reused ? '  reused' : ''}`);
  const { rewardModel } = summary;
  console.log(
    `\n  reward model: held-out accuracy ${percent(rewardModel.heldOutAccuracy)} on ` +
      `${rewardModel.heldOutPairs} pairs of ${rewardModel.heldOutQuestions} questions`,
  );
  for (const { benchmark, policy, tasks, greedy, mean, bestOfN, oracle } of summary.evaluation) {
    const best = Object.entries(bestOfN).map(([n, value]) => `best of ${n} ${percent(value)}`);
    console.log(
      `  ${benchmark.padEnd(18)} ${policy.padEnd(8)} ${tasks} tasks: ` +
        [`greedy ${percent(greedy)}`, `mean ${percent(mean)}`, ...best, `oracle ${percent(oracle)}`].join(', '),
    );
  }
  for (const { text, ok } of summary.assertions) if (!ok) console.error(`  NOT TRUE: ${text}`);
  console.log(`\nReport:   ${report.html}\nSummary:  ${report.summary}`);
  return summary.assertions.every(({ ok }) => ok);
}

async function run({ values }: CommandLine<typeof OPTIONS>): Promise<number> {
  const file = resolve(values.experiment);
  const store = checkStore(values.store);
  const ports = {
    frontend: portOf('port', values.port),
    ui: portOf('ui-port', values['ui-port']),
    store: portOf('store-port', values['store-port']),
  };
  const started = performance.now();
  const home = acecoderHome();
  const say = (line: string): void => console.log(`[${clock((performance.now() - started) / 1000)}] ${line}`);
  const experiment = readExperiment(file);
  const workflowId = experiment.name;
  if (values.fresh) {
    await stopWorkers(home);
    await stopStack({ home });
    for (const name of ['data', 'cache', 'reports']) rmSync(join(home, name), { recursive: true, force: true });
  }
  const stop = new AbortController();
  onEndSignal((signal) => stop.abort(signal));

  say(estimateLine(estimateExperiment(experiment)));
  let stack = await startStack({ home, ports, store, log: say });
  say(`Temporal UI: ${uiOf(stack)}`);
  const end = async (text: string): Promise<void> => {
    await stopWorkers(home);
    await stopStack({ home });
    say(text);
  };
  let watching: NodeJS.Timeout | undefined;
  let connection: Connection | undefined;
  try {
    if (ensureWorkers(stack).started) say('The workers were started.');
    watching = setInterval(() => {
      if (!findWorkers(home) && ensureWorkers(stack).started) say('The workers had died and were started again.');
    }, 2_000);
    connection = await Connection.connect({ address: stack.address });
    const client = new Client({
      connection,
      namespace: stack.namespace,
      dataConverter: dataConverterOf(payloadCodec(process.env)),
    });
    await startExperiment(stack, client, file, workflowId, say);
    const last = await watch(client, workflowId, {
      see: lineTeller(say),
      signal: stop.signal,
      lost: async (why) => {
        say(why);
        stack = await startStack({ home, log: say });
      },
    });
    clearInterval(watching);
    if (!last) {
      await end('Stopped; npm run quickstart goes on from here.');
      return 130;
    }
    const parked = last.status && parkedText(last.status);
    if (parked) {
      console.error(
        [
          parked.why,
          'Temporal, the object store and the workers stay up. To run the stage again:',
          `  export TEMPORAL_CONFIG_FILE=${stack.configFile}`,
          `  ${parked.advice.replace(/^temporal/, temporal())}`,
          'and then npm run quickstart, which follows it.',
        ].join('\n'),
      );
      return 1;
    }
    if (last.execution !== 'COMPLETED') {
      const why = await client.workflow
        .getHandle(workflowId)
        .result()
        .then(
          () => '',
          (error: Error) => (error.cause as Error | undefined)?.message ?? error.message,
        );
      console.error(
        `The experiment ended as ${last.execution}: ${why}\nTemporal, the object store and the workers stay up; see ` +
          `${uiOf(stack)}. npm run stack:stop ends them.`,
      );
      return 1;
    }
    const result = (await client.workflow.getHandle(workflowId).result()) as Reported;
    const report = await reportOnDisk(stack, workflowId, result);
    const ok = printSummary(Summary.parse(JSON.parse(readFileSync(report.summary, 'utf8'))), report);
    if (values.keep) {
      say(`Everything is left running (Temporal UI: ${uiOf(stack)}); npm run stack:stop ends it.`);
      return ok ? 0 : 1;
    }
    await end(
      'Temporal, the object store and the workers were stopped; npm run stack and npm run workers start them again.',
    );
    return ok ? 0 : 1;
  } catch (error) {
    clearInterval(watching);
    if (!stop.signal.aborted) throw error;
    await end('Stopped; npm run quickstart goes on from here.');
    return 130;
  } finally {
    clearInterval(watching);
    await connection?.close().catch(() => undefined);
  }
}

function clock(seconds: number): string {
  return `${String(Math.floor(seconds / 60)).padStart(2, '0')}:${String(Math.floor(seconds % 60)).padStart(2, '0')}`;
}

runCommand({ help: HELP, options: OPTIONS, words: false, run });
