/**
 * Repair turns of RL rounds: which programs get feedback, what it says, and how rewards go back to earlier turns.
 *
 * Nothing here reads a test that feedback may not be about, and no value comes from a process that has seen one. All
 * of it follows from stored rows and seeds, so that a repeated activity asks alike.
 */
import type {
  QuestionTest,
  Repair,
  RepairPromptRow,
  RewardRow,
  RoundPromptRow,
  RoundRepair,
  TestOutcome,
  TurnMessage,
  VerdictRow,
} from '../../workflows/contract/index.js';
import { testText } from '../../workflows/contract/index.js';
import { deriveSeed } from '../artifacts/keys.js';
import type { CallResult } from '../execution/execution.js';
import { languageOf } from '../languages/index.js';
import { promptOf } from '../policy/prompt.js';
import { hiddenTests } from './hidden-tests.js';

/** Failing tests that one feedback is about, at most. */
const MOST_SHOWN = 3;

/**
 * Places of the tests that feedback may be about, in order: none that the watch hides from rewards, and of the others
 * all but a share. Equal tests stay together.
 *
 * @param prompt its `tests` as they are stored, and in `hiddenTests` the places that the watch hides.
 * @param rule.hiddenShare of the different tests that the watch does not hide.
 * @param rule.seed of the stage.
 * @example
 * visiblePlaces({ questionId: 'q', tests: ['assert f(1) == 1', 'assert f(2) == 2'] }, { hiddenShare: 0.5, seed: 0 });
 */
export function visiblePlaces(
  { questionId, tests, hiddenTests: watched = [] }: Pick<RoundPromptRow, 'questionId' | 'tests' | 'hiddenTests'>,
  { hiddenShare, seed }: { hiddenShare: number; seed: number },
): number[] {
  const rewarded = tests.map((_, at) => at).filter((at) => !watched.includes(at));
  if (hiddenShare === 0) return rewarded;
  const own = { seed: deriveSeed(seed, 'repair'), questionId };
  const kept = new Set(
    hiddenTests(
      rewarded.map((at) => tests[at]),
      hiddenShare,
      own,
    ),
  );
  return rewarded.filter((_, place) => !kept.has(place));
}

/** A failing test as feedback sees it. */
export interface Failure {
  /** Its place among the tests of its question. */
  place: number;
  status: TestOutcome['status'];
  test: QuestionTest;
  /** The call that it compares, where it has one. */
  call?: string | undefined;
}

/**
 * The failing tests that feedback is about, the first few of those that it may show. None where the program could not
 * be judged.
 *
 * @example
 * failuresOf({ outcomes, passRate: 0.5 }, { tests }, [0, 2]); // [{ place: 2, status: 'assertion_failed', … }]
 */
export function failuresOf(
  { outcomes, passRate }: Pick<VerdictRow, 'outcomes' | 'passRate'>,
  { tests, language }: Pick<RoundPromptRow, 'tests' | 'language'>,
  visible: readonly number[],
): Failure[] {
  if (passRate === undefined) return [];
  return visible
    .filter((place) => outcomes[place]!.status !== 'pass')
    .slice(0, MOST_SHOWN)
    .map((place) => {
      const test = tests[place]!;
      return { place, status: outcomes[place]!.status, test, call: callOf(test, language) };
    });
}

function callOf(test: QuestionTest, language: string | undefined): string | undefined {
  if (typeof test === 'string') return languageOf({ language }).comparedCall(test);
  return 'call' in test ? test.call : undefined;
}

/**
 * What came of each failure's call, of the results of those that have one, in order.
 *
 * @example
 * ofFailures([{ ...script, call: undefined }, { ...test, call: 'f(3)' }], [seven]); // [undefined, seven]
 */
export function ofFailures(failures: readonly Failure[], results: readonly CallResult[]): (CallResult | undefined)[] {
  const left = [...results];
  return failures.map(({ call }) => (call === undefined ? undefined : left.shift()));
}

