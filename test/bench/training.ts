/**
 * `npm run bench:training`: what the system costs a training, on a Temporal server and a MinIO of its own, and what the
 * policy update costs beside TRL's, in time, and in memory without its chunks and checkpointing. Its part `sharding`
 * holds memory and traffic of a sharded model against their formulas, and its part `ends`
 * measures whether RL teaches a policy to end its answers.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { Client, Connection } from '@temporalio/client';
import { createArtifactStore, storeOptionsFromEnvironment } from '../../activities/artifacts/store.js';
import { startStack, stackEnvironment, stopStack } from '../../infra/stack/embedded-stack.js';
import { venvPython } from '../../infra/setup/paths.mjs';
import { onEndSignal } from '../../infra/setup/processes.mjs';
import { stageOverhead } from './stage-overhead.js';
import { pythonMeasures } from './python.js';
import type { Surroundings } from './surroundings.js';
import { report, type Measure } from './table.js';
import { ahead, waiting, WAITING_DEVICES } from './waiting.js';

const HELP = `npm run bench:training -- [options]

  --only NAME   only this part: waiting, ahead, update, memory, sharding, deltas, overhead, ends (may be given several times)
  --rounds N    rounds of the parts waiting and ahead, in each mode (6)
  --device D    device of the waiting part: fake, which sleeps, or cuda, the GPU of this host (fake)
  --turns N     turns of the update part, in each a step of each side (9)
  --tokens N    tokens of the one row of the memory part (2048)
  --model DIR   model folder of the deltas part (random weights)
  --steps N     optimizer steps of the overhead part, in each of its four trainings (24)
  --json        one JSON object on the last line
  --help        print this`;

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', multiple: true },
      rounds: { type: 'string', default: '6' },
      device: { type: 'string', default: 'fake' },
      turns: { type: 'string', default: '9' },
      steps: { type: 'string', default: '24' },
      tokens: { type: 'string', default: '2048' },
      model: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) return console.log(HELP);
  const [rounds, turns, steps, tokens] = (['rounds', 'turns', 'steps', 'tokens'] as const).map((name) => {
    const value = Number(values[name]);
    if (!Number.isInteger(value) || value < 2)
      throw new Error(`--${name} is ${values[name]}: give a number from 2 on.`);
    return value;
  }) as [number, number, number, number];
  const device = WAITING_DEVICES.find((name) => name === values.device);
  if (!device) throw new Error(`--device is ${values.device}: the devices are ${WAITING_DEVICES.join(', ')}.`);
  const parts: Record<string, (surroundings: Surroundings) => Promise<Measure[]>> = {
    waiting: (surroundings) => waiting(surroundings, rounds, device),
    ahead: (surroundings) => ahead(surroundings, rounds),
    update: async () => pythonMeasures('policy_update', ['--turns', String(turns)]),
    memory: async () => pythonMeasures('step_memory', ['--tokens', String(tokens)]),
    sharding: async () => pythonMeasures('sharding', []),
    deltas: async () => pythonMeasures('deltas', values.model === undefined ? [] : ['--model', values.model]),
    overhead: (surroundings) => stageOverhead(surroundings, steps),
    ends: async () => pythonMeasures('answer_ends', []),
  };
  const chosen = values.only ?? Object.keys(parts);
  for (const name of chosen)
    if (!(name in parts)) throw new Error(`--only is ${name}: the parts are ${Object.keys(parts).join(', ')}.`);

  const home = mkdtempSync(join(tmpdir(), 'acecoder-bench-'));
  const stack = await startStack({ home, ports: { frontend: 0, ui: 0, store: 0 } });
  const environment = Object.fromEntries(
    Object.entries({ ...stackEnvironment(stack), ACECODER_PYTHON: venvPython() }).filter(
      (entry): entry is [string, string] => entry[1] !== undefined,
    ),
  );
  const connection = await Connection.connect({ address: stack.address });
  const stopped = new Promise<never>((_, reject) => {
    onEndSignal((signal) => reject(new Error(`Ended by ${signal}.`)));
  });
  try {
    const surroundings = {
      environment,
      home,
      servers: Object.values(stack.pids),
      client: new Client({ connection, namespace: stack.namespace }),
      store: createArtifactStore(storeOptionsFromEnvironment(environment, join(home, 'bench-cache'))),
    };
    const measures: Measure[] = [];
    for (const name of chosen) {
      console.error(`${name} ...`);
      measures.push(...(await Promise.race([parts[name]!(surroundings), stopped])));
    }
    report('training', measures, values.json);
  } finally {
    await connection.close();
    await stopStack({ home });
    rmSync(home, { recursive: true, force: true });
  }
}

await main();
