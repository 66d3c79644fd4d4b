/** Which checkpoints go to the store: few enough not to slow a training, and the newest where it ends badly. */
import { describe, expect, it } from 'vitest';
import { CheckpointSending, SENDING_SHARE } from './checkpoints.js';

/** A sending on a clock of its own; `sent` holds steps, `sendingSeconds` is what all of them took. */
function simulated({
  secondsOf,
  share = 0.05,
  gibibytes = 0,
}: {
  secondsOf: (step: number) => number;
  share?: number;
  gibibytes?: number;
}) {
  let milliseconds = 0;
  const sent: number[] = [];
  let sendingSeconds = 0;
  const sending = new CheckpointSending(
    async ({ step }) => {
      const seconds = secondsOf(step);
      if (!Number.isFinite(seconds)) throw new Error(`no room for step ${step}`);
      milliseconds += 1000 * seconds;
      sendingSeconds += seconds;
      sent.push(step);
    },
    async ({ path }) => {
      if (path === GONE) throw new Error('no such folder');
      return gibibytes * 1024 ** 3;
    },
    share,
    () => milliseconds,
  );
  return {
    sending,
    sent,
    pass: (seconds: number): void => {
      milliseconds += 1000 * seconds;
    },
    taken: (): number => sendingSeconds / (milliseconds / 1000),
  };
}

const GONE = '/checkpoints/gone';
const at = (step: number) => ({ step, path: `/checkpoints/${step}` });

describe('the sending of checkpoints', () => {
  it.each(
    Object.values(SENDING_SHARE).flatMap((share) =>
      [
        [0.1, 1],
        [4, 10],
        [30, 10],
        [4, 600],
      ].map(([seconds, between]) => [seconds!, between!, share] as const),
    ),
  )('that take %d s, one every %d s, takes %d of the time at most', async (seconds, between, share) => {
    const { sending, sent, pass, taken } = simulated({ secondsOf: () => seconds, share, gibibytes: seconds });
    const steps = Math.ceil(40 * Math.max(1, seconds / share / between));
    for (let step = 1; step <= steps; step += 1) {
      pass(between);
      await sending.take(at(step));
      expect(taken()).toBeLessThanOrEqual(share);
    }
    expect(sent.length).toBeGreaterThan(30);
  });

  it('begins when a fast store would take so little, and then goes by what it took', async () => {
    const { sending, sent, pass } = simulated({ secondsOf: () => 4, gibibytes: 1 });
    for (let step = 1; step <= 50; step += 1) {
      pass(10);
      await sending.take(at(step));
    }
    // 1 s is a twentieth of 20 s; two times 4 s are one of 160 s.
    expect(sent).toEqual([2, 16, 24, 31, 39, 46]);
  });

  it('sends all of them where that costs little', async () => {
    const { sending, sent, pass } = simulated({ secondsOf: () => 1 });
    for (const step of [1, 2, 3]) {
      pass(100);
      await sending.take(at(step));
    }
    expect(sent).toEqual([1, 2, 3]);
  });

  it('sends the newest in the end, once', async () => {
    const { sending, sent, pass } = simulated({ secondsOf: () => 4 });
    for (const step of [1, 2, 3]) {
      pass(5);
      await sending.take(at(step));
    }
    await sending.sendNewest();
    await sending.sendNewest();
    expect(sent).toEqual([1, 3]);
  });

  it('of none sends nothing, and one that fails is said and followed by the next one', async () => {
    let room = false;
    const { sending, sent, pass } = simulated({ secondsOf: () => (room ? 1 : Infinity) });
    await sending.sendNewest();
    await sending.take(at(1));
    expect([sent, sending.trouble]).toEqual([[], 'the checkpoint of step 1 is not stored: no room for step 1']);
    await sending.take({ step: 2, path: GONE });
    expect([sent, sending.trouble]).toEqual([[], 'the checkpoint of step 2 is not stored: no room for step 2']);
    room = true;
    pass(1);
    await sending.sendNewest();
    expect([sent, sending.trouble]).toEqual([[2], undefined]);
  });
});
