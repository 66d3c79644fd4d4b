/**
 * A training on several hosts: a gang of workers, each with an activity, that ends and begins again as a whole.
 *
 * The leader's activity is asked for first. Once a worker has it, the leader tells its address by a signal, and the
 * other members are asked for before all other work of the queue. A member that is lost, or fails, ends the attempt:
 * the others are cancelled, and a new attempt goes on from the newest stored checkpoint. Each attempt has a token.
 * Members of an earlier one can neither join it nor store a checkpoint.
 *
 * A gang whose members do not come in time gives back the device that its leader holds. Two gangs that hold one of two
 * devices each would otherwise wait for ever. How long each then waits is drawn, so that one of them comes first.
 */
import {
  ActivityFailure,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  condition,
  isCancellation,
  log,
  setHandler,
  sleep,
  TimeoutFailure,
  uuid4,
} from '@temporalio/workflow';
import { FAILURES, GangLeader, type GangMember } from '../contract/index.js';
import { gangQuery, gangSignal, onSignal } from './messages.js';

/** Longest pause between two attempts, in seconds. They begin at one second and double, as those of activities do. */
const LONGEST_PAUSE_SECONDS = 60;
/** A gang that has given its devices back waits for up to its own waiting time, doubled by at most this much. */
const MOST_DOUBLINGS = 4;
/** As of activities: an unknown error that comes back so often, without progress in between, is a defect. */
const IDENTICAL_FAILURES = 4;

interface GangOptions {
  members: number;
  /** Seconds in which all members must have begun. */
  waitSeconds: number;
  /** How far the training is, in any unit. */
  progress: () => number;
}

/** The attempt that is running, and what its leader has told. */
let running: { token: string; leader?: GangLeader['leader'] } | undefined;
let listens = false;

function listen(): void {
  if (listens) return;
  listens = true;
  setHandler(gangQuery, () => running?.token, { description: 'The attempt of the gang that trains.' });
  onSignal(gangSignal, GangLeader, ({ token, leader }) => {
    if (running?.token === token) running.leader ??= leader;
  });
}

/** The gang of this workflow that came last. Two at once would want each other's devices. */
let last: Promise<unknown> = Promise.resolve();

/**
 * Runs a training by a gang until it has a result, and returns that of the leader. `start` starts the activity of one
 * member. The gangs of a workflow train one after the other.
 *
 * @throws The failure of a member that no retry can mend, or the cancellation of the caller.
 */
export function byGang<T>(options: GangOptions, start: (member: GangMember) => Promise<T>): Promise<T> {
  const training = last.then(() => trained(options, start));
  last = training.catch(() => undefined);
  return training;
}

async function trained<T>(options: GangOptions, start: (member: GangMember) => Promise<T>): Promise<T> {
  listen();
  let [failed, missing] = [0, 0];
  let seen = { text: '', progress: -1, times: 0 };
  for (;;) {
    const outcome = await attempt(options, start);
    if ('result' in outcome) return outcome.result;
    const { failures } = outcome;
    const final = failures.find(isFinal);
    if (final) throw final;
    if (CancellationScope.current().consideredCancelled)
      throw failures.find(isCancellation) ?? new CancelledFailure('the gang was cancelled');
    const progress = options.progress();
    if (progress > seen.progress) failed = 0;
    const unknown = failures.map(unknownText).find((text) => text !== undefined);
    const times = unknown === seen.text && progress === seen.progress ? seen.times + 1 : 1;
    seen = { text: unknown ?? '', progress, times };
    if (unknown !== undefined && times >= IDENTICAL_FAILURES)
      throw ApplicationFailure.create({
        type: 'RepeatedFailure',
        nonRetryable: true,
        message: `${unknown} (the same ${times} times in a row, without progress)`,
      });
    log.warn('the gang begins again', { failures: failures.map(String) });
    if (failures.some(wasNotTaken)) {
      await sleep(1000 * Math.random() * options.waitSeconds * 2 ** Math.min(missing, MOST_DOUBLINGS));
      missing += 1;
    } else {
      await sleep(1000 * Math.min(2 ** failed, LONGEST_PAUSE_SECONDS));
      failed += 1;
      missing = 0;
    }
  }
}

/** One attempt: the leader's result, or why there is none. All activities have ended when it returns. */
async function attempt<T>(
  { members, waitSeconds }: GangOptions,
  start: (member: GangMember) => Promise<T>,
): Promise<{ result: T } | { failures: Error[] }> {
  const about: { token: string; leader?: GangLeader['leader'] } = { token: uuid4() };
  running = about;
  const scope = new CancellationScope();
  const activities: Promise<T>[] = [];
  const begin = (member: number): Promise<T> => {
    const { token, leader } = about;
    const activity = start({ token, member, members, waitSeconds, ...(member > 0 && leader ? { leader } : {}) });
    activities.push(activity);
    activity.catch(() => undefined);
    return activity;
  };
  await scope
    .run(async () => {
      const leader = begin(0);
      // A result that is in the store needs no other members.
      await Promise.race([leader, condition(() => about.leader !== undefined)]);
      if (!about.leader) return;
      const others = Array.from({ length: members - 1 }, (_, index) => begin(index + 1));
      // The others end with the leader, or fail.
      await Promise.race([leader, Promise.all(others).then(() => leader)]);
    })
    .catch(() => undefined);
  scope.cancel();
  // What is cancelled is waited for: the leader may store a last checkpoint, and an attempt begins when no member of the
  // one before holds a device.
  const [leader, ...others] = await CancellationScope.nonCancellable(() => Promise.allSettled(activities));
  running = undefined;
  if (leader?.status === 'fulfilled') return { result: leader.value };
  return {
    failures: [leader, ...others].flatMap((each) => (each?.status === 'rejected' ? [each.reason as Error] : [])),
  };
}

function causeOf(failure: unknown): unknown {
  return failure instanceof ActivityFailure ? failure.cause : failure;
}

/** Whether no further attempt can mend it. */
function isFinal(failure: unknown): boolean {
  const cause = causeOf(failure);
  return cause instanceof ApplicationFailure && cause.nonRetryable === true;
}

/** Whether no worker has taken a member's activity in time. */
function wasNotTaken(failure: unknown): boolean {
  const cause = causeOf(failure);
  return cause instanceof TimeoutFailure && cause.timeoutType === 'SCHEDULE_TO_START';
}

/** The text of an error that has no class; undefined for all others. */
function unknownText(failure: unknown): string | undefined {
  const cause = causeOf(failure);
  if (!(cause instanceof ApplicationFailure) || Object.hasOwn(FAILURES, cause.type ?? '')) return undefined;
  return `${cause.type ?? 'Error'}: ${cause.message}`;
}
