/**
 * `npm run lab -- --only repair`: what a second try with feedback wins, next to rounds of first answers alone that sample
 * as many rollouts. All figures are those of questions that no round asks.
 *
 * What is real: programs, tests, verdicts and values of the sandbox, which tests feedback may be about, its text, the
 * credit and the rewards. What is modelled: the policy, and how well it reads feedback.
 */
import { sha256 } from '../../activities/artifacts/keys.js';
import { evaluateCalls, type CallResult } from '../../activities/execution/execution.js';
import { failuresOf, feedbackOf, visiblePlaces } from '../../activities/reinforcement/repair.js';
import type { JudgedRollout, RewardRule } from '../../activities/reinforcement/rewards.js';
import type { Services } from '../../activities/runtime/services.js';
import { Random } from '../../activities/statistics/random.js';
import { Repair, SandboxLimits } from '../../workflows/contract/index.js';
import type { Measure } from '../bench/table.js';
import type { Family } from './questions.js';
import {
  answerOf,
  rolloutOf,
  rolloutsOf,
  TabularPolicy,
  trainRound,
  type Judged,
  type TableRollout,
  type World,
} from './tabular.js';

const ROUNDS = 96;
const ROUND = { questions: 64, samples: 8 };
const SEEDS = [1, 2, 3];
const BETA = 0.01;
/** What is learnt about one question mostly holds for others, as fast as in the chain: 0.35 to 0.98 in 4,096 rollouts. */
const SPEED = { shared: 0.6, own: 0.1 };
/** Share of the questions that no round asks. */
const NEW = 1 / 4;
/** How often the policy is wrong about what one of its programs gives for a call. */
const MISREAD = 0.2;
/** Shares of the right answer and of the most frequent wrong one, as in the chain of the laboratory. */
const LEADS = [
  [0.46, 0.27],
  [0.24, 0.61],
] as const;

/**
 * What questions have in common. `open`: a question does not say which of its answers is meant, so that what is learnt
 * about one says nothing of another. `alike`: the right answers of all questions are of one kind, as in the other parts.
 */
const KINDS = ['open', 'alike'] as const;
type Kind = (typeof KINDS)[number];

/** What repair turns may be. */
const DESIGNS: Record<string, Partial<Repair>> = {
  kind: { shows: 'kind', credit: 'own' },
  call: { shows: 'call', credit: 'own' },
  test: { shows: 'test', credit: 'own' },
  'test, last': { shows: 'test', credit: 'last' },
};
/** The design and the world that the bar is for; in the other world this design alone is shown. */
const BEST = { design: 'test', world: 'open' };

/** What each program of a question gives for each call of its domain. */
type Values = Map<string, CallResult[]>;

/** A world whose questions have feedback: `tests` of a question are asserts of `f(n)`. */
interface Mended {
  world: World;
  values: CallResult[][][];
  /** Questions that rounds ask, and the others. */
  asked: number[];
  fresh: number[];
}

const nameOf = (id: string, program: string): string => `${id}\n${program}`;

/** What all programs give for all calls, by the sandbox. */
async function valuesOf(sandbox: Services['sandbox'], judged: readonly Judged[]): Promise<Values> {
  const jobs = judged.flatMap(({ id, tests, right, wrong }) =>
    [right, ...wrong].map(({ program }) => ({
      ...{ id: nameOf(id, program), program },
      calls: tests.map((test) => /^assert (.*) ==/.exec(test)![1]!),
    })),
  );
  const values = await evaluateCalls(sandbox, jobs, { limits: SandboxLimits.parse({}) });
  return new Map(jobs.map(({ id }, at) => [id, values[at]!]));
}

function mendedWorld(judged: readonly Judged[], values: Values, kind: Kind, seed: number): Mended {
  const random = new Random(seed);
  const questions = judged.map(({ id, tests, right, wrong }) => {
    const places = tests.map((_, at) => at);
    const [best, lead] = random.pick(LEADS);
    const rest = (1 - best - lead) / Math.max(1, wrong.length - 1);
    const named = (name: string): string => (kind === 'open' ? `${id}/${name}` : name);
    return {
      ...{ id, tests },
      answers: [
        answerOf(right, { kind: named('right'), share: best, places }),
        ...wrong.map((run, at) => answerOf(run, { kind: named(`wrong ${at}`), share: at === 0 ? lead : rest, places })),
      ],
    };
  });
  const order = random.shuffle(questions.map((_, at) => at));
  const count = Math.round(NEW * order.length);
  return {
    world: { questions },
    values: questions.map(({ id, answers }) => answers.map(({ program }) => values.get(nameOf(id, program))!)),
    asked: order.slice(count),
    fresh: order.slice(0, count),
  };
}

