/** When each step of the RL rounds worked, by the manifests of its results, and how long the device waited. */
import { ArtifactRef, type Manifest, type RoundStep } from '../../workflows/contract/index.js';

/** What the time line reads of a manifest. */
type Timed = Pick<Manifest, 'inputs' | 'createdAt' | 'seconds'>;

/** Steps that work on the device. Programs run on the CPU cores meanwhile. */
const ON_DEVICE: readonly RoundStep['step'][] = ['sampling', 'scoring', 'training'];

/** Artifacts of a round, by their name among the inputs of a later artifact, with the step that makes them. */
const STEPS = [
  ['rollouts', 'sampling'],
  ['verdicts', 'judging'],
  ['scores', 'scoring'],
] as const;

/** What an artifact takes over from the draw before, where groups without signal are drawn again. */
const EARLIER = 'earlier';

/** Manifests of the rounds' results and of their inputs, by key. */
export async function manifestsOfRounds(
  policies: readonly ArtifactRef[],
  read: (ref: ArtifactRef) => Promise<Manifest>,
): Promise<Map<string, Manifest>> {
  const manifests = new Map<string, Manifest>();
  const follow = async (ref: ArtifactRef): Promise<void> => {
    if (manifests.has(ref.key)) return;
    const manifest = await read(ref);
    manifests.set(ref.key, manifest);
    for (const input of Object.values(madeOf(manifest))) await follow(input);
  };
  for (const policy of policies) await follow(policy);
  return manifests;
}

/** The inputs of a policy or its rewards that the time line needs. */
function madeOf(manifest: Pick<Manifest, 'inputs'>): Record<string, ArtifactRef> {
  return Object.fromEntries(
    ['rollouts', 'rewards', 'verdicts', 'scores', EARLIER].flatMap((name) =>
      manifest.inputs[name] ? [[name, ArtifactRef.parse(manifest.inputs[name])]] : [],
    ),
  );
}

/**
 * Steps of each round, in seconds since the first step began. `policies` are the rounds' results, oldest first;
 * `manifests` is what {@link manifestsOfRounds} gives.
 *
 * An artifact is stored when its work ends, so its work began `seconds` earlier. The artifact of another run has the
 * time at which that run made it.
 */
export function timeLine(policies: readonly ArtifactRef[], manifests: ReadonlyMap<string, Timed>): RoundStep[][] {
  const span = (step: RoundStep['step'], { createdAt, seconds }: Timed): RoundStep => {
    const to = Date.parse(createdAt) / 1000;
    return { step, from: to - seconds, to };
  };
  /** The spans of an artifact and of those that it took over from, oldest first. */
  const spans = (step: RoundStep['step'], { key }: ArtifactRef): RoundStep[] => {
    const manifest = manifests.get(key)!;
    const { [EARLIER]: earlier } = madeOf(manifest);
    return [...(earlier ? spans(step, earlier) : []), span(step, manifest)];
  };
  const rounds = policies.map(({ key }): RoundStep[] => {
    const policy = manifests.get(key)!;
    const { rewards, ...inputs } = madeOf(policy);
    const all = { ...inputs, ...(rewards ? madeOf(manifests.get(rewards.key)!) : {}) };
    return [...STEPS.flatMap(([name, step]) => (all[name] ? spans(step, all[name]) : [])), span('training', policy)];
  });
  const start = Math.min(...rounds.flat().map(({ from }) => from));
  return rounds.map((steps) => steps.map(({ step, from, to }) => ({ step, from: from - start, to: to - start })));
}

/** Share of the time between the first and the last work of the device in which it had none. */
export function deviceWaiting(rounds: readonly (readonly RoundStep[])[]): number {
  const work = rounds
    .flat()
    .filter(({ step }) => ON_DEVICE.includes(step))
    .sort((a, b) => a.from - b.from);
  if (work.length === 0) return 0;
  const start = work[0]!.from;
  let reached = start;
  let waited = 0;
  for (const { from, to } of work) {
    waited += Math.max(0, from - reached);
    reached = Math.max(reached, to);
  }
  return reached > start ? waited / (reached - start) : 0;
}
