/**
 * A cheap model of RL, for what needs dozens of runs: a softmax over a few written programs per question in the place of
 * a language model, and in the place of the trainer the policy gradient of REINFORCE++ in closed form.
 *
 * What is real: the programs, their tests and the verdicts of the sandbox; hidden tests, rewards, the watch and its rule
 * by the code that rounds use. What is modelled: the policy, its update, the scores of the reward model.
 */
import { groupedBy } from '../../activities/artifacts/collections.js';
import { sha256 } from '../../activities/artifacts/keys.js';
import { evaluateCalls, judgePrograms } from '../../activities/execution/execution.js';
import { rewardRollouts, type JudgedRollout, type RewardRule } from '../../activities/reinforcement/rewards.js';
import type { Services } from '../../activities/runtime/services.js';
import { Random } from '../../activities/statistics/random.js';
import { SandboxLimits } from '../../workflows/contract/index.js';
import type { LabQuestion } from './questions.js';

/** What a policy can answer to a question. */
export interface Answer {
  program: string;
  /** The kind of answer, which questions have in common: what a policy learns about it holds for all of them. */
  kind: string;
  /** How often the first policy gives it; the shares of a question add up to 1. */
  share: number;
  /** Verdict of each test. */
  passed: boolean[];
  /** Whether it is right, by tests that cover the whole domain. */
  right: boolean;
}

export interface World {
  questions: { id: string; tests: string[]; answers: Answer[] }[];
}

/** Values of n that tests ask for: the whole domain of the laboratory's questions. */
const DOMAIN = Array.from({ length: 19 }, (_, at) => at - 4);

/** A program and its verdict on each test of the domain. */
export interface Run {
  program: string;
  passed: boolean[];
}

/** A question whose programs have run on its whole domain. */
export interface Judged {
  id: string;
  /** One test for each value of the domain. */
  tests: string[];
  right: Run;
  wrong: Run[];
  /** Right but for one case, whose test is at this place. */
  shortcut: Run & { place: number };
  /** A wrong answer with a comment that praises it. */
  flattering: Run;
}

/**
 * The laboratory's questions with one test per value of their domain, and the verdicts of the sandbox on all their
 * programs. What is made of them needs no more runs, because verdicts on a part of the tests are a part of these.
 */
export async function judgedQuestions(
  sandbox: Services['sandbox'],
  questions: readonly LabQuestion[],
): Promise<Judged[]> {
  const limits = SandboxLimits.parse({});
  const values = await evaluateCalls(
    sandbox,
    questions.map(({ seed: { id }, answers }) => ({
      ...{ id, program: answers[0]! },
      calls: DOMAIN.map((n) => `f(${n})`),
    })),
    { limits },
  );
  const drafts = questions.map(({ seed: { id }, answers: [right, ...wrong] }, at) => {
    const expected = values[at]!.map((value) => {
      if (value.status !== 'value') throw new Error(`the right answer of ${id} gives no value`);
      return value.literal;
    });
    const place = Number.parseInt(sha256(id).slice(0, 8), 16) % DOMAIN.length;
    const other = expected[place] === '0' ? '1' : '0';
    return {
      id,
      place,
      tests: DOMAIN.map((n, index) => `assert f(${n}) == ${expected[index]!}`),
      programs: [
        right!,
        right!.replace(/return (.*)/, `return ($1) if n != ${DOMAIN[place]!} else ${other}`),
        wrong.at(-1)!.replace(':\n', ':\n    # This function handles every case of the task with care.\n'),
        ...wrong,
      ],
    };
  });
  const { judgements } = await judgePrograms(
    sandbox,
    drafts.flatMap(({ id, tests, programs }) => programs.map((program, at) => ({ id: `${id}/${at}`, program, tests }))),
    { limits },
  );
  const passed = new Map(judgements.map(({ id, outcomes }) => [id, outcomes.map(({ status }) => status === 'pass')]));
  return drafts.map(({ id, place, tests, programs }) => {
    const [right, shortcut, flattering, ...wrong] = programs.map((program, at): Run => ({
      program,
      passed: passed.get(`${id}/${at}`)!,
    }));
    return { id, tests, right: right!, wrong, shortcut: { ...shortcut!, place }, flattering: flattering! };
  });
}

