#!/usr/bin/env node
/**
 * The command of the package: `npx acecoder-temporal COMMAND`. It runs the same modules as the npm scripts of a
 * checkout. Only what users of the package need is here; the build compiles what this module imports.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { didYouMean } from '../../workflows/contract/index.js';
import { root } from '../setup/paths.mjs';

interface Command {
  /** One line of the help. */
  does: string;
  /** Takes the words of the process, and ends it. */
  run: () => Promise<unknown>;
}

const COMMANDS: Record<string, Command> = {
  sandbox: { does: 'judge programs of a file, or of whoever asks over HTTP', run: () => import('./sandbox.js') },
  stack: { does: 'Temporal and an object store on this machine', run: () => import('./stack.js') },
  'stack:stop': { does: 'stop them', run: () => import('./stack-stop.js') },
  workers: { does: 'workers on your Temporal server, or else on the stack', run: () => import('./workers.js') },
  estimate: {
    does: 'rows, tokens, time, money and disk of an experiment, before it is started',
    run: () => import('./estimate.js').then(({ estimateCommand }) => estimateCommand()),
  },
  follow: { does: 'the progress of an experiment in the terminal', run: () => import('./follow.js') },
  report: { does: 'the report of an experiment, at its end or while it runs', run: () => import('./report.js') },
  fetch: { does: 'what a workflow made, out of the store', run: () => import('./fetch.js') },
  compare: { does: 'finished experiments against the first one', run: () => import('./compare.js') },
  trace: { does: 'what a figure, row or artifact comes from', run: () => import('./trace.js') },
  codec: { does: 'show encrypted payloads to the Temporal CLI and UI', run: () => import('./codec.js') },
  setup: { does: 'install what these commands need next to Node', run: () => import('./setup.js') },
};

const HELP = `usage: npx acecoder-temporal COMMAND [options]

${Object.entries(COMMANDS)
  .map(([name, { does }]) => `  ${name.padEnd(11)} ${does}`)
  .join('\n')}

  --version   print the version
  --help      print this

npx acecoder-temporal COMMAND --help prints the options of a command.`;

/** Says something and ends. */
function end(code: number, text: string): never {
  (code === 0 ? console.log : console.error)(text);
  process.exit(code);
}

const [name] = process.argv.splice(2, 1);
if (name === '--help') end(0, HELP);
if (name === '--version') {
  const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
  end(0, version);
}
if (name === undefined) end(2, HELP);
const command = Object.hasOwn(COMMANDS, name) ? COMMANDS[name]! : undefined;
if (!command) {
  const meant = didYouMean(name, Object.keys(COMMANDS));
  end(2, `There is no command ${name}${meant || '.'}\n\n${HELP}`);
}
await command.run();
