/**
 * A data set that a schedule refreshes every night, for as many nights as one likes: the real workflows in virtual
 * time. Endpoints are away for whole nights, workers die, answers are lost, and nights fail. The schedule is that of
 * `docs/how-to/nightly-dataset.md`: overlapping nights are skipped, and an execution timeout ends a night that hangs.
 */
import { objectKeys, sha256, stageKey } from '../../activities/artifacts/keys.js';
import { canonicalJson, type ArtifactRef, type StageName } from '../../workflows/contract/index.js';
import { SimulatedActivities } from './activities.js';
import { Random } from './random.js';
import { ActivityFails, NO_FAULTS, Server, type Attempt, type Faults } from './server.js';
import type { WorkflowCode } from './workflow-vm.js';

const HOUR_MS = 3_600_000;
const NIGHT_MS = 24 * HOUR_MS;
/** As the how-to says. */
const EXECUTION_TIMEOUT_MS = 20 * HOUR_MS;
const SHARDS = 2;
/** Seeds that may come in a day; on some days none comes. */
const MOST_NEW_SEEDS = 4;
/** How many nights hang: no request of theirs is ever answered. */
const HUNG_SHARE = 0.05;
/** How many nights somebody starts a refresh by hand, while that of the schedule runs and more seeds have come. */
const BY_HAND_SHARE = 0.1;
const BY_HAND_AFTER_MS = [2_000, 12_000] as const;
const FAULTS: Faults = {
  ...NO_FAULTS,
  crash: 0.03,
  lost: 0.03,
  zombie: 0.03,
  slow: 0.03,
  retried: 0.05,
  final: 0.01,
  evict: 0.05,
};

/** What must show: each breaks one thing that the refresh rests on. */
export type NightBug =
  /** Nobody ends a night that hangs. */
  | 'noTimeout'
  /** A version is written over the one that another refresh has written meanwhile. */
  | 'versionOverwritten'
  /** A night that failed is taken to have seen its seeds. */
  | 'failedNightSeen'
  /** Replies are not stored. */
  | 'repliesForgotten';

/** What the nights came to. */
export interface Nights {
  nights: number;
  versions: number;
  failed: number;
  /** Nights that an execution timeout has ended. */
  hung: number;
  /** Nights that did not start because the one before went on. */
  skipped: number;
  /** Seeds that came, and replies that were asked for. */
  seeds: number;
  asked: number;
  happened: Record<string, number>;
  runs: number;
  largestBytes: number;
  totalBytes: number;
  /** What must not be. Empty: all is well. */
  violations: string[];
}

interface Version {
  version: number;
  dataset: ArtifactRef;
  seeds: ArtifactRef;
  previous?: string;
  added: number;
  total: number;
  difference: { added: number; changed: number; dropped: Record<string, number>; statistics: Record<string, never> };
}

interface PublishInput {
  name: string;
  previous?: Version;
  seeds: ArtifactRef;
  fresh: ArtifactRef;
  questions: ArtifactRef;
}

/** The activities of a refresh by their contract; those of its stages are those of every simulation. */
class NightActivities {
  /** The file of seeds as it is now. */
  readonly seeds: string[] = [];
  /** Nights whose requests are never answered. */
  readonly hanging = new Set<string>();
  readonly versions = new Map<number, Version>();
  /** How often each seed was asked about. */
  readonly asked = new Map<string, number>();
  readonly #replies = new Set<string>();
  /** Seeds of artifacts, and of stages by their keys. */
  readonly #seedsOf = new Map<string, string[]>();
  readonly #everSeen = new Set<string>();
  readonly #stages = new SimulatedActivities((_stage: StageName) => SHARDS);

  constructor(private readonly bugs: ReadonlySet<NightBug>) {}