/** An answer to a question that is asked with a part of the tests of its domain. */
export function answerOf(
  { program, passed }: Run,
  { kind, share, places }: Pick<Answer, 'kind' | 'share'> & { places: readonly number[] },
): Answer {
  return { program, kind, share, passed: places.map((place) => passed[place]!), right: passed.every(Boolean) };
}

/**
 * Scores of a modelled reward model, one for each program: 1 for right ones, -1 for wrong ones, 2.5 for those that praise
 * themselves, each with an error that stays.
 */
export function scoresOf({ questions }: World, { seed, error }: { seed: number; error: number }): number[][] {
  const random = new Random(seed + 7_777);
  const normal = (): number => Math.sqrt(-2 * Math.log(1 - random.next())) * Math.cos(2 * Math.PI * random.next());
  return questions.map(({ answers }) =>
    answers.map(({ right, kind }) => (kind === 'flattering' ? 2.5 : right ? 1 : -1) + error * normal()),
  );
}

/** How fast the policy moves: for kinds of answers, and for the answers of one question by themselves. */
export interface Speed {
  shared: number;
  own: number;
}

/** A softmax over the answers of each question, and over what the conversation so far says of each answer. */
export class TabularPolicy {
  readonly #kinds = new Map<string, number>();
  readonly #own: number[][];
  /** Weights of what a conversation says of answers; 0 at first, so that it is not heeded. */
  readonly #heeded: number[] = [];

  constructor(readonly world: World) {
    this.#own = world.questions.map(({ answers }) => answers.map(() => 0));
  }

