import type { NativeConnection } from '@temporalio/worker';
import { SEARCH_ATTRIBUTES } from '../../workflows/contract/index.js';

/**
 * Whether a namespace has all search attributes. Tells each change of that once, with the command that registers what is
 * missing. A server that does not say counts as having none: an unregistered attribute would hold a workflow for ever.
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
    `To register: temporal operator search-attribute create --namespace ${namespace} ${register(names)}`;
  const all = Object.keys(SEARCH_ATTRIBUTES);
  try {
    const { customAttributes } = await connection!.operatorService.listSearchAttributes({ namespace });
    const missing = all.filter((name) => !(name in (customAttributes ?? {})));
    if (missing.length === 0) return undefined;
    return `The namespace '${namespace}' has no search attribute ${missing.join(', ')}; experiments run without. ${command(missing)}`;
  } catch (error) {
    return `The search attributes of the namespace '${namespace}' cannot be listed (${(error as Error).message}); experiments run without. ${command(all)}`;
  }
}
