/**
 * What the environment says about metrics and logs of a worker process. All of it is off by default. It is installed
 * once, before the process first connects to a Temporal server. For traces see traces.ts.
 */
import { Runtime, type MetricsExporterConfig } from '@temporalio/worker';
import { addressOf, textOfAddress } from './addresses.js';
import { jsonLogger, printJson } from './json-log.js';

const LOG_FORMATS = ['text', 'json'];

/** Upper ends of the buckets of `acecoder_device_wait`, in milliseconds: a queue for a device may last hours. */
const WAIT_BUCKETS_MS = [10, 100, 1_000, 10_000, 60_000, 600_000, 3_600_000, 21_600_000];
/**
 * The same of Temporal's time from when an activity is due until a worker takes it, in seconds. The SDK's own end at
 * 1,000 s, where no alert can tell an hour from a day.
 */
const BACKLOG_BUCKETS_S = [0.1, 0.5, 1, 5, 10, 60, 600, 1_800, 3_600, 21_600, 86_400];
const BUCKETS = {
  acecoder_device_wait: WAIT_BUCKETS_MS,
  activity_schedule_to_start_latency: BACKLOG_BUCKETS_S,
};

/**
 * Installs what the environment asks for: `ACECODER_METRICS` (`host:port` that Prometheus scrapes), `ACECODER_OTLP` (the
 * address of an OpenTelemetry collector, which gets them where nobody scrapes) and `ACECODER_LOG` (`json`).
 *
 * @returns lines that say what is installed.
 * @throws Error that names a variable with a wrong value. Temporal has one runtime in a process: an application that
 *   installs its own gives it the exporter itself.
 */
export function installTelemetry(env: NodeJS.ProcessEnv): string[] {
  const { ACECODER_LOG: format = 'text' } = env;
  if (!LOG_FORMATS.includes(format))
    throw new Error(`ACECODER_LOG is ${JSON.stringify(format)}; known are ${LOG_FORMATS.join(' and ')}.`);
  const address = addressOf(env, 'ACECODER_METRICS');
  const url = collectorOf(env);
  const isJson = format === 'json';
  const exporter = address ? prometheus(textOfAddress(address)) : url ? openTelemetry(url) : undefined;
  if (!isJson && !exporter) return [];
  if (isJson) printJson();
  Runtime.install({
    ...(isJson ? { logger: jsonLogger() } : {}),
    telemetryOptions: {
      ...(isJson ? { logging: { filter: { core: 'WARN', other: 'ERROR' }, forward: {} } } : {}),
      ...(exporter ? { metrics: exporter } : {}),
    },
  });
  if (address) return [`metrics: http://${textOfAddress(address)}/metrics`];
  return url ? [`metrics go to ${url.origin}`] : [];
}

function prometheus(bindAddress: string): MetricsExporterConfig {
  return {
    prometheus: {
      bindAddress,
      countersTotalSuffix: true,
      unitSuffix: true,
      useSecondsForDurations: true,
      histogramBucketOverrides: BUCKETS,
    },
  };
}

/** The collector that `ACECODER_OTLP` names. @throws Error where it is no address. */
export function collectorOf({ ACECODER_OTLP: address }: NodeJS.ProcessEnv): URL | undefined {
  if (!address) return undefined;
  if (!URL.canParse(address) || !/^https?:$/.test(new URL(address).protocol))
    throw new Error(
      `ACECODER_OTLP is ${JSON.stringify(address)}; it is the address of a collector, such as http://127.0.0.1:4318.`,
    );
  return new URL(address);
}

function openTelemetry(collector: URL): MetricsExporterConfig {
  return {
    otel: {
      url: new URL('/v1/metrics', collector).href,
      http: true,
      useSecondsForDurations: true,
      metricsExportInterval: '15s',
      histogramBucketOverrides: BUCKETS,
    },
  };
}
