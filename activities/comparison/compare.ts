/**
 * Experiments side by side: what differs in their settings, which stages they share, what the same tasks say about
 * their policies, and where no verdict can be given. Pure. Callers: the command `compare` and the workflow of that
 * name.
 *
 * The first side is what the others are compared with.
 */
import {
  canonicalJson,
  POLICIES,
  STAGES,
  type ArtifactRef,
  type Comparison,
  type EvaluationResult,
  type EvaluationRow,
  type Manifest,
  type Summary,
} from '../../workflows/contract/index.js';
import { adjusted, compareParts, comparePolicies, type FigureRow, type SuspectsOf } from '../evaluation/figures.js';

/** What a verdict reads of an answer; questions are digests, so that many sides fit in memory. */
export type ComparedRow = FigureRow & { question: string } & Pick<EvaluationRow, 'harness'>;

/** One experiment, or one evaluation. */
export interface Side {
  /** Workflow id, or key of the evaluation. */
  name: string;
  /** Its artifacts, by stage. */
  artifacts: Readonly<Record<string, ArtifactRef>>;
  /** Their manifests, by stage. */
  manifests: Readonly<Record<string, Manifest>>;
  /** Absent where the experiment has no report. */
  summary?: Summary | undefined;
  /** Figures of its evaluation. */
  results: readonly EvaluationResult[];
  rows: readonly ComparedRow[];
  /** Tasks of a benchmark that questions of its training repeat; undefined where nobody looked. */
  suspectsOf: SuspectsOf;
}

/** A setting with its value on each side; undefined where the side has none. */
interface Difference {
  stage: string;
  setting: string;
  values: (string | undefined)[];
}

/** A comparison of one side with the first one, or why there is none. */
export type Verdict = { side: string; policies: [string, string] } & (
  { comparison: Comparison; refused?: undefined } | { benchmark: string; refused: string; comparison?: undefined }
);

export interface ComparisonReport {
  sides: {
    name: string;
    /** The policy that is compared. */
    policy: string;
    state: string;
    /** Seconds that the stages took, reused ones included. */
    seconds: number;
    costUsd: number | null;
    figures: EvaluationResult[];
    /** Mean reward by round. */
    rewards: { round: number; reward: number }[];
  }[];
  verdicts: Verdict[];
  differences: Difference[];
  /** Stages with the sides that have the same artifact; sides that have it alone are left out. */
  shared: { stage: string; key: string; sides: string[] }[];
}

/**
 * Compares sides with the first one.
 *
 * @param policy Which policy of each side; absent: the last one that was trained, or the only one.
 * @throws RangeError for fewer than two sides, or a policy that a side does not have.
 */
export function compareSides(
  sides: readonly Side[],
  { policy }: { policy?: string | undefined } = {},
): ComparisonReport {
  if (sides.length < 2) throw new RangeError(`a comparison needs at least two sides, not ${sides.length}`);
  const chosen = sides.map((side) => policyOf(side, policy));
  return {
    sides: sides.map((side, at) => ({
      name: side.name,
      policy: chosen[at]!,
      state: side.summary?.state ?? 'evaluation',
      seconds: Object.values(side.manifests).reduce((sum, { seconds }) => sum + seconds, 0),
      costUsd: side.summary?.cost.amount ?? null,
      figures: side.results.filter((result) => result.policy === chosen[at]),
      rewards: (side.summary?.reinforcement.rounds ?? []).map(({ round, reward }) => ({ round, reward })),
    })),
    verdicts: verdictsOf(sides, chosen),
    differences: differencesOf(sides),
    shared: sharedBy(sides),
  };
}

/** The policies of a side, in the order in which a chain trains them. */
function policiesOf({ results }: Pick<Side, 'results'>): string[] {
  const order: readonly string[] = [POLICIES.before, POLICIES.fineTuned, POLICIES.after];
  return [...new Set(results.map(({ policy }) => policy))].sort((a, b) => order.indexOf(a) - order.indexOf(b));
}

function policyOf(side: Side, wanted: string | undefined): string {
  const policies = policiesOf(side);
  const trained: readonly string[] = Object.values(POLICIES);
  if (wanted !== undefined) {
    if (policies.includes(wanted)) return wanted;
    throw new RangeError(`${side.name} has no policy ${wanted}; it has ${policies.join(', ') || 'none'}`);
  }
  const last = policies.at(-1);
  if (last === undefined) throw new RangeError(`${side.name} has no figures: its evaluation asked nothing`);
  if (policies.length === 1 || trained.includes(last)) return last;
  throw new RangeError(`${side.name} has the policies ${policies.join(', ')}; name the one that is compared`);
}