/** What kind of failure a verdict is, in a sentence. */
const KINDS: Record<TestOutcome['status'], string> = {
  pass: 'A test passes.',
  assertion_failed: 'A test gets a wrong answer.',
  raised: 'A test ends with an exception.',
  timeout: 'A test takes too long.',
  not_run: 'The program ends before all tests ran.',
  load_error: 'The program does not load.',
  killed: 'A test ends the process of the program.',
  refused: 'The program asks for something that is not allowed.',
  vacuous: 'A test finds nothing to check.',
  checker_failed: 'A test could not be judged.',
  unjudged: 'A test could not be judged.',
};

/**
 * What a policy is told about its program.
 *
 * @param failures of tests that it may be told of.
 * @param values what came of the call of each, in a process that ran no other test; empty where nothing ran.
 * @example
 * feedbackOf([{ place: 0, status: 'assertion_failed', test, call: 'f(3)' }], [{ status: 'value', literal: '7' }], rule);
 * // 'The program is wrong.\nf(3) gives 7, which is wrong.'
 */
export function feedbackOf(
  failures: readonly Failure[],
  values: readonly (CallResult | undefined)[],
  { shows, length }: Pick<Repair, 'shows' | 'length'>,
): string {
  const lines = new Set(failures.map((failure, at) => lineOf(failure, values[at], shows)));
  let text = '';
  for (const line of lines) {
    const longer = text === '' ? line : `${text}\n${line}`;
    if (text !== '' && longer.length > length) break;
    text = longer;
  }
  return `The program is wrong.\n${text.length > length ? `${text.slice(0, length - 1)}…` : text}`;
}

function lineOf({ status, test, call }: Failure, value: CallResult | undefined, shows: Repair['shows']): string {
  if (status === 'load_error') return shows === 'kind' ? KINDS.load_error : loadError(value);
  const came = shows === 'kind' ? undefined : cameOf(status, call, value);
  if (shows === 'test') return `This test fails: ${testText(test)}\n${came ?? KINDS[status]}`;
  if (came === undefined && shows === 'call' && typeof test !== 'string' && 'stdin' in test)
    return `${KINDS[status]} Its input is ${JSON.stringify(test.stdin)}.`;
  return came ?? KINDS[status];
}

function loadError(value: CallResult | undefined): string {
  const reason = value?.status === 'load_error' ? reasonOf(value) : '';
  return reason === '' ? KINDS.load_error : `The program does not load: ${reason}`;
}

/** What came of the call of a failing test; undefined where that says nothing of the failure. */
function cameOf(
  status: Failure['status'],
  call: string | undefined,
  value: CallResult | undefined,
): string | undefined {
  if (call === undefined || value === undefined) return undefined;
  // A program may remember earlier calls. What it answers to this one alone is then no reason of another failure.
  if (value.status === 'value')
    return status === 'assertion_failed' ? `${call} gives ${value.literal}, which is wrong.` : undefined;
  if (value.status === 'raised') return `${call} raises ${reasonOf(value) || 'an exception'}`;
  return value.status === 'timeout' ? `${call} takes too long.` : undefined;
}

/** The first line of a reason, without addresses, which differ from run to run. */
function reasonOf({ reason = '' }: { reason?: string | undefined }): string {
  return reason
    .split('\n')[0]!
    .replace(/0x[0-9a-f]+/gi, '0x…')
    .trim();
}

/** A rollout that failed, and what it was asked. */
export interface Failed {
  id: string;
  questionId: string;
  index: number;
  text: string;
  turn?: number | undefined;
  /** Its conversation; absent: the question. */
  messages?: readonly TurnMessage[] | undefined;
}

/**
 * What a policy is asked after a failed program: its conversation with its answer and the feedback.
 *
 * @param settings.seed of the stage; the seed of the answer follows from it, the round, the turn and the rollout's place.
 */