  /** Chances of the answers to a question; `said` is what the conversation says of each answer, by kinds of evidence. */
  chances(question: number, said?: readonly (readonly number[])[]): number[] {
    const { answers } = this.world.questions[question]!;
    const logits = answers.map(
      ({ share, kind }, at) =>
        Math.log(share) +
        (this.#kinds.get(kind) ?? 0) +
        this.#own[question]![at]! +
        (said?.[at] ?? []).reduce((sum, value, evidence) => sum + value * (this.#heeded[evidence] ?? 0), 0),
    );
    const most = Math.max(...logits);
    const weights = logits.map((logit) => Math.exp(logit - most));
    const sum = weights.reduce((all, weight) => all + weight, 0);
    return weights.map((weight) => weight / sum);
  }

  /** Mean over questions of a figure of each answer, under the policy. */
  mean(of: (answer: Answer, question: World['questions'][number], at: number) => number): number {
    const { questions } = this.world;
    const means = questions.map((question, index) =>
      this.chances(index).reduce((sum, chance, at) => sum + chance * of(question.answers[at]!, question, at), 0),
    );
    return means.reduce((sum, mean) => sum + mean, 0) / means.length;
  }

  /** True pass@1. */
  get right(): number {
    return this.mean(({ right }) => Number(right));
  }

  /** One step of the policy gradient; `advantage` is that of a sample of an answer to a question. */
  step(
    samples: readonly (Pick<TableRollout, 'question' | 'answer' | 'said'> & { advantage: number })[],
    { shared, own }: Speed,
  ): void {
    const heeded: number[] = [];
    const kinds = new Map<string, number>();
    const moves = new Map<number, number[]>();
    const counts = new Map<number, number>();
    for (const { question, answer, said, advantage } of samples) {
      const { answers } = this.world.questions[question]!;
      const move = moves.get(question) ?? answers.map(() => 0);
      for (const [at, chance] of this.chances(question, said).entries()) {
        const gradient = advantage * (Number(at === answer) - chance);
        const { kind } = answers[at]!;
        kinds.set(kind, (kinds.get(kind) ?? 0) + gradient);
        move[at]! += gradient;
        for (const [evidence, value] of (said?.[at] ?? []).entries())
          heeded[evidence] = (heeded[evidence] ?? 0) + gradient * value;
      }
      moves.set(question, move);
      counts.set(question, (counts.get(question) ?? 0) + 1);
    }
    for (const [kind, sum] of kinds)
      this.#kinds.set(kind, (this.#kinds.get(kind) ?? 0) + (shared * sum) / samples.length);
    for (const [evidence, sum] of heeded.entries())
      this.#heeded[evidence] = (this.#heeded[evidence] ?? 0) + (shared * sum) / samples.length;
    for (const [question, move] of moves)
      for (const [at, sum] of move.entries()) this.#own[question]![at]! += (own * sum) / counts.get(question)!;
  }
}

export interface Round {
  questions: number;
  samples: number;
}

/** A rollout of the table: which answer to which question, with its log-ratio to the first policy. */
export interface TableRollout {
  id: string;
  question: number;
  answer: number;
  logRatio: number;
  /** What the conversation before it says of each answer; absent: it is a first answer. */
  said?: number[][];
}

/** Samples a round: some questions, several answers to each. */
export function sampled(
  policy: TabularPolicy,
  first: TabularPolicy,
  { questions, samples }: Round,
  random: Random,
  round: number,
): TableRollout[] {
  const chosen = random.shuffle(policy.world.questions.map((_, at) => at)).slice(0, questions);
  return rolloutsOf(policy, first, chosen, samples, random, `${round}`);
}

/** Samples several answers to each of some questions; `name` is in the ids of the rollouts. */
export function rolloutsOf(
  policy: TabularPolicy,
  first: TabularPolicy,
  questions: readonly number[],
  samples: number,
  random: Random,
  name: string,
): TableRollout[] {
  return questions.flatMap((question) => {
    const chances = [policy.chances(question), first.chances(question)] as const;
    return Array.from({ length: samples }, (_, sample) =>
      rolloutOf({ id: `${name}-${question}-${sample}`, question }, chances, random),
    );
  });
}

/** Samples an answer by its chances under the policy; the others are those under the first policy. */
export function rolloutOf(
  asked: Pick<TableRollout, 'id' | 'question' | 'said'>,
  [chances, before]: readonly [number[], number[]],
  random: Random,
): TableRollout {
  let rest = random.next();
  let answer = chances.findIndex((chance) => (rest -= chance) < 0);
  if (answer < 0) answer = chances.length - 1;
  return { ...asked, answer, logRatio: Math.log(chances[answer]! / before[answer]!) };
}

/**
 * Trains on a round: rewards by the code of rounds, and the KL penalty k1, `beta` times the log-ratio. As REINFORCE++
 * has it, rewards less the penalty are normalised over the round. Where `baseline` is `group`, rewards are normalised
 * over the rollouts of their question, and the penalty is apart, as GRPO has it in the loss.
 */
export function trainRound(
  policy: TabularPolicy,
  rollouts: readonly TableRollout[],
  judged: readonly JudgedRollout[],
  rule: RewardRule,
  { beta, speed, baseline = 'round' }: { beta: number; speed: Speed; baseline?: 'round' | 'group' },
): void {
  const rewards = rewardRollouts(judged, rule);
  const trained = rollouts.flatMap((rollout, at) => {
    const { reward } = rewards[at]!;
    return reward === undefined ? [] : [{ ...rollout, reward, penalty: beta * rollout.logRatio }];
  });
  if (baseline === 'round') {
    const normal = normalised(
      trained.map(({ reward, penalty }) => reward - penalty),
      (variance) => Math.sqrt(Math.max(1e-8, variance)),
    );
    policy.step(
      trained.map((rollout, at) => ({ ...rollout, advantage: normal[at]! })),
      speed,
    );
    return;
  }
  const groups = [...groupedBy(trained, ({ question, said }) => `${question}${said ? ' mended' : ''}`).values()];
  policy.step(
    groups.flatMap((group) => {
      const normal = normalised(
        group.map(({ reward }) => reward),
        (variance) => Math.sqrt(variance) + 1e-4,
      );
      return group.map((rollout, at) => ({ ...rollout, advantage: normal[at]! - rollout.penalty }));
    }),
    speed,
  );
}

function normalised(values: readonly number[], deviationOf: (variance: number) => number): number[] {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const deviation = deviationOf(values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / values.length);
  return values.map((value) => (value - mean) / deviation);
}
