/** Addresses that a worker process listens on, from its environment. */

export interface Address {
  host: string;
  port: number;
}

/** Number of this process among the worker processes of its host, which the GPU launcher sets. */
export const PROCESS_NUMBER = 'ACECODER_PROCESS_NUMBER';

/**
 * The address in a variable. Several processes of one host have the same environment, so that the port of the second
 * one is one higher, and so on. Port 0 is any free one.
 *
 * @throws Error that names the variable and its value.
 * @example
 * addressOf({ ACECODER_METRICS: '127.0.0.1:9464', ACECODER_PROCESS_NUMBER: '2' }, 'ACECODER_METRICS');
 * // { host: '127.0.0.1', port: 9466 }
 */
export function addressOf(env: NodeJS.ProcessEnv, variable: string): Address | undefined {
  const text = env[variable];
  if (!text) return undefined;
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:]+)):(\d{1,5})$/.exec(text) ?? [];
  const host = bracketed ?? plain;
  const first = Number(digits);
  const port = first === 0 ? 0 : first + Number(env[PROCESS_NUMBER] ?? 0);
  if (!host || !(port <= 65_535))
    throw new Error(`${variable} is ${JSON.stringify(text)}; it is a host and a port, such as 127.0.0.1:9464.`);
  return { host, port };
}

/** An address as text, as {@link addressOf} reads it. */
export function textOfAddress({ host, port }: Address): string {
  return `${host.includes(':') ? `[${host}]` : host}:${port}`;
}