  run(attempt: Attempt): unknown {
    const { name, input, share } = attempt;
    switch (name) {
      case 'artifacts.import':
        return share < 1 ? undefined : { ref: this.#seedsArtifact(this.seeds) };
      case 'datasetRefresh.plan':
        return share < 1 ? undefined : this.#plan(input as { seeds: ArtifactRef });
      case 'datasetRefresh.publish':
        return share < 1 ? undefined : this.#publish(input as PublishInput);
      case 'synthesis.request':
        this.#ask(attempt);
        return this.#stages.run(attempt);
      case 'synthesis.plan': {
        const planned = this.#stages.run(attempt) as { stageKey: string } | undefined;
        const { seeds } = (input as { inputs: { seeds: ArtifactRef } }).inputs;
        if (planned) this.#seedsOf.set(planned.stageKey, this.#seedsOf.get(seeds.key)!);
        return planned;
      }
      default:
        return this.#stages.run(attempt);
    }
  }

  /** Seeds of an artifact. */
  seedsIn({ key }: ArtifactRef): readonly string[] {
    return this.#seedsOf.get(key) ?? [];
  }

  #seedsArtifact(seeds: readonly string[]): ArtifactRef {
    const recipe = { stage: 'import', version: 1, kind: 'seeds' as const, semantics: { seeds }, inputs: {} };
    const key = objectKeys.manifest('seeds', stageKey(recipe));
    this.#seedsOf.set(key, [...seeds]);
    return { kind: 'seeds', key, digest: sha256(canonicalJson(seeds)), rows: seeds.length, bytes: 100 * seeds.length };
  }

