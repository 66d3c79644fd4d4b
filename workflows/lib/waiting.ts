/**
 * Work that nobody takes. An activity on a queue without workers waits in silence: the workflow sees neither its start
 * nor a failure. So next to the calls on a queue runs a timer. Where nothing has come back when it fires, the server is
 * asked who serves the queue, and the details say what is waited for.
 */
import { CancellationScope, isCancellation, log, proxyActivities, sleep, workflowInfo } from '@temporalio/workflow';
import { HEARTBEAT_TIMEOUT_SECONDS } from '../contract/index.js';
import type { queueActivities } from '../../activities/queues/activities.js';

/**
 * Time after which a queue is looked at. Each later look comes after twice the time, because it adds to the history.
 */
const FIRST_LOOK_SECONDS = 20;
const LONGEST_PAUSE_SECONDS = 3600;

interface Busy {
  calls: number;
  /** Whether a call has come back since the last look. */
  moved: boolean;
  /** In milliseconds since 1970. */
  since: number;
  unserved?: string | undefined;
  scope: CancellationScope;
}

const busy = new Map<string, Busy>();
let listener: (waitsFor: string | undefined) => void = () => undefined;

/** Takes what the workflow waits for, a sentence, whenever it changes; undefined where workers serve every queue. */
export function onWaiting(listen: (waitsFor: string | undefined) => void): void {
  listener = listen;
}

/** Who serves queues, by the server. */
export const queuesServed: ReturnType<typeof queueActivities>['queues.served'] = (input) =>
  proxyActivities<ReturnType<typeof queueActivities>>({
    startToCloseTimeout: '1 minute',
    heartbeatTimeout: `${HEARTBEAT_TIMEOUT_SECONDS}s`,
    summary: 'look who serves the queues',
  })['queues.served'](input);

/** Runs a call on a queue, and looks after the queue until it comes back. */
export async function lookingAfter<T>(queue: string, call: () => Promise<T>): Promise<T> {
  // The workflow itself runs on this queue's workers.
  if (queue === workflowInfo().taskQueue) return call();
  const state = busy.get(queue) ?? start(queue);
  state.calls += 1;
  try {
    return await call();
  } finally {
    state.calls -= 1;
    state.moved = true;
    if (state.unserved !== undefined) {
      state.unserved = undefined;
      tell();
    }
    if (state.calls === 0) {
      busy.delete(queue);
      state.scope.cancel();
    }
  }
}

function start(queue: string): Busy {
  // A cancellation of one caller ends its call alone. The look-out ends with the last call.
  const parent = new CancellationScope({ cancellable: false });
  const scope = new CancellationScope({ cancellable: true, parent });
  const state: Busy = { calls: 0, moved: false, since: Date.now(), scope };
  busy.set(queue, state);
  state.scope
    .run(() => lookOut(queue, state))
    .catch((error: unknown) => {
      if (!isCancellation(error)) throw error;
    });
  return state;
}

async function lookOut(queue: string, state: Busy): Promise<void> {
  for (let seconds = FIRST_LOOK_SECONDS; ; seconds = Math.min(2 * seconds, LONGEST_PAUSE_SECONDS)) {
    state.moved = false;
    state.since = Date.now();
    await sleep(`${seconds} seconds`, { summary: `whether work on ${queue} is taken` });
    if (state.moved) continue;
    const answer = await queuesServed({ queues: [queue] }).catch((error: unknown) => {
      if (isCancellation(error)) throw error;
      log.warn('nobody could say who serves the queue', { queue, error });
    });
    // Nobody waits for this look-out: an error that left it would fail every workflow task from then on.
    if (!answer) continue;
    const { unserved, served } = answer;
    const text = unserved.includes(queue) ? waitingText(queue, state.since, served) : undefined;
    if (text === state.unserved) continue;
    state.unserved = text;
    tell();
  }
}

/**
 * What is waited for, and what there is instead.
 *
 * @example
 * waitingText('acecoder-gpu-trian', 0, ['acecoder-gpu-train']);
 * // 'waits for a worker on acecoder-gpu-trian since 1970-01-01 00:00:00 UTC; workers serve acecoder-gpu-train'
 */
function waitingText(queue: string, since: number, served: readonly string[]): string {
  const at = new Date(since).toISOString().slice(0, 19).replace('T', ' ');
  const others = served.length > 0 ? `; workers serve ${served.slice(0, 10).join(', ')}` : '';
  return `waits for a worker on ${queue} since ${at} UTC${others}`;
}

function tell(): void {
  const texts = [...busy.values()].flatMap(({ unserved }) => unserved ?? []);
  listener(texts.length > 0 ? texts.join('; ') : undefined);
}
