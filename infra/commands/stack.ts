/** `npm run stack`: the embedded stack in the foreground until Ctrl-C, or left running with `--detach`. */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { attachStack, startStack, stopStack, type Stack, type StackPorts } from '../stack/embedded-stack.js';
import { home as acecoderHome, logs, temporal } from '../setup/paths.mjs';
import { checkStore, type StoreName } from '../setup/store-choice.mjs';
import { checkTemporal, type TemporalName } from '../setup/temporal-choice.mjs';
import { credentialsFile } from '../stack/object-store.js';
import { identify, onEndSignal } from '../setup/processes.mjs';

const HELP = `npm run stack [-- options]

Starts the Temporal server and the object store on 127.0.0.1, with their data in ACECODER_HOME (.acecoder).

  --detach        leave them running and return; npm run stack:stop ends them
  --port N        port of the Temporal server (7733)
  --ui-port N     port of the Temporal UI (8733)
  --store-port N  port of the object store (9733)
  --store STORE   minio, seaweedfs or versitygw; the home keeps the first choice
  --temporal T    dev-server (default), or postgresql: the server in its production form;
                  the home keeps the first choice
  --database-port N  with postgresql: its port (any free one)
  --help          print this

A port of 0 stands for any free port.`;

function parse(): {
  detach: boolean;
  help: boolean;
  ports: StackPorts;
  store: StoreName | undefined;
  temporal: TemporalName | undefined;
} {
  const { values } = parseArgs({
    options: {
      detach: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
      port: { type: 'string' },
      'ui-port': { type: 'string' },
      store: { type: 'string' },
      'store-port': { type: 'string' },
      temporal: { type: 'string' },
      'database-port': { type: 'string' },
    },
  });
  const port = (option: 'port' | 'ui-port' | 'store-port' | 'database-port'): number | undefined => {
    const text = values[option];
    if (text === undefined) return undefined;
    if (/^\d{1,5}$/.test(text) && Number(text) <= 65_535) return Number(text);
    throw new Error(`--${option} is ${JSON.stringify(text)}: give a port number from 0 to 65535, 0 for any free port.`);
  };
  const ports = {
    frontend: port('port'),
    ui: port('ui-port'),
    store: port('store-port'),
    database: port('database-port'),
  };
  const { detach, help } = values;
  return { detach, help, ports, store: checkStore(values.store), temporal: checkTemporal(values.temporal) };
}

function summary(stack: Stack): string {
  return [
    `Temporal server  ${stack.temporal}, ${stack.address}, namespace ${stack.namespace}`,
    `Temporal UI      ${stack.uiUrl ?? 'none'}`,
    `Object store     ${stack.store}, ${stack.s3.endpoint}, bucket ${stack.s3.bucket}`,
    `Keys of it       ${credentialsFile(stack.home)}`,
    `Temporal CLI     TEMPORAL_CONFIG_FILE=${stack.configFile} ${temporal()} workflow list`,
  ].join('\n');
}

/** Returns when a signal asks for the end; a second signal changes nothing, as the servers are being stopped then. */
function endAsked(): Promise<void> {
  return new Promise((resolve) => {
    onEndSignal(() => resolve());
  });
}

/** Waits until a server of the stack ends; one that another command has replaced by then counts as running. */
async function endOfServer(home: string, stack: Stack): Promise<void> {
  for (let current: Stack | undefined = stack; current; current = await attachStack({ home })) {
    while (Object.values(current.pids).every(identify)) await sleep(1_000);
  }
}

async function main(): Promise<number> {
  const { detach, help, ports, store, temporal } = parse();
  if (help) {
    console.log(HELP);
    return 0;
  }
  const home = acecoderHome();
  const log = (line: string): void => console.log(line);
  const askedToEnd = endAsked();
  const stack = await startStack({ home, ports, store, temporal, log });
  console.log(summary(stack));
  if (detach) {
    console.log('The stack is left running; npm run stack:stop ends it.');
    return 0;
  }
  console.log('Ctrl-C stops it; the data stays.');
  const asked = await Promise.race([askedToEnd.then(() => true), endOfServer(home, stack).then(() => false)]);
  const stopped = await stopStack({ home, log });
  if (!asked && stopped) {
    console.error(`A server has ended by itself; see ${logs()}. Start the stack again: it continues on its data.`);
    return 1;
  }
  console.log('The stack is stopped; its data stays.');
  return 0;
}

main().then(
  (code) => process.exit(code),
  (error: Error) => {
    console.error(error.message);
    process.exit(1);
  },
);
