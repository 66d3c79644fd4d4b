/** `npm run sandbox`: the package's `acecoder-temporal sandbox`, with the environment of this checkout. */
import { sandboxCommand } from '../../workers/sandbox-command.js';
import { home } from '../setup/paths.mjs';

sandboxCommand(process.argv.slice(2), { ...process.env, ACECODER_HOME: home() }).then(
  (code) => process.exit(code),
  (error: Error) => {
    console.error(error.message);
    process.exit(1);
  },
);