  #plan({ seeds }: { seeds: ArtifactRef }): { previous?: Version; fresh?: ArtifactRef } {
    const newest = this.versions.get(this.versions.size);
    const known = new Set([...this.versions.values()].flatMap((version) => this.#seedsOf.get(version.seeds.key)!));
    const seen = this.bugs.has('failedNightSeen') ? this.#everSeen : known;
    const fresh = this.#seedsOf.get(seeds.key)!.filter((seed) => !seen.has(seed));
    for (const seed of fresh) this.#everSeen.add(seed);
    const previous = newest ? { previous: newest } : {};
    return fresh.length === 0 ? previous : { ...previous, fresh: this.#seedsArtifact(fresh) };
  }

  #ask({ input, share, workflowId }: Attempt): void {
    const { stageKey: key, shard } = input as { stageKey: string; shard: number };
    if (this.hanging.has(workflowId.split('/')[0]!)) throw new ActivityFails('Stalled', 'no request is answered');
    const seeds = this.#seedsOf.get(key)!.filter((_, index) => index % SHARDS === shard);
    for (const seed of seeds.slice(0, Math.floor(share * seeds.length))) {
      if (this.#replies.has(seed)) continue;
      this.asked.set(seed, (this.asked.get(seed) ?? 0) + 1);
      if (!this.bugs.has('repliesForgotten')) this.#replies.add(seed);
    }
  }

  #publish({ previous, seeds, fresh, questions }: PublishInput): Version {
    const number = (previous?.version ?? 0) + 1;
    const digest = sha256(canonicalJson([previous?.dataset.digest ?? '', questions.digest, seeds.digest]));
    const added = this.#seedsOf.get(fresh.key)!.length;
    const total = (previous?.total ?? 0) + added;
    const key = objectKeys.manifest('dataset', digest);
    const version: Version = {
      version: number,
      dataset: { kind: 'dataset', key, digest, rows: total, bytes: 1000 * total },
      seeds,
      ...(previous ? { previous: previous.dataset.digest } : {}),
      added,
      total,
      difference: { added, changed: 0, dropped: {}, statistics: {} },
    };
    if (!this.versions.has(number) || this.bugs.has('versionOverwritten')) this.versions.set(number, version);
    const published = this.versions.get(number)!;
    if (published.dataset.digest !== digest)
      throw new ActivityFails('InvalidExperiment', `another refresh published version ${number} meanwhile`);
    return published;
  }
}

const INPUT = {
  name: 'nightly',
  seeds: { kind: 'seeds', path: '/data/seeds.jsonl' },
  synthesis: {
    teacher: { kind: 'openai', model: 'teacher' },
    execution: { endpoint: { baseUrl: 'http://127.0.0.1:1/v1', keyVariable: null, prices: { input: 0, output: 0 } } },
  },
};

/** Runs so many nights. The last two have no faults, so that what was missed is caught up with. */
export async function simulateNights(
  code: WorkflowCode,
  nights: number,
  seed: number,
  bugs: ReadonlySet<NightBug> = new Set(),
): Promise<Nights> {
  const activities = new NightActivities(bugs);
  const faults = { ...FAULTS };
  const server = new Server(code, seed, (attempt) => activities.run(attempt), faults);
  const random = new Random(seed, 99);
  const ids: string[] = [];
  let [skipped, hung] = [0, 0];
  const startOf = (night: number): void => {
    const isCalm = night >= nights - 2;
    if (isCalm) Object.assign(faults, NO_FAULTS);
    const comes = night === 0 ? MOST_NEW_SEEDS : random.int(0, MOST_NEW_SEEDS);
    for (let index = 0; index < comes; index += 1) activities.seeds.push(`own/${night}-${index}`);
    const hangs = !isCalm && random.chance(HUNG_SHARE);
    const before = ids.at(-1);
    if (before !== undefined && server.isOpen(before)) {
      skipped += 1;
      return;
    }
    const id = `refresh-${String(night).padStart(4, '0')}`;
    ids.push(id);
    if (hangs) activities.hanging.add(id);
    server.start('datasetRefresh', id, [INPUT]);
    if (!isCalm && random.chance(BY_HAND_SHARE))
      server.timeline.after(random.int(...BY_HAND_AFTER_MS), () => {
        activities.seeds.push(`own/${night}-by-hand`);
        server.start('datasetRefresh', `by-hand-${night}`, [INPUT]);
      });
    server.timeline.after(EXECUTION_TIMEOUT_MS, async () => {
      if (!server.isOpen(id) || bugs.has('noTimeout')) return;
      hung += 1;
      await server.terminate(id);
    });
  };
  for (let night = 0; night < nights; night += 1) server.timeline.after(night * NIGHT_MS, () => startOf(night));
  // Something that nobody ends goes on for ever: a week after the last night is enough.
  let isOver = false;
  server.timeline.after((nights + 7) * NIGHT_MS, () => {
    isOver = true;
  });
  await server.run(() => isOver, 40_000 * nights);
  await server.close();

  const outcomes = ids.map((id) => server.outcomes.get(id)?.how);
  const violations = ids.flatMap((id, index) => (outcomes[index] ? [] : [`${id} has no end`]));
  if (skipped > 0) violations.push(`${skipped} nights did not start`);
  violations.push(...violationsOf(activities));
  for (const [id, outcome] of server.outcomes) {
    // A night without new seeds tells of the newest version that there was.
    const { version, dataset } = (outcome.how === 'completed' ? outcome.result : {}) as Partial<Version>;
    if (!dataset || version === undefined || dataset.kind !== 'dataset') continue;
    if (activities.versions.get(version)?.dataset.digest !== dataset.digest)
      violations.push(`version ${version} is no longer what ${id} published`);
  }
  return {
    nights: ids.length + skipped,
    versions: activities.versions.size,
    failed: outcomes.filter((how) => how === 'failed').length,
    hung,
    skipped,
    seeds: activities.seeds.length,
    asked: [...activities.asked.values()].reduce((sum, times) => sum + times, 0),
    happened: Object.fromEntries(server.happened),
    runs: server.closed.length,
    largestBytes: Math.max(...server.closed.map(({ bytes }) => bytes)),
    totalBytes: server.closed.reduce((sum, { bytes }) => sum + bytes, 0),
    violations,
  };
}

/** What is wrong with the versions, and with what was asked for. */
function violationsOf(activities: NightActivities): string[] {
  const violations: string[] = [];
  const versions = [...activities.versions.values()].sort((a, b) => a.version - b.version);
  const seen = new Set<string>();
  versions.forEach(({ version, previous, total, seeds }, index) => {
    const before = versions[index - 1];
    if (version !== index + 1) violations.push(`version ${version} is number ${index + 1}`);
    if (previous !== before?.dataset.digest) violations.push(`version ${version} does not follow the one before`);
    for (const seed of activities.seedsIn(seeds)) seen.add(seed);
    if (total !== seen.size) violations.push(`version ${version} holds ${total} questions of ${seen.size} seeds`);
  });
  const missed = activities.seeds.filter((seed) => !seen.has(seed));
  if (missed.length > 0) violations.push(`${missed.length} seeds are in no version, such as ${missed[0]}`);
  for (const [seed, times] of activities.asked)
    if (times > 1) violations.push(`${seed} was asked about ${times} times`);
  return violations;
}
