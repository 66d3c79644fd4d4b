/** `npm run lab -- --only noise`: what systematic false positives cost, and what corrections win back. */
import type { JudgedRollout, RewardRule, VerifierRates } from '../../activities/reinforcement/rewards.js';
import { Random } from '../../activities/statistics/random.js';
import { ReinforcementConfig } from '../../workflows/contract/index.js';
import type { Measure } from '../bench/table.js';
import { answerOf, sampled, scoresOf, TabularPolicy, trainRound, type Judged, type World } from './tabular.js';

const { promptsPerRound, samplesPerPrompt } = ReinforcementConfig.parse({});
const ROUNDS = 96;
const SEEDS = [1, 2, 3];
/** Little carries over to other questions: where much does, false positives of a few questions cost nearly nothing. */
const SPEED = { shared: 0.1, own: 0.6 };
const BETA = 0.01;
/** Shares of the first policy. */
const SHARES = { right: 0.25, frequentWrong: 0.5 };
/** Deviation of the modelled reward model's error: it orders 98 % of the pairs right, as the laboratory's best recipe. */
const SCORE_ERROR = 0.69;
/** Share of the wrong answers that pass all tests of their question. */
const FALSE_POSITIVES = 0.2;
/** Tests of a question that are left where one of its wrong answers passes all. */
const LEAST_TESTS = 3;

/** The design that the bar is for. */
const BEST = 'reward model where tests do not separate';

/** Rewards by what corrects them. */
const DESIGNS: Record<string, Partial<RewardRule['reward']>> = {
  plain: {},
  'backward correction': { verifier: { correction: 'backward' } },
  'forward correction': { verifier: { correction: 'forward' } },
  informedness: { verifier: { correction: 'informedness' } },
  'minimumJ 0.9': { verifier: { minimumJ: 0.9 } },
  [BEST]: { rewardModelWeight: 0.3, rewardModelWhere: 'unseparated' },
};

/**
 * Questions with the tests of their whole domain, and the same with weak tests: of one wrong answer to a question, all
 * tests that it fails are left out, until so large a share of all wrong answers passes.
 */
function worldsOf(judged: readonly Judged[], seed: number): { clean: World; noisy: World } {
  const random = new Random(seed);
  const all = judged[0]!.tests.map((_, at) => at);
  let left = Math.round(FALSE_POSITIVES * judged.reduce((sum, { wrong }) => sum + wrong.length, 0));
  const weak = new Map<string, number[]>();
  for (const { id, wrong } of random.shuffle(judged)) {
    const held = random
      .shuffle(wrong)
      .map(({ passed }) => all.filter((place) => passed[place]))
      .find(({ length }) => length >= LEAST_TESTS && length < all.length);
    if (!held || left <= 0) continue;
    weak.set(id, held);
    left -= wrong.filter(({ passed }) => held.every((place) => passed[place])).length;
  }
  const of = (placesOf: (id: string) => readonly number[]): World => ({
    questions: judged.map(({ id, tests, right, wrong }) => {
      const places = placesOf(id);
      return {
        id,
        tests: places.map((place) => tests[place]!),
        answers: [
          answerOf(right, { kind: 'right', share: SHARES.right, places }),
          ...wrong.map((run, at) =>
            answerOf(run, {
              kind: `wrong ${at}`,
              share: at === 0 ? SHARES.frequentWrong : (1 - SHARES.right - SHARES.frequentWrong) / (wrong.length - 1),
              places,
            }),
          ),
        ],
      };
    }),
  });
  return { clean: of(() => all), noisy: of((id) => weak.get(id) ?? all) };
}

/** Rates of the tests of each question on its own answers, of which the truth is known. */
function ratesOf({ questions }: World): Map<string, VerifierRates> {
  return new Map(
    questions.map(({ id, answers }) => {
      const share = (of: boolean): number => {
        const own = answers.filter(({ right }) => right === of);
        return own.filter(({ passed }) => passed.every(Boolean)).length / own.length;
      };
      return [id, { truePositive: share(true), falsePositive: share(false) }];
    }),
  );
}

/** True pass@1 after RL, on the train questions. */
function trained(world: World, reward: Partial<RewardRule['reward']>, seed: number): number {
  const random = new Random(seed);
  const rates = ratesOf(world);
  const rule: RewardRule = {
    reward: { testsWeight: 1, tests: 'allPass', rewardModelWeight: 0, ...reward },
    ...{ rewardClip: 10, dropDegenerateGroups: false, maxNewTokens: 1024, scale: { mean: 0, std: 1.2 } },
  };
  const scores = scoresOf(world, { seed, error: SCORE_ERROR });
  const [policy, first] = [new TabularPolicy(world), new TabularPolicy(world)];
  for (let round = 1; round <= ROUNDS; round += 1) {
    const rollouts = sampled(policy, first, { questions: promptsPerRound, samples: samplesPerPrompt }, random, round);
    const judged = rollouts.map(({ id, question, answer }): JudgedRollout => {
      const { id: questionId, answers } = world.questions[question]!;
      const { passed, program } = answers[answer]!;
      const passRate = passed.filter(Boolean).length / passed.length;
      return {
        ...{ id, questionId, promptTokens: 1, completionTokens: program.length },
        ...{ passed, passRate, rates: rates.get(questionId), score: scores[question]![answer]! },
      };
    });
    trainRound(policy, rollouts, judged, rule, { beta: BETA, speed: SPEED });
  }
  return policy.right;
}

/** The measures of `--only noise`. */
export function noiseMeasures(judged: readonly Judged[], say: (line: string) => void): Measure[] {
  const losses = new Map<string, number[]>();
  const shares: number[] = [];
  const cleans: number[] = [];
  for (const seed of SEEDS) {
    const { clean, noisy } = worldsOf(judged, seed);
    const wrong = noisy.questions.flatMap(({ answers }) => answers.filter(({ right }) => !right));
    shares.push(wrong.filter(({ passed }) => passed.every(Boolean)).length / wrong.length);
    const best = trained(clean, {}, seed);
    cleans.push(best);
    for (const [name, reward] of Object.entries(DESIGNS)) {
      const loss = best - trained(noisy, reward, seed);
      losses.set(name, [...(losses.get(name) ?? []), loss]);
      say(`noise ${seed}: ${name}: loses ${loss.toFixed(3)} of ${best.toFixed(3)}`);
    }
  }
  const mean = (values: readonly number[]): number => values.reduce((sum, each) => sum + each, 0) / values.length;
  return [
    {
      name: 'wrong answers that pass all tests',
      value: mean(shares),
      unit: '',
      note: `by seed: ${shares.map((each) => each.toFixed(3)).join(' ')}`,
    },
    { name: 'true pass@1 with clean tests', value: mean(cleans), unit: '', note: `${ROUNDS} rounds; before RL 0.25` },
    ...[...losses].map(([name, values]): Measure => ({
      name: `loss of true pass@1: ${name}`,
      value: mean(values),
      unit: '',
      ...(name === 'plain' ? { bar: 0.1, at: 'least' as const } : {}),
      ...(name === BEST ? { bar: 0.02, at: 'most' as const } : {}),
      note: `by seed: ${values.map((each) => each.toFixed(3)).join(' ')}`,
    })),
  ];
}
