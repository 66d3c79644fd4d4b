/**
 * The metrics of a worker: one table of their names, and what counts them. Temporal's SDK exports them together with its
 * own, where a worker has an exporter (`ACECODER_METRICS`, `ACECODER_OTLP`). Without one they cost a call.
 *
 * Labels have few values: a stage, a class of failure, a direction. No workflow id, key or host is a label, because each
 * value of a label is a time series for as long as the worker lives.
 */
type Labels = Record<string, string>;

/** What metrics are told to: the meter of Temporal's SDK, as far as it is used here. */
interface Meter {
  createCounter(name: string, unit: string, about: string): { add(value: number, labels: Labels): void };
  createGauge(name: string, type: 'float', unit: string, about: string): { set(value: number, labels: Labels): void };
  createHistogram(
    name: string,
    type: 'float',
    unit: string,
    about: string,
  ): { record(value: number, labels: Labels): void };
}

interface Metric {
  kind: 'counter' | 'gauge' | 'histogram';
  /** As OpenTelemetry has it. Prometheus adds `_total` to counters, and the unit to histograms. */
  name: string;
  unit: string;
  labels: readonly string[];
  about: string;
}

/** Every metric of this package. Its page is `docs/reference/metrics.md`, which `npm run docs:metrics` writes. */
export const METRICS = {
  rows: {
    kind: 'counter',
    name: 'acecoder_rows',
    unit: 'rows',
    labels: ['activity'],
    about: 'Rows of finished shards, by the step that made them. A shard that is found in the store does not count.',
  },
  tokens: {
    kind: 'counter',
    name: 'acecoder_tokens',
    unit: 'tokens',
    labels: ['model', 'direction'],
    about: 'Tokens of replies of endpoints, `prompt` and `completion`, by the model that the configuration names.',
  },
  cost: {
    kind: 'counter',
    name: 'acecoder_cost_microdollars',
    unit: 'microdollars',
    labels: ['model'],
    about: 'Millionths of a US dollar of replies, by the prices of the configuration.',
  },
  budgetLeft: {
    kind: 'gauge',
    name: 'acecoder_budget_left_dollars',
    unit: 'dollars',
    labels: ['model'],
    about:
      "US dollars left of a shard's share of the budget when a reply was last paid for; 0: too little for one more.",
  },
  repliesAgain: {
    kind: 'counter',
    name: 'acecoder_replies_asked_again',
    unit: 'requests',
    labels: ['reason'],
    about: 'Requests to an endpoint that are sent again, by the reason.',
  },
  verdicts: {
    kind: 'counter',
    name: 'acecoder_verdicts',
    unit: 'programs',
    labels: [],
    about: 'Programs that the sandbox has judged.',
  },
  rounds: {
    kind: 'counter',
    name: 'acecoder_rl_rounds',
    unit: 'rounds',
    labels: [],
    about: 'Policy updates of RL rounds that ended on this worker.',
  },
  reward: {
    kind: 'gauge',
    name: 'acecoder_rl_reward',
    unit: 'reward',
    labels: [],
    about: "Mean reward of the last policy update's rollouts.",
  },
  deviceBusy: {
    kind: 'counter',
    name: 'acecoder_device_busy',
    unit: 'milliseconds',
    labels: ['activity'],
    about: 'Time in which an activity held a device, until it had left it. Rate per second over 1,000 is its use.',
  },
  deviceWait: {
    kind: 'histogram',
    name: 'acecoder_device_wait',
    unit: 'milliseconds',
    labels: [],
    about: 'Time from when work for a device was due until a worker took it.',
  },
  failures: {
    kind: 'counter',
    name: 'acecoder_failures',
    unit: 'attempts',
    labels: ['activity', 'class'],
    about: 'Attempts that failed, by the class of failure. A class that is waited for counts at each attempt.',
  },
  progress: {
    kind: 'counter',
    name: 'acecoder_progress',
    unit: 'reports',
    labels: ['activity'],
    about: 'Reports of progress of running activities. None while slots are in use means that work stands still.',
  },
  storeRequests: {
    kind: 'counter',
    name: 'acecoder_store_requests',
    unit: 'requests',
    labels: ['outcome'],
    about: "Requests to the artifact store: `ok`, `refused` (the store's own error answer) or `broken` (no answer).",
  },
  storeBytes: {
    kind: 'counter',
    name: 'acecoder_store_bytes',
    unit: 'bytes',
    labels: ['direction'],
    about: 'Bytes of requests (`sent`) and answers (`received`) of the artifact store, headers included.',
  },
  cacheBytes: {
    kind: 'gauge',
    name: 'acecoder_cache_bytes',
    unit: 'bytes',
    labels: [],
    about: 'Bytes of the cache when it was last measured against its budget.',
  },
  diskFree: {
    kind: 'gauge',
    name: 'acecoder_disk_free_bytes',
    unit: 'bytes',
    labels: [],
    about: 'Free bytes of the disk that holds the cache, every 15 seconds.',
  },
  ready: {
    kind: 'gauge',
    name: 'acecoder_ready',
    unit: 'condition',
    labels: ['condition'],
    about: 'Whether a condition of the worker holds (1) or not (0), as `/readyz` tells it, every 15 seconds.',
  },
  experiments: {
    kind: 'gauge',
    name: 'acecoder_experiments',
    unit: 'experiments',
    labels: ['state'],
    about: 'Open experiments of the namespace by their state, every 15 seconds, of pipeline workers.',
  },
} as const satisfies Record<string, Metric>;

