#!/usr/bin/env node
/** The command of the package: `npx acecoder-temporal sandbox`. Workers have entry points of their own. */
import { PACKAGE } from '../activities/runtime/package.js';
import { sandboxCommand } from './sandbox-command.js';

const HELP = `usage: acecoder-temporal COMMAND [options]

  sandbox     judges programs of a file, or of whoever asks over HTTP
  --version   print the version
  --help      print this

acecoder-temporal COMMAND --help prints the options of a command.`;

async function main([command, ...args]: string[]): Promise<number> {
  switch (command) {
    case 'sandbox':
      return sandboxCommand(args);
    case '--version':
      console.log(PACKAGE.version);
      return 0;
    case '--help':
      console.log(HELP);
      return 0;
    default:
      console.error(command === undefined ? HELP : `There is no command ${command}.\n\n${HELP}`);
      return 2;
  }
}

main(process.argv.slice(2)).then(
  (code) => process.exit(code),
  (error: Error) => {
    console.error(error.message);
    process.exit(1);
  },
);