/**
 * What feedback on a failed answer says of each answer, as the policy reads it: that it is the same program, that it
 * gives a value that is called wrong, and that it gives one that is expected. Undefined where there is no feedback.
 */
class Reader {
  readonly #said = new Map<string, number[][] | undefined>();

  constructor(
    readonly mended: Mended,
    readonly repair: Repair,
    readonly seed: number,
  ) {}

  said(question: number, failed: number): number[][] | undefined {
    const name = `${question} ${failed}`;
    if (!this.#said.has(name)) this.#said.set(name, this.#read(question, failed));
    return this.#said.get(name);
  }

  #read(question: number, failed: number): number[][] | undefined {
    const { id, tests, answers } = this.mended.world.questions[question]!;
    const { passed } = answers[failed]!;
    const values = this.mended.values[question]!;
    const failures = failuresOf(
      {
        outcomes: passed.map((each) => ({ status: each ? ('pass' as const) : ('assertion_failed' as const) })),
        passRate: passed.filter(Boolean).length / passed.length,
      },
      { tests },
      visiblePlaces({ questionId: id, tests }, { hiddenShare: this.repair.hiddenShare, seed: this.seed }),
    );
    if (failures.length === 0) return undefined;
    const text = feedbackOf(
      failures,
      failures.map(({ place }) => values[failed]![place]),
      this.repair,
    );
    return answers.map((_, answer) => {
      const holds = (pattern: RegExp): number => {
        const lines = [...text.matchAll(pattern)];
        const given = lines.filter(([, call, literal]) => this.#gives(question, answer, call!, literal!));
        return given.length / Math.max(1, lines.length);
      };
      return [
        Number(answer === failed),
        holds(/^(f\(.*\)) gives (.*), which is wrong\.$/gm),
        holds(/^This test fails: assert (f\(.*\)) == (.*)$/gm),
      ];
    });
  }

  /** Whether the policy takes it that an answer gives a value for a call. */
  #gives(question: number, answer: number, call: string, literal: string): boolean {
    const { id, tests } = this.mended.world.questions[question]!;
    const place = tests.findIndex((test) => test.startsWith(`assert ${call} ==`));
    const value = this.mended.values[question]![answer]![place]!;
    const isRight = value.status === 'value' && value.literal === literal;
    const roll = Number.parseInt(sha256(`${this.seed}/${id}/${answer}/${call}/${literal}`).slice(0, 8), 16) / 2 ** 32;
    return roll < MISREAD ? !isRight : isRight;
  }
}

/** How often the policy is right about new questions: at once, with feedback on failures, and with two tries and none. */
function passes(policy: TabularPolicy, reader: Reader): { first: number; second: number; resampled: number } {
  const { mended } = reader;
  const sums = { first: 0, second: 0, resampled: 0 };
  for (const question of mended.fresh) {
    const { answers } = mended.world.questions[question]!;
    const rightOf = (chances: readonly number[]): number =>
      chances.reduce((sum, chance, at) => sum + (answers[at]!.right ? chance : 0), 0);
    const chances = policy.chances(question);
    const first = rightOf(chances);
    sums.first += first;
    sums.resampled += 1 - (1 - first) ** 2;
    sums.second += chances.reduce((sum, chance, at) => {
      if (answers[at]!.right) return sum + chance;
      const said = reader.said(question, at);
      return said ? sum + chance * rightOf(policy.chances(question, said)) : sum;
    }, 0);
  }
  const count = mended.fresh.length;
  return { first: sums.first / count, second: sums.second / count, resampled: sums.resampled / count };
}

/** Rounds up to so many rollouts: first answers alone, or with a second try of those that fail. */
function run(
  reader: Reader,
  { seed, isMended }: { seed: number; isMended: boolean },
): { policy: TabularPolicy; rounds: number } {
  const { world, asked } = reader.mended;
  const random = new Random(seed);
  const [policy, first] = [new TabularPolicy(world), new TabularPolicy(world)];
  const rule: RewardRule = {
    reward: { testsWeight: 1, tests: 'allPass', rewardModelWeight: 0 },
    ...{ rewardClip: 10, dropDegenerateGroups: false, maxNewTokens: 1024 },
    ...(isMended ? { repair: reader.repair } : {}),
  };
  const all = ROUNDS * ROUND.questions * ROUND.samples;
  let round = 0;
  for (let sum = 0; sum < all;) {
    round += 1;
    const chosen = random.shuffle(asked).slice(0, ROUND.questions);
    const rollouts = rolloutsOf(policy, first, chosen, ROUND.samples, random, `${round}`).slice(0, all - sum);
    const judged = rollouts.map((rollout) => judgedOf(world, rollout));
    if (isMended)
      for (const { id, question, answer } of [...rollouts]) {
        const said = world.questions[question]!.answers[answer]!.right ? undefined : reader.said(question, answer);
        if (!said || sum + rollouts.length >= all) continue;
        const chances = [policy.chances(question, said), first.chances(question, said)] as const;
        const mended = rolloutOf({ id: `${id}/2`, question, said }, chances, random);
        rollouts.push(mended);
        judged.push({ ...judgedOf(world, mended), turn: 2, repairs: id });
      }
    sum += rollouts.length;
    trainRound(policy, rollouts, judged, rule, { beta: BETA, speed: SPEED });
  }
  return { policy, rounds: round };
}

