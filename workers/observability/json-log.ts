/**
 * Logs for machines: one JSON object a line, with `time`, `level`, `message`, and what the SDK knows of the event, such
 * as `workflowId` and `activityType`.
 */
import { formatWithOptions } from 'node:util';
import { DefaultLogger, type LogEntry, type Logger } from '@temporalio/worker';

type Levels = 'debug' | 'info' | 'warn' | 'error';

/**
 * A line of the log. An error is told by its name, its message and its stack.
 *
 * @example
 * jsonLine('info', 'ready', { queue: 'acecoder' }, 0);
 * // '{"time":"1970-01-01T00:00:00.000Z","level":"info","message":"ready","queue":"acecoder"}'
 */
export function jsonLine(level: string, message: string, attributes: object, time: number): string {
  const own = Object.fromEntries(
    Object.entries(attributes).map(([name, value]) => [RESERVED.has(name) ? `${name}_` : name, value as unknown]),
  );
  return JSON.stringify({ time: new Date(time).toISOString(), level, message, ...own }, (_, value: unknown) => {
    if (typeof value === 'bigint') return String(value);
    if (!(value instanceof Error)) return value;
    const { name, message: says, stack, cause } = value;
    return { name, message: says, stack, ...(cause === undefined ? {} : { cause }) };
  });
}
const RESERVED: ReadonlySet<string> = new Set(['time', 'level', 'message']);

const print = (level: string, message: string, attributes: object, time: number): void => {
  process.stderr.write(`${jsonLine(level, message, attributes, time)}\n`);
};

/** The logger of the SDK's runtime. Its entries carry their time in nanoseconds. */
export function jsonLogger(): Logger {
  return new DefaultLogger('INFO', ({ level, message, meta, timestampNanos }: LogEntry) =>
    print(level.toLowerCase(), message, meta ?? {}, Number(timestampNanos / 1_000_000n)),
  );
}

/** Has every line that this process prints by `console` become a line of JSON, whoever prints it. */
export function printJson(): void {
  const levels: Record<Levels | 'log', Levels> = {
    debug: 'debug',
    info: 'info',
    log: 'info',
    warn: 'warn',
    error: 'error',
  };
  for (const [method, level] of Object.entries(levels) as [Levels | 'log', Levels][])
    console[method] = (...words: unknown[]) =>
      print(level, formatWithOptions({ colors: false }, ...words), {}, Date.now());
}
