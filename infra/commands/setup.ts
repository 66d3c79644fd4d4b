/** `npx acecoder-temporal setup`: installs what the package needs next to Node. A checkout has `npm run setup`. */
import { setup } from '../setup/setup.mjs';
import { checkStore } from '../setup/store-choice.mjs';
import { checkTemporal } from '../setup/temporal-choice.mjs';
import { FLAG, runCommand } from './command.js';

const HELP = `npm run setup [-- options]

Installs the Temporal CLI, an object store and bubblewrap into ACECODER_HOME (.acecoder), at pinned versions. The command
stack does this by itself. It needs Python 3.11 or newer with pip.

  --python         the Python environment of the model runtime too, for gpu workers (6 GB)
  --vllm           the environment of the engine vLLM too (10 GB)
  --vllm-cpu       the same for workers without a GPU (7 GB)
  --libraries NAME libraries that programs of a benchmark import: bigcodebench, bigcodebench-tensorflow
  --store STORE    minio, seaweedfs or versitygw; the home keeps the first choice
  --temporal T     dev-server (default), or postgresql: the server in its production form
  --help           print this`;

runCommand({
  help: HELP,
  options: {
    python: FLAG,
    vllm: FLAG,
    'vllm-cpu': FLAG,
    libraries: { type: 'string' },
    store: { type: 'string' },
    temporal: { type: 'string' },
  },
  words: false,
  run: ({ values: { store, temporal, 'vllm-cpu': vllmCpu, ...rest } }) =>
    setup({ ...rest, vllmCpu, store: checkStore(store), temporal: checkTemporal(temporal) }),
});
