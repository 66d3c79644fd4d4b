/** Asks a namespace for the search attributes of experiments. The plugin and the worker processes use it. */
import type { NativeConnection } from '@temporalio/worker';
import { SEARCH_ATTRIBUTES, shellWord } from '../../workflows/contract/index.js';

/**
 * Whether a namespace has all search attributes. Each change is told once, with the command that registers the missing
 * ones. A server that does not answer counts as having none, because an unregistered attribute blocks a workflow for
 * ever.
 */
export function searchAttributesOf(
  connection: () => NativeConnection | undefined,
  namespace: () => string,
  warn: (text: string) => void,
): () => Promise<boolean> {
  let told: string | undefined;
  return async () => {
    const obstacle = await missingAttributes(connection(), namespace());
    if (obstacle !== told) warn(obstacle ?? `The namespace '${namespace()}' has all search attributes now.`);
    told = obstacle;
    return obstacle === undefined;
  };
}

async function missingAttributes(
  connection: NativeConnection | undefined,
  namespace: string,
): Promise<string | undefined> {
  const register = (names: string[]): string =>
    names.map((name) => `--name ${name} --type ${SEARCH_ATTRIBUTES[name as keyof typeof SEARCH_ATTRIBUTES]}`).join(' ');
  const command = (names: string[]): string =>
    `To register: temporal operator search-attribute create --namespace ${shellWord(namespace)} ${register(names)}`;
  const all = Object.keys(SEARCH_ATTRIBUTES);
  try {
    const { customAttributes } = await connection!.operatorService.listSearchAttributes({ namespace });
    const missing = all.filter((name) => !(name in (customAttributes ?? {})));
    if (missing.length === 0) return undefined;
    const what = `has no search attribute ${missing.join(', ')}`;
    return `The namespace '${namespace}' ${what}; experiments run without. ${command(missing)}`;
  } catch (error) {
    const what = `cannot be listed (${(error as Error).message})`;
    return `The search attributes of the namespace '${namespace}' ${what}; experiments run without. ${command(all)}`;
  }
}
