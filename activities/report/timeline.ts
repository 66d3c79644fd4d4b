/** When each step of the RL rounds worked, read from the manifests of what it made, and how long the device waited. */
import { ArtifactRef, type Manifest, type RoundStep } from '../../workflows/contract/index.js';

/** Steps that work on the device; programs run beside it. */
const ON_DEVICE: readonly RoundStep['step'][] = ['sampling', 'scoring', 'training'];

/** Artifacts of a round by the name that the artifact made of them has for them. */
const STEPS = [
  ['rollouts', 'sampling'],
  ['verdicts', 'judging'],
  ['scores', 'scoring'],
] as const;

/** Manifests of the rounds' results and of what they were made of, by key. */
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

/** References that a policy and its rewards were made of, as far as the time line needs them. */
function madeOf(manifest: Manifest): Record<string, ArtifactRef> {
  return Object.fromEntries(
    ['rollouts', 'rewards', 'verdicts', 'scores'].flatMap((name) =>
      manifest.inputs[name] ? [[name, ArtifactRef.parse(manifest.inputs[name])]] : [],
    ),
  );
}

/**
 * Steps of each round, in seconds since the first one began; `policies` are the rounds' results, oldest first, and
 * `manifests` holds theirs and those that they were made of, by key.
 *
 * An artifact is stored when it is made: its work began that much earlier as it took. What another run made stands where
 * that run made it.
 */
export function timeLine(policies: readonly ArtifactRef[], manifests: ReadonlyMap<string, Manifest>): RoundStep[][] {
  const span = (step: RoundStep['step'], { createdAt, seconds }: Manifest): RoundStep => {
    const to = Date.parse(createdAt) / 1000;
    return { step, from: to - seconds, to };
  };
  const rounds = policies.map(({ key }): RoundStep[] => {
    const policy = manifests.get(key)!;
    const { rewards, ...inputs } = madeOf(policy);
    const all = { ...inputs, ...(rewards ? madeOf(manifests.get(rewards.key)!) : {}) };
    return [
      ...STEPS.flatMap(([name, step]) => (all[name] ? [span(step, manifests.get(all[name].key)!)] : [])),
      span('training', policy),
    ];
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
