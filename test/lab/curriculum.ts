/** `npm run lab -- --only curriculum`: what rounds save that choose their questions, next to rounds that ask all alike. */
import { sha256 } from '../../activities/artifacts/keys.js';
import {
  countedPrograms,
  drawn,
  faded,
  knownAtFirst,
  learned,
  withoutSignal,
} from '../../activities/reinforcement/curriculum.js';
import { rewardRollouts, type JudgedRollout, type RewardRule } from '../../activities/reinforcement/rewards.js';
import { Random } from '../../activities/statistics/random.js';
import { Curriculum, ReinforcementConfig } from '../../workflows/contract/index.js';
import type { Measure } from '../bench/table.js';
import type { Family } from './questions.js';
import {
  answerOf,
  rolloutsOf,
  TabularPolicy,
  trainRound,
  type Judged,
  type TableRollout,
  type World,
} from './tabular.js';

const { samplesPerPrompt: SAMPLES } = ReinforcementConfig.parse({});
/** A round asks a sixth of the questions. With the default of 256 of 400 no choice would be left. */
const PROMPTS = 64;
const ROUNDS = 96;
const SEEDS = [1, 2, 3];
const BETA = 0.01;
/** As in the part about noise: most of what is learnt is about one question. */
const SPEED = { shared: 0.1, own: 0.6 };
/** Programs of the sampling stage for each question. */
const SAMPLED = 16;
/**
 * How difficulties differ. `spread`: the log-odds of the right answer are normal over the questions, so that some are
 * nearly always solved and others never. `alike`: the right answer has 0.24 or 0.46, as in the chain of the laboratory.
 */
type Kind = 'spread' | 'alike';
const LOG_ODDS = { mean: -1, deviation: 2 };
const ALIKE = [0.24, 0.46] as const;

/** Over what rewards are normalised: the rollouts of their question, as GRPO does, or the round, as REINFORCE++ does. */
type Baseline = 'group' | 'round';

const SETTINGS = [
  ['spread', 'group'],
  ['spread', 'round'],
  ['alike', 'group'],
] as const satisfies readonly (readonly [Kind, Baseline])[];

/** The design, the world and the baseline that the bar is for. */
const BEST = { design: 'headroom', world: 'spread', baseline: 'group' };

/** What a curriculum may be; `undefined` asks all questions in turn. */
const DESIGNS: Record<string, object | undefined> = {
  uniform: undefined,
  signal: { rule: 'signal' },
  learnability: { rule: 'learnability' },
  headroom: { rule: 'headroom' },
  'headroom, redraw': { rule: 'headroom', redraw: {} },
};

const RULE: RewardRule = {
  reward: { testsWeight: 1, tests: 'allPass', rewardModelWeight: 0 },
  ...{ rewardClip: 10, dropDegenerateGroups: false, maxNewTokens: 1024 },
};

function worldOf(judged: readonly Judged[], kind: Kind, seed: number): World {
  const random = new Random(seed);
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  return {
    questions: judged.map(({ id, tests, right, wrong }) => {
      const places = tests.map((_, at) => at);
      const share =
        kind === 'alike' ? random.pick(ALIKE) : 1 / (1 + Math.exp(-(LOG_ODDS.mean + LOG_ODDS.deviation * normal())));
      return {
        ...{ id, tests },
        answers: [
          answerOf(right, { kind: 'right', share, places }),
          ...wrong.map((run, at) => answerOf(run, { kind: `wrong ${at}`, share: (1 - share) / wrong.length, places })),
        ],
      };
    }),
  };
}

/** Where a run stands after a round. */
interface Point {
  /** All rollouts so far, those of replaced groups too. */
  rollouts: number;
  right: number;
  /** Shares of groups without signal: of the first draw, and of what was trained on. */
  first: number;
  last: number;
}