function verdictsOf(sides: readonly Side[], policies: readonly string[]): Verdict[] {
  const [first, ...others] = sides as [Side, ...Side[]];
  const verdicts = others.flatMap((side, at): Verdict[] => {
    const chosen: [string, string] = [policies[0]!, policies[at + 1]!];
    const benchmarks = [first, side].map(({ results }, of) =>
      results.filter(({ policy }) => policy === chosen[of]).map(({ benchmark }) => benchmark),
    );
    const all = [...new Set(benchmarks.flat())];
    return all.map((benchmark): Verdict => {
      const about = { side: side.name, policies: chosen };
      const missing = [first, side].find((_, of) => !benchmarks[of]!.includes(benchmark));
      if (missing) return { ...about, benchmark, refused: `${missing.name} was not asked ${benchmark}` };
      const [before, after] = [first, side].map(({ rows }, of) =>
        rows.filter((row) => row.benchmark === benchmark && row.policy === chosen[of]),
      ) as [ComparedRow[], ComparedRow[]];
      const refused = whyNot(before, after) ?? differingConditions(first, side, benchmark, chosen);
      if (refused !== undefined) return { ...about, benchmark, refused };
      const whole = comparePolicies(before, after);
      const [own, others] = [first.suspectsOf(benchmark), side.suspectsOf(benchmark)];
      // A task is clean where neither training saw it.
      const suspects = own && others && new Set([...own, ...others]);
      return { ...about, comparison: suspects ? { ...whole, ...compareParts(before, after, suspects) } : whole };
    });
  });
  const compared = adjusted(verdicts.flatMap(({ comparison }) => comparison ?? []));
  let next = 0;
  return verdicts.map((verdict) =>
    verdict.comparison ? { ...verdict, comparison: { ...compared[next++]!, ...namesOf(verdict, sides) } } : verdict,
  );
}

/** Two policies of one name are told apart by their experiment. */
function namesOf({ side, policies }: Verdict, sides: readonly Side[]): Pick<Comparison, 'before' | 'after'> {
  return { before: `${sides[0]!.name} ${policies[0]}`, after: `${side} ${policies[1]}` };
}

/** Why rows cannot be compared task by task. */
function whyNot(before: readonly ComparedRow[], after: readonly ComparedRow[]): string | undefined {
  const questions = new Map(before.map(({ taskId, question }) => [taskId, question]));
  const common = after.filter(({ taskId }) => questions.has(taskId));
  if (common.length === 0) return 'no task of one was asked of the other: the slices or the held-out questions differ';
  const other = common.find(({ taskId, question }) => questions.get(taskId) !== question);
  if (other) return `task ${other.taskId} asks something else: the versions of the benchmark differ`;
  const harnesses = new Set([...before, ...after].map(({ harness }) => canonicalJson(harness ?? null)));
  return harnesses.size > 1
    ? `verdicts were made by different harnesses: ${[...harnesses].join(' and ')}; judge one of them again (reverify)`
    : undefined;
}

/** Conditions under which answers came about, where they differ. Temperature does not change a greedy answer. */
function differingConditions(
  first: Side,
  side: Side,
  benchmark: string,
  policies: readonly [string, string],
): string | undefined {
  const [was, is] = [first, side].map(({ results }, at) =>
    results.find((result) => result.benchmark === benchmark && result.policy === policies[at]),
  ) as [EvaluationResult, EvaluationResult];
  if (!was.conditions || !is.conditions) return undefined;
  const isGreedy = was.greedy !== null && is.greedy !== null;
  const names = ['maxNewTokens', 'prompt', ...(isGreedy ? [] : (['temperature', 'topP'] as const))] as const;
  const differing = names.filter((name) => was.conditions![name] !== is.conditions![name]);
  if (differing.length === 0) return undefined;
  return `the answers came about differently: ${differing
    .map((name) => `${name} ${was.conditions![name]} and ${is.conditions![name]}`)
    .join(', ')}`;
}

function differencesOf(sides: readonly Side[]): Difference[] {
  return STAGES.flatMap((stage) => {
    const settings = sides.map(({ manifests }) => new Map(settingsOf(manifests[stage]?.config)));
    const names = [...new Set(settings.flatMap((of) => [...of.keys()]))];
    return names
      .map((setting): Difference => ({ stage, setting, values: settings.map((of) => of.get(setting)) }))
      .filter(({ values }) => new Set(values).size > 1);
  });
}

/** Settings by their paths, as JSON; lists are values. */
function settingsOf(config: unknown, path = ''): [string, string][] {
  if (config === undefined) return [];
  if (typeof config !== 'object' || config === null || Array.isArray(config)) return [[path, canonicalJson(config)]];
  return Object.entries(config).flatMap(([name, value]) => settingsOf(value, path === '' ? name : `${path}.${name}`));
}

function sharedBy(sides: readonly Side[]): ComparisonReport['shared'] {
  return STAGES.flatMap((stage) => {
    const byKey = new Map<string, string[]>();
    for (const { name, artifacts } of sides) {
      const key = artifacts[stage]?.key;
      if (key !== undefined) byKey.set(key, [...(byKey.get(key) ?? []), name]);
    }
    return [...byKey].filter(([, names]) => names.length > 1).map(([key, names]) => ({ stage, key, sides: names }));
  });
}