type Table = typeof METRICS;
/** Names of the table that are of a kind. */
type Named<Kind extends Metric['kind']> = {
  [Name in keyof Table]: Table[Name]['kind'] extends Kind ? Name : never;
}[keyof Table];
type LabelsOf<Name extends keyof Table> = Record<Table[Name]['labels'][number], string>;
type Instrument = (value: number, labels: Labels) => void;

let meter: Meter | undefined;
/** Instruments by name: making one costs a call into native code. */
let instruments = new Map<string, Instrument>();

/** Says where metrics go from now on: the meter of the process's Temporal runtime. */
export function useMeter(given: Meter): void {
  meter = given;
  instruments = new Map();
}

/**
 * Adds to a counter, which holds whole numbers.
 *
 * @example
 * add('rows', 64, { activity: 'filtering.judge' });
 */
export function add<Name extends Named<'counter'>>(name: Name, value: number, labels: LabelsOf<Name>): void {
  const whole = Math.round(value);
  if (whole > 0) instrumentOf(name)(whole, labels);
}

/** Sets a gauge. A value that is no number is not told. */
export function set<Name extends Named<'gauge'>>(name: Name, value: number, labels: LabelsOf<Name>): void {
  if (Number.isFinite(value)) instrumentOf(name)(value, labels);
}

/** Takes one value of a histogram. */
export function observe<Name extends Named<'histogram'>>(name: Name, value: number, labels: LabelsOf<Name>): void {
  if (value >= 0) instrumentOf(name)(value, labels);
}

/** Where no worker runs, as in a test of a stage's logic, nothing is counted. */
const nothing: Instrument = () => undefined;

function instrumentOf(key: keyof Table): Instrument {
  if (!meter) return nothing;
  const known = instruments.get(key);
  if (known) return known;
  const made = instrument(meter, METRICS[key]);
  instruments.set(key, made);
  return made;
}

function instrument(of: Meter, { kind, name, unit, about }: Metric): Instrument {
  switch (kind) {
    case 'counter': {
      const counter = of.createCounter(name, unit, about);
      return (value, labels) => counter.add(value, labels);
    }
    case 'gauge': {
      const gauge = of.createGauge(name, 'float', unit, about);
      return (value, labels) => gauge.set(value, labels);
    }
    case 'histogram': {
      const histogram = of.createHistogram(name, 'float', unit, about);
      return (value, labels) => histogram.record(value, labels);
    }
  }
}
