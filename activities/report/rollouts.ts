/**
 * What a report reads of RL rounds, so that its questions have the rollouts of their first round and of their last.
 *
 * A question may be in any round. Rows of rewards are small, so those of all rounds say where each question is. Rows of
 * rollouts hold token ids, so only rounds that are shown are read.
 */
import { z } from 'zod';
import {
  ArtifactRef,
  RewardConfig,
  type Manifest,
  type RewardRow,
  type RolloutRow,
  type VerdictRow,
} from '../../workflows/contract/index.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { ScoreScale } from '../policy/score.js';
import { rewardParts, type RewardParts, type RewardRule } from '../reinforcement/rewards.js';
import type { Manifests } from './summarise.js';

type Rule = Omit<RewardRule, 'dropDegenerateGroups'>;

/** A round with the artifacts that its rows are read from. */
export interface RoundSource {
  round: number;
  plan: ArtifactRef | undefined;
  rollouts: ArtifactRef;
  rewards: ArtifactRef;
  /** Absent where the reward asks for no tests. */
  verdicts: ArtifactRef | undefined;
  /** How rewards come about; absent where the artifacts do not say it in full. */
  rule: Rule | undefined;
}

/** Members of a round's reward settings that its parts follow from. The limit of tokens is there where it decides. */
const Settings = z.object({ reward: RewardConfig, rewardClip: z.number(), maxNewTokens: z.number().default(Infinity) });

/**
 * The rounds of a report, oldest first. `manifests` has those of the policies, of their rollouts and of their rewards.
 *
 * @throws StageFailure where the store does not hold the reward model that gave the scores.
 */
export async function roundSources(
  store: Pick<ArtifactStore, 'manifest'>,
  policies: readonly ArtifactRef[],
  manifests: Manifests,
): Promise<RoundSource[]> {
  const sources: RoundSource[] = [];
  for (const { key } of policies) {
    const { config, inputs } = manifests.get(key)!;
    const { round } = z.object({ round: z.number() }).parse(config);
    const { rollouts, rewards } = z.object({ rollouts: ArtifactRef, rewards: ArtifactRef }).parse(inputs);
    const made = manifests.get(rewards.key)!;
    sources.push({
      round,
      rollouts,
      rewards,
      plan: inputIn(manifests.get(rollouts.key)!, 'plan'),
      verdicts: inputIn(made, 'verdicts'),
      rule: await ruleOf(store, made, manifests),
    });
  }
  return sources;
}

async function ruleOf(
  store: Pick<ArtifactStore, 'manifest'>,
  rewards: Manifest,
  manifests: Manifests,
): Promise<Rule | undefined> {
  const settings = Settings.safeParse(rewards.config);
  if (!settings.success) return undefined;
  const ref = inputIn(rewards, 'rewardModel');
  const model = ref && (manifests.get(ref.key) ?? (await store.manifest(ref)));
  const scale = z.object({ scale: ScoreScale }).safeParse(model?.metrics).data?.scale;
  return settings.data.reward.rewardModelWeight > 0 && !scale ? undefined : { ...settings.data, scale };
}

function inputIn({ inputs }: Manifest, name: string): ArtifactRef | undefined {
  return ArtifactRef.safeParse(inputs[name]).data;
}

/** The first and the last round in which each question is. */
export class Ends {
  readonly #ends = new Map<string, { first: number; last: number }>();

  /** Takes a question of a round; rounds come in their order. */
  add(questionId: string, round: number): void {
    const known = this.#ends.get(questionId);
    if (known) known.last = round;
    else this.#ends.set(questionId, { first: round, last: round });
  }

  /** Whether a round is the first or the last one of a question. */
  has(questionId: string, round: number): boolean {
    const { first, last } = this.#ends.get(questionId) ?? {};
    return round === first || round === last;
  }

  /** The first round of a question. */
  first(questionId: string): number | undefined {
    return this.#ends.get(questionId)?.first;
  }

  /** The rounds that are an end of some question. */
  rounds(): Set<number> {
    return new Set([...this.#ends.values()].flatMap(({ first, last }) => [first, last]));
  }
}

/** A rollout with what became of it. */
export interface RewardedRollout extends Pick<RolloutRow, 'text' | 'finish'> {
  outcomes: VerdictRow['outcomes'];
  /** Absent where the rollout was left out of training, for the reason in `dropped`. */
  reward: number | undefined;
  dropped: RewardRow['dropped'];
  passRate: number | undefined;
  /** Raw score of the reward model. */
  score: number | undefined;
  parts: RewardParts | undefined;
}

/**
 * A rollout together with its reward and its verdicts.
 *
 * @example
 * rewarded(rollout, rewards.get(rollout.id), verdicts.get(rollout.id), source.rule).parts;
 */
export function rewarded(
  { text, finish, completionIds }: RolloutRow,
  row: RewardRow | undefined,
  verdict: VerdictRow | undefined,
  rule: Rule | undefined,
): RewardedRollout {
  const { reward, dropped, passRate, weightedPassRate, earned, separated, score } = row ?? {};
  return {
    text,
    finish,
    outcomes: verdict?.outcomes ?? [],
    reward,
    dropped,
    passRate,
    score,
    parts:
      rule &&
      rewardParts(
        {
          completionTokens: completionIds.length,
          truncated: finish === 'length',
          passRate,
          weightedPassRate,
          earned,
          separated,
          score,
        },
        rule,
      ),
  };
}

/** What the rollouts of a question came to in one round. */
export interface RoundOfQuestion {
  round: number;
  samples: number;
  /** Mean share of the tests that they pass; absent where none was judged. */
  rate?: number;
  /** Mean reward of those that were trained on. */
  reward?: number;
}

/** The rollouts of one question in one round, together. */
export function roundOfQuestion(round: number, rollouts: readonly RewardedRollout[]): RoundOfQuestion {
  const rate = meanOf(rollouts.map(({ passRate }) => passRate));
  const reward = meanOf(rollouts.map((rollout) => rollout.reward));
  return {
    round,
    samples: rollouts.length,
    ...(rate === undefined ? {} : { rate: Number(rate.toFixed(4)) }),
    ...(reward === undefined ? {} : { reward: Number(reward.toFixed(4)) }),
  };
}

function meanOf(values: readonly (number | undefined)[]): number | undefined {
  const known = values.filter((value) => value !== undefined);
  return known.length === 0 ? undefined : known.reduce((sum, value) => sum + value, 0) / known.length;
}
