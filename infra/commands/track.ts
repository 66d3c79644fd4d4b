/** `npm run track -- WORKFLOW_ID`: the curves of an experiment into trackers, from what is stored. */
import { mkdir, rename, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ArtifactStore } from '../../activities/artifacts/store.js';
import { pointsOfExperiment } from '../../activities/report/build.js';
import { ClientTracker, CLIENTS } from '../../activities/tracking/client-tracker.js';
import { MlflowTracker } from '../../activities/tracking/mlflow.js';
import type { Point } from '../../activities/tracking/points.js';
import { eventFile } from '../../activities/tracking/tensorboard.js';
import { lockedPython } from '../setup/locked-python.js';
import { home, root } from '../setup/paths.mjs';
import { SERVER_HELP } from '../stack/server.js';
import { FLAG, reasonOf, runCommand, type CommandLine } from './command.js';
import { WHICH_STORE } from './store-of-environment.js';
import { watching, type Watched } from './watched.js';

const HELP = `npm run track -- WORKFLOW_ID [options]

Gives the curves of an experiment to trackers: losses, rewards, KL, entropy, pass rates. They come from what stages and
rounds have stored, so no training waits for a tracker. At least one of the first four options is needed. The clients of
Weights & Biases and of trackio are installed when they are first asked for, each in an environment of its own.

  --tensorboard FOLDER  write an event file there, which TensorBoard reads
  --mlflow URL          send to this MLflow server, into the one run of this experiment; a token comes from
                        MLFLOW_TRACKING_TOKEN
  --wandb               send to Weights & Biases, into the one run of this experiment; its own variables say where to:
                        WANDB_API_KEY, WANDB_ENTITY, WANDB_BASE_URL, or WANDB_MODE=offline for files in WANDB_DIR
  --trackio             write to the store of trackio, into the one run of this experiment: TRACKIO_DIR
  --project NAME        the trackers' name for a group of runs (acecoder)
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
  wandb: boolean;
  trackio: boolean;
  project: string;
  watch: boolean;
}

/** Every tracker that was asked for, by its name. */
function trackersOf(workflowId: string, options: Options): Map<string, Send> {
  const { tensorboard, mlflow, project } = options;
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
  for (const name of CLIENTS.filter((client) => options[client])) {
    const folder = join(root, 'workers/trackers');
    const python = lockedPython(join(home(), 'trackers', name), join(folder, `${name}.lock`));
    const tracker = new ClientTracker(name, python, join(folder, 'send.py'));
    trackers.set(name, async (points) => {
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

const OPTIONS = {
  tensorboard: { type: 'string' },
  mlflow: { type: 'string' },
  wandb: FLAG,
  trackio: FLAG,
  project: { type: 'string', default: 'acecoder' },
  watch: FLAG,
  embedded: FLAG,
} as const;

async function run({ values, positionals }: CommandLine<typeof OPTIONS>): Promise<void> {
  const [workflowId, ...more] = positionals;
  if (workflowId === undefined || more.length > 0)
    throw new Error('Give one workflow id: npm run track -- WORKFLOW_ID --tensorboard FOLDER');
  if (values.mlflow !== undefined && !/^https?:\/\//.test(values.mlflow))
    throw new Error(`--mlflow is ${values.mlflow}; it is the address of a server, such as http://127.0.0.1:5000`);
  const trackers = trackersOf(workflowId, values);
  if (trackers.size === 0) throw new Error('Give a tracker: --tensorboard FOLDER, --mlflow URL, --wandb or --trackio.');
  await watching(workflowId, values, (watched, store, signal) => track(watched, store, trackers, values, signal));
}

runCommand({ help: HELP, options: OPTIONS, run });