/** One run, round by round, until it has sampled so many rollouts or its true pass@1 is as high as asked. */
function run(
  world: World,
  settings: object | undefined,
  { seed, baseline, rollouts, until }: { seed: number; baseline: Baseline; rollouts: number; until: number },
): Point[] {
  const random = new Random(seed);
  const curriculum = settings && Curriculum.parse(settings);
  const [policy, first] = [new TabularPolicy(world), new TabularPolicy(world)];
  const ids = world.questions.map(({ id }) => id);
  const at = new Map(ids.map((id, index) => [id, index]));
  const inTurn = [...ids].sort((a, b) => (sha256(`${seed}/${a}`) < sha256(`${seed}/${b}`) ? -1 : 1));
  const ask = (asked: readonly string[], samples: number, name: string): [TableRollout[], JudgedRollout[]] => {
    const sampled = rolloutsOf(
      policy,
      first,
      asked.map((id) => at.get(id)!),
      samples,
      random,
      name,
    );
    const judged = sampled.map(({ id, question, answer }): JudgedRollout => {
      const { id: questionId, answers } = world.questions[question]!;
      const { passed, program } = answers[answer]!;
      const passRate = passed.filter(Boolean).length / passed.length;
      return { id, questionId, promptTokens: 1, completionTokens: program.length, passed, passRate };
    });
    return [sampled, judged];
  };
  let known = curriculum ? knownAtFirst(ids, countedPrograms(ask(ids, SAMPLED, 'sampling')[1], 'allPass')) : [];
  const points: Point[] = [];
  let sum = 0;
  for (let round = 1; sum < rollouts && !(policy.right >= until); round += 1) {
    let asked = curriculum
      ? drawn(known, { rule: curriculum.rule, count: PROMPTS, samples: SAMPLES, seed: 1000 * seed + 10 * round })
      : Array.from({ length: PROMPTS }, (_, index) => inTurn[((round - 1) * PROMPTS + index) % inTurn.length]!);
    let [sampled, judged] = ask(asked, SAMPLES, `${round}`);
    sum += sampled.length;
    let without = withoutSignal(rewardRollouts(judged, RULE));
    const before = without.size / PROMPTS;
    if (curriculum) {
      const learn = (from: readonly string[], counts: readonly JudgedRollout[]): void => {
        known = learned(known, new Set(from), countedPrograms(counts, 'allPass'), { round, memory: curriculum.memory });
      };
      learn(asked, judged);
      const tried = new Set(asked);
      let left = Math.floor((curriculum.redraw?.budget ?? 0) * PROMPTS);
      for (let draw = 1; draw <= (curriculum.redraw?.draws ?? 0) && without.size > 0 && left > 0; draw += 1) {
        asked = drawn(known, {
          ...{ rule: curriculum.rule, count: Math.min(without.size, left), samples: SAMPLES },
          ...{ seed: 1000 * seed + 10 * round + draw, without: tried },
        });
        const replaced = new Set([...without].slice(0, asked.length));
        const [more, verdicts] = ask(asked, SAMPLES, `${round}/${draw}`);
        learn(asked, verdicts);
        for (const id of asked) tried.add(id);
        sum += more.length;
        left -= asked.length;
        sampled = [...sampled.filter(({ question }) => !replaced.has(ids[question]!)), ...more];
        judged = [...judged.filter(({ questionId }) => !replaced.has(questionId)), ...verdicts];
        without = withoutSignal(rewardRollouts(judged, RULE));
      }
      known = faded(known, PROMPTS / ids.length);
    }
    trainRound(policy, sampled, judged, RULE, { beta: BETA, speed: SPEED, baseline });
    points.push({ rollouts: sum, right: policy.right, first: before, last: without.size / PROMPTS });
  }
  return points;
}

const mean = (values: readonly number[]): number => values.reduce((sum, each) => sum + each, 0) / values.length;
const percent = (share: number): string => `${(100 * share).toFixed(0)} %`;

/** The measures of `--only curriculum`. */
export function curriculumMeasures(
  families: Readonly<Record<Family, readonly Judged[]>>,
  say: (line: string) => void,
): Measure[] {
  return Object.entries(families).flatMap(([family, judged]) =>
    SETTINGS.flatMap(([world, baseline]) =>
      compared(judged, { world, baseline, name: `${family}, ${world}, ${baseline}` }, say),
    ),
  );
}

/** All designs in one world, the uniform one first: how many rollouts each needs for what that comes to. */
function compared(
  judged: readonly Judged[],
  { world: kind, baseline, name }: { world: Kind; baseline: Baseline; name: string },
  say: (line: string) => void,
): Measure[] {
  const all = ROUNDS * PROMPTS * SAMPLES;
  const worlds = SEEDS.map((seed) => worldOf(judged, kind, seed));
  const uniform = worlds.map((world, at) =>
    run(world, undefined, { seed: SEEDS[at]!, baseline, rollouts: all, until: Infinity }),
  );
  const finals = uniform.map((points) => points.at(-1)!.right);
  const before = mean(worlds.map((world) => new TabularPolicy(world).right));
  return [
    {
      name: `${name}: true pass@1 of the uniform run`,
      value: mean(finals),
      unit: '',
      note: `${ROUNDS} rounds of ${PROMPTS} questions; before RL ${before.toFixed(3)}`,
    },
    ...Object.entries(DESIGNS).map(([design, settings]): Measure => {
      const runs = worlds.map((world, at) =>
        settings
          ? run(world, settings, { seed: SEEDS[at]!, baseline, rollouts: 1.5 * all, until: finals[at]! })
          : uniform[at]!,
      );
      const shares = runs.map((points, at) => {
        const { right, rollouts } = points.at(-1)!;
        return right >= finals[at]! ? (100 * rollouts) / all : Infinity;
      });
      const points = runs.flat();
      say(`curriculum ${name}: ${design}: ${shares.map((share) => share.toFixed(0)).join(' ')} % of uniform`);
      const isBest = design === BEST.design && kind === BEST.world && baseline === BEST.baseline;
      return {
        name: `${name}: rollouts for that, ${design}`,
        value: mean(shares),
        unit: '% of uniform',
        ...(isBest ? { bar: 60, at: 'most' as const } : {}),
        note:
          `by seed: ${shares.map((share) => share.toFixed(0)).join(' ')}; groups without signal ` +
          `${percent(mean(points.map(({ first }) => first)))}, trained on ` +
          percent(mean(points.map(({ last }) => last))),
      };
    }),
  ];
}