export function repairPrompt(
  { id, questionId, index, text, turn = 1, messages }: Failed,
  { question, language }: Pick<RoundPromptRow, 'question' | 'language'>,
  { feedback, shown }: { feedback: string; shown: readonly number[] },
  { seed, round }: { seed: number; round: number },
): RepairPromptRow {
  const first = promptOf(question, '', language);
  const { answerRequest } = languageOf({ language });
  return {
    ...{ repairs: id, questionId, index, turn: turn + 1, shown: [...shown] },
    messages: [
      ...(messages ?? first.messages),
      { role: 'assistant', content: `${first.assistantPrefix}${text}${first.stop[0]}` },
      { role: 'user', content: `${feedback}\n\n${answerRequest}` },
    ],
    seed: deriveSeed(seed, round, 'turn', turn + 1, questionId, index),
  };
}

/** Which answers are compared with each other: those of one turn to one question. */
export function groupOf({ questionId, turn }: { questionId: string; turn?: number | undefined }): string {
  return turn === undefined ? questionId : `${questionId} turn ${turn}`;
}

/** An answer with the one that it mends. */
interface Turn {
  id: string;
  repairs?: string | undefined;
}

/** The answers of a conversation from each one on. */
function conversations<T extends Turn>(turns: readonly T[]): Map<T, T[]> {
  const next = new Map(turns.flatMap((turn) => (turn.repairs === undefined ? [] : [[turn.repairs, turn] as const])));
  return new Map(
    turns.map((turn) => {
      const from: T[] = [];
      for (let at: T | undefined = turn; at; at = next.get(at.id)) from.push(at);
      return [turn, from];
    }),
  );
}

/**
 * Rewards with credit for what later turns of their conversations earned, in order. With r₀ of the turn itself and rᵢ
 * of the i-th one after it, those without a reward left out:
 *
 * - `own`: r₀.
 * - `last`: r of the last turn.
 * - `best`: the largest rᵢ.
 * - `discounted`: the largest discountⁱ rᵢ, so that a mended failure never earns more than a first answer that is right.
 *
 * @example
 * credited([{ id: 'a', reward: 0 }, { id: 'b', repairs: 'a', reward: 1 }], { credit: 'discounted', discount: 0.5 });
 * // [0.5, 1]
 */
export function credited(
  turns: readonly (Turn & Pick<RewardRow, 'reward'>)[],
  { credit, discount = 1 }: Pick<Repair, 'credit'> & { discount?: number | undefined },
): (number | undefined)[] {
  return [...conversations(turns)].map(([{ reward }, from]) => {
    if (reward === undefined || credit === 'own') return reward;
    const later = from.flatMap((turn, at) => (turn.reward === undefined ? [] : [{ reward: turn.reward, at }]));
    if (credit === 'last') return later.at(-1)!.reward;
    return Math.max(...later.map((turn) => (credit === 'best' ? 1 : discount ** turn.at) * turn.reward));
  });
}

/** What came of the turns of a round: `passRate` is of the tests that rewards read, and absent without a verdict. */
export function roundRepair(turns: readonly (Turn & Pick<RewardRow, 'passRate'>)[]): RoundRepair {
  const judged = turns.filter(({ passRate }) => passRate !== undefined);
  const passes = ({ passRate }: Pick<RewardRow, 'passRate'>): boolean => passRate === 1;
  const all = [...conversations(judged)].filter(([{ repairs }]) => repairs === undefined);
  const repairs = judged.filter((turn) => turn.repairs !== undefined);
  const share = (count: number): number => (all.length === 0 ? 0 : count / all.length);
  return {
    conversations: all.length,
    firstPass: share(all.filter(([first]) => passes(first)).length),
    lastPass: share(all.filter(([, from]) => passes(from.at(-1)!)).length),
    repairs: repairs.length,
    repaired: repairs.filter(passes).length,
  };
}
