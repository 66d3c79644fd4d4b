/** `npm run stack`: the embedded stack in the foreground until Ctrl-C, or left running with `--detach`. */
import { setTimeout as sleep } from 'node:timers/promises';
import { attachStack, startStack, stopStack, type Stack } from '../stack/embedded-stack.js';
import { home as acecoderHome, isPackage, logs, temporal } from '../setup/paths.mjs';
import { setup } from '../setup/setup.mjs';
import { checkStore } from '../setup/store-choice.mjs';
import { checkTemporal } from '../setup/temporal-choice.mjs';
import { credentialsFile } from '../stack/object-store.js';
import { identify, onEndSignal } from '../setup/processes.mjs';
import { asTyped, FLAG, portOf, runCommand, type CommandLine } from './command.js';

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

const OPTIONS = {
  detach: FLAG,
  port: { type: 'string' },
  'ui-port': { type: 'string' },
  store: { type: 'string' },
  'store-port': { type: 'string' },
  temporal: { type: 'string' },
  'database-port': { type: 'string' },
} as const;

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

async function run({ values }: CommandLine<typeof OPTIONS>): Promise<number> {
  const ports = {
    frontend: portOf('port', values.port),
    ui: portOf('ui-port', values['ui-port']),
    store: portOf('store-port', values['store-port']),
    database: portOf('database-port', values['database-port']),
  };
  const [store, temporalServer] = [checkStore(values.store), checkTemporal(values.temporal)];
  const home = acecoderHome();
  const log = (line: string): void => console.log(line);
  // In a checkout, the set-up comes before every command.
  if (isPackage) await setup({ quiet: true, store, temporal: temporalServer });
  const askedToEnd = endAsked();
  const stack = await startStack({ home, ports, store, temporal: temporalServer, log });
  console.log(summary(stack));
  if (values.detach) {
    console.log(asTyped('The stack is left running; npm run stack:stop ends it.'));
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

runCommand({ help: HELP, options: OPTIONS, words: false, run });