function judgedOf({ questions }: World, { id, question, answer }: TableRollout): JudgedRollout {
  const { id: questionId, answers } = questions[question]!;
  const { passed, program } = answers[answer]!;
  const passRate = passed.filter(Boolean).length / passed.length;
  return { id, questionId, promptTokens: 1, completionTokens: program.length, passed, passRate };
}

const mean = (values: readonly number[]): number => values.reduce((sum, each) => sum + each, 0) / values.length;
const figures = (values: readonly number[]): string => values.map((value) => value.toFixed(3)).join(' ');

/** The measures of `--only repair`. */
export async function repairMeasures(
  sandbox: Services['sandbox'],
  families: Readonly<Record<Family, readonly Judged[]>>,
  say: (line: string) => void,
  seeds: readonly number[] = SEEDS,
): Promise<Measure[]> {
  const measures: Measure[] = [];
  for (const [family, judged] of Object.entries(families)) {
    const values = await valuesOf(sandbox, judged);
    for (const kind of KINDS) measures.push(...compared(judged, values, { family, kind, seeds }, say));
  }
  return measures;
}

/** All designs in one world, after the plain run that samples as many rollouts. */
function compared(
  judged: readonly Judged[],
  values: Values,
  { family, kind, seeds }: { family: string; kind: Kind; seeds: readonly number[] },
  say: (line: string) => void,
): Measure[] {
  const name = `${family}, ${kind}`;
  const worlds = seeds.map((seed) => mendedWorld(judged, values, kind, seed));
  const readers = (repair: Repair) => worlds.map((world, at) => new Reader(world, repair, seeds[at]!));
  const plain = readers(Repair.parse({})).map((reader, at) => {
    const { policy } = run(reader, { seed: seeds[at]!, isMended: false });
    return passes(policy, reader);
  });
  const measure = (what: string, figure: readonly number[], rest: Partial<Measure> = {}): Measure => ({
    ...{ name: `${name}: ${what}`, value: mean(figure), unit: '', note: `by seed: ${figures(figure)}` },
    ...rest,
  });
  const seconds = plain.map(({ second }) => second);
  return [
    measure(
      'before RL, pass@1 of new questions',
      worlds.map((world, at) => passes(new TabularPolicy(world.world), readers(Repair.parse({}))[at]!).first),
    ),
    measure(
      'plain, pass@1',
      plain.map(({ first }) => first),
    ),
    measure(
      'plain, right once in two tries',
      plain.map(({ resampled }) => resampled),
    ),
    measure('plain, two turns', seconds),
    ...Object.entries(DESIGNS).flatMap(([design, settings]) => {
      if (kind !== BEST.world && design !== BEST.design) return [];
      const runs = readers(Repair.parse(settings)).map((reader, at) => {
        const { policy, rounds } = run(reader, { seed: seeds[at]!, isMended: true });
        return { ...passes(policy, reader), rounds };
      });
      const gains = runs.map(({ second }, at) => second - Math.max(seconds[at]!, plain[at]!.resampled));
      say(
        `repair ${name}: ${design}: two turns ${figures(runs.map(({ second }) => second))}, more by ${figures(gains)}`,
      );
      const isBest = design === BEST.design && kind === BEST.world;
      return [
        measure(
          `${design}, pass@1`,
          runs.map(({ first }) => first),
        ),
        measure(
          `${design}, two turns`,
          runs.map(({ second }) => second),
        ),
        measure(`${design}, two turns, more than plain`, gains, {
          note: `by seed: ${figures(gains)}; ${mean(runs.map(({ rounds }) => rounds)).toFixed(1)} rounds of ${ROUNDS}`,
          ...(isBest ? { bar: 0.1 } : {}),
        }),
      ];
    }),
  ];
}
