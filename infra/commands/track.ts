/** `npm run track -- WORKFLOW_ID`: the curves of an experiment into trackers, from what is stored. */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { ArtifactStore } from '../../activities/artifacts/store.js';
import { pointsOfExperiment } from '../../activities/report/build.js';
import { MlflowTracker } from '../../activities/tracking/mlflow.js';
import type { Point } from '../../activities/tracking/points.js';
import { eventFile } from '../../activities/tracking/tensorboard.js';
import { SERVER_HELP } from '../stack/server.js';
import { WHICH_STORE } from './store-of-environment.js';
import { watching, type Watched } from './watched.js';

const HELP = `npm run track -- WORKFLOW_ID [options]

Gives the curves of an experiment to trackers: losses, rewards, KL, entropy, pass rates. They come from what stages and
rounds have stored, so no training waits for a tracker. At least one of the first two options is needed.

  --tensorboard FOLDER  write an event file there, which TensorBoard reads
  --mlflow URL          send to this MLflow server, into the one run of this experiment; a token comes from
                        MLFLOW_TRACKING_TOKEN
  --project NAME        MLflow's name for a group of runs (acecoder)
  --watch               go on while the experiment runs
  --embedded            the embedded stack, whatever else is configured
  --help                print this

Which Temporal server it asks:
${SERVER_HELP}
${WHICH_STORE}`;

/** Pauses between two looks at the experiment. */
const LOOK_MILLISECONDS = 5_000;
const EVENT_FILE = 'events.out.tfevents.0.acecoder';

type Send = (points: readonly Point[]) => Promise<void>;

interface Options {
  tensorboard?: string | undefined;
  mlflow?: string | undefined;
  project: string;
  watch: boolean;
}

/** Every tracker that was asked for, by its name. */
function trackersOf(workflowId: string, { tensorboard, mlflow, project }: Options): Map<string, Send> {
  const trackers = new Map<string, Send>();
  if (tensorboard !== undefined) {
    const folder = resolve(tensorboard);
    trackers.set('TensorBoard', async (points) => {
      await mkdir(folder, { recursive: true });
      // Whole or not at all: TensorBoard may read it at any time.
      const part = join(folder, `.${EVENT_FILE}.part`);
      await writeFile(part, eventFile(points));
      await rename(part, join(folder, EVENT_FILE));
    });
  }
  if (mlflow !== undefined) {
    const tracker = new MlflowTracker(mlflow, process.env['MLFLOW_TRACKING_TOKEN']);
    trackers.set('MLflow', async (points) => {
      await tracker.send({ workflowId, project }, points);
    });
  }
  return trackers;
}

async function track(
  watched: Watched,
  store: ArtifactStore,
  trackers: ReadonlyMap<string, Send>,
  { watch }: Options,
  signal: AbortSignal,
): Promise<void> {
  let sent = -1;
  while (!signal.aborted) {
    const source = await watched.source();
    const points = await pointsOfExperiment(store, source);
    if (points.length !== sent) {
      let failed = false;
      for (const [name, send] of trackers) {
        try {
          await send(points);
        } catch (error) {
          if (!watch) throw error;
          // A tracker that is away gets everything when it is back.
          console.error(`${name}: ${reasonOf(error)}; it is asked again`);
          failed = true;
        }
      }
      if (!failed) {
        sent = points.length;
        console.log(`${points.length} points in ${[...trackers.keys()].join(' and ')}`);
      }
    }
    if (!watch || (sent === points.length && !['running', 'paused', 'parked'].includes(source.state))) return;
    await sleep(LOOK_MILLISECONDS, undefined, { signal }).catch(() => undefined);
  }
}

function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  return error.cause instanceof Error ? `${error.message}: ${error.cause.message}` : error.message;
}

async function run(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      tensorboard: { type: 'string' },
      mlflow: { type: 'string' },
      project: { type: 'string', default: 'acecoder' },
      watch: { type: 'boolean', default: false },
      embedded: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const [workflowId, ...more] = positionals;
  if (workflowId === undefined || more.length > 0)
    throw new Error('Give one workflow id: npm run track -- WORKFLOW_ID --tensorboard FOLDER');
  if (values.mlflow !== undefined && !/^https?:\/\//.test(values.mlflow))
    throw new Error(`--mlflow is ${values.mlflow}; it is the address of a server, such as http://127.0.0.1:5000`);
  const trackers = trackersOf(workflowId, values);
  if (trackers.size === 0) throw new Error('Give a tracker: --tensorboard FOLDER, or --mlflow URL, or both.');
  await watching(workflowId, values, (watched, store, signal) => track(watched, store, trackers, values, signal));
}

run().then(
  () => process.exit(0),
  (error: unknown) => {
    console.error(reasonOf(error));
    process.exit(1);
  },
);
