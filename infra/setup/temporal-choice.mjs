// Which Temporal server runs workflows for a home. Its data tell which one that is. Node built-ins only.
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { listed } from './store-choice.mjs';

/** `dev-server` is that of the Temporal CLI on a file, `postgresql` the server in its production form. */
const TEMPORALS = ['dev-server', 'postgresql'];

/** What holds the workflows of a home. */
export const temporalData = (home, temporal) =>
  join(home, 'data', temporal === 'postgresql' ? 'postgresql' : 'temporal.db');

/** The server that holds the home's workflows, or undefined for a new home. */
export function rememberedTemporal(home) {
  return TEMPORALS.find((temporal) => existsSync(temporalData(home, temporal)));
}

/**
 * Takes the server that is asked for, or else the one that holds the home's workflows, or else the dev server.
 *
 * @throws {Error} when another server holds workflows of the home.
 */
export function chooseTemporal(home, asked) {
  const remembered = rememberedTemporal(home);
  if (asked !== undefined && remembered !== undefined && asked !== remembered)
    throw new Error(
      `--temporal ${asked} is refused: ${temporalData(home, remembered)} holds workflows of ${remembered}. ` +
        'Leave out --temporal, or remove the data with npm run clean, or name another home by ACECODER_HOME.',
    );
  return asked ?? remembered ?? 'dev-server';
}

/**
 * The value of `--temporal`.
 *
 * @throws {Error} when it is no server.
 */
export function checkTemporal(value) {
  if (value === undefined || TEMPORALS.includes(value)) return value;
  throw new Error(`--temporal is ${JSON.stringify(value)}: choose ${listed(TEMPORALS, 'or')}.`);
}
