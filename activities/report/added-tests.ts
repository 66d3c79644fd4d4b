/**
 * What the tests that hardening added decide in RL: about rollouts, which get their rewards by them, and about the
 * reward model, which may agree with them or not. Held-out questions are judged by their own tests alone. Pure.
 */
import { testText, type TestOutcome } from '../../workflows/contract/index.js';
import { bootstrapMeans } from '../statistics/bootstrap.js';

/** Rollouts of a question in a round, judged by all its tests. */
interface JudgedPrograms {
  questionId: string;
  tests: readonly Parameters<typeof testText>[0][];
  programs: readonly { outcomes: readonly Pick<TestOutcome, 'status'>[]; score?: number | undefined }[];
}

/** A mean over questions, with the 95 % interval of a bootstrap over them. */
interface ShareOfQuestions {
  mean: number;
  interval: [number, number];
  questions: number;
}

/** The first round of each question, or the last one. */
type RoundOf = 'first' | 'last';

/** What added tests decide about rollouts. */
export interface AddedTestsTally {
  by: RoundOf;
  /** Questions with added tests of which programs were judged. */
  questions: number;
  /** Programs that pass all tests that their question had before, and those of them that fail an added one. */
  passOwn: number;
  failAdded: number;
  /** Share of the latter, over the questions of which a program passes the former. */
  share?: ShareOfQuestions;
  /**
   * How often the reward model scores a program that passes all tests above one that fails added ones alone, of the same
   * question; equal scores count as half. Over the questions that have both.
   */
  preferred?: ShareOfQuestions;
}

/** Draws of the intervals, and what draws them: a report is the same every time. */
const BOOTSTRAP = { resamples: 1_000, seed: 2027 };

/** Adds up the programs of a report. */
export class AddedTests {
  readonly #added: ReadonlyMap<string, ReadonlySet<string>>;
  readonly #by = new Map<RoundOf, { tally: AddedTestsTally; shares: number[]; preferred: number[] }>();

  /**
   * @param added texts of the added tests of each question that has some.
   * @example
   * new AddedTests(new Map([['q1', ['assert f([2, 2]) == 4']]]));
   */
  constructor(added: ReadonlyMap<string, readonly string[]>) {
    this.#added = new Map([...added].map(([id, texts]) => [id, new Set(texts)]));
  }

  /** Whether a question has added tests. */
  has(questionId: string): boolean {
    return this.#added.has(questionId);
  }

  /** Takes programs of a question. Those without a verdict for every test are left out: nobody knows what they are. */
  add(by: RoundOf, { questionId, tests, programs }: JudgedPrograms): void {
    const texts = this.#added.get(questionId);
    if (!texts) return;
    const isAdded = tests.map((test) => texts.has(testText(test)));
    const judged = programs.filter(
      ({ outcomes }) => outcomes.length === tests.length && outcomes.every(({ status }) => status !== 'unjudged'),
    );
    if (judged.length === 0 || !isAdded.includes(true)) return;
    const known = this.#by.get(by) ?? {
      tally: { by, questions: 0, passOwn: 0, failAdded: 0 },
      shares: [],
      preferred: [],
    };
    this.#by.set(by, known);
    known.tally.questions += 1;
    const passOwn = judged.filter(({ outcomes }) =>
      outcomes.every(({ status }, place) => isAdded[place] || status === 'pass'),
    );
    if (passOwn.length === 0) return;
    const isRight = passOwn.map(({ outcomes }) => outcomes.every(({ status }) => status === 'pass'));
    const wrong = isRight.filter((right) => !right).length;
    known.tally.passOwn += passOwn.length;
    known.tally.failAdded += wrong;
    known.shares.push(wrong / passOwn.length);
    const scores = (right: boolean): number[] =>
      passOwn.flatMap(({ score }, at) => (score !== undefined && isRight[at] === right ? [score] : []));
    const [above, below] = [scores(true), scores(false)];
    if (above.length === 0 || below.length === 0) return;
    const wins = above.flatMap((high) => below.map((low) => (high > low ? 1 : high === low ? 0.5 : 0)));
    known.preferred.push(wins.reduce((sum: number, win) => sum + win, 0) / wins.length);
  }

  /** The tallies in the order in which their rounds came. */
  result(): AddedTestsTally[] {
    return [...this.#by.values()].map(({ tally, shares, preferred }) => ({
      ...tally,
      ...meanOf('share', shares),
      ...meanOf('preferred', preferred),
    }));
  }
}

function meanOf<Name extends string>(name: Name, values: readonly number[]): Partial<Record<Name, ShareOfQuestions>> {
  if (values.length === 0) return {};
  const { mean, interval } = bootstrapMeans({ values: [...values] }, BOOTSTRAP).values;
  return { [name]: { mean, interval, questions: values.length } } as Record<Name, ShareOfQuestions>;
}
