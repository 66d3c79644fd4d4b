/** Which checkpoints go to the store: few enough not to slow a training, and the newest where it ends badly. */
import { describe, expect, it } from 'vitest';
import { CheckpointSending } from '../../activities/runtime/checkpoints.js';

/** A sending on a clock of its own; `sent` holds steps, `sendingSeconds` is what all of them took. */
function simulated(secondsOf: (step: number) => number) {
  let milliseconds = 0;
  const sent: number[] = [];
  let sendingSeconds = 0;
  const sending = new CheckpointSending(async ({ step }) => {
    const seconds = secondsOf(step);
    if (!Number.isFinite(seconds)) throw new Error(`no room for step ${step}`);
    milliseconds += 1000 * seconds;
    sendingSeconds += seconds;
    sent.push(step);
  }, () => milliseconds);
  return {
    sending, sent,
    pass: (seconds: number): void => { milliseconds += 1000 * seconds; },
    share: (): number => sendingSeconds / (milliseconds / 1000),
  };
}

const at = (step: number) => ({ step, path: `/checkpoints/${step}` });

describe('the sending of checkpoints', () => {
  it.each([[0.1, 1], [4, 10], [30, 10], [4, 600]])('that take %d s, one every %d s, takes a twentieth of the time at most, the first one aside', async (seconds, between) => {
    const { sending, sent, pass, share } = simulated(() => seconds);
    const steps = Math.ceil(40 * Math.max(1, (20 * seconds) / between));
    for (let step = 1; step <= steps; step += 1) {
      pass(between);
      await sending.take(at(step));
    }
    expect(sent[0]).toBe(1);
    expect(sent.length).toBeGreaterThan(10);
    expect(share()).toBeLessThanOrEqual(0.05 * (1 + 1 / sent.length) + 0.05 / sent.length);
  });

  it('sends all of them where that costs little', async () => {
    const { sending, sent, pass } = simulated(() => 1);
    for (const step of [1, 2, 3]) {
      pass(100);
      await sending.take(at(step));
    }
    expect(sent).toEqual([1, 2, 3]);
  });

  it('sends the newest in the end, once', async () => {
    const { sending, sent, pass } = simulated(() => 4);
    for (const step of [1, 2, 3]) {
      pass(5);
      await sending.take(at(step));
    }
    await sending.sendNewest();
    await sending.sendNewest();
    expect(sent).toEqual([1, 3]);
  });

  it('of none sends nothing, and a failed one is sent by the next chance', async () => {
    let room = false;
    const { sending, sent, pass } = simulated(() => (room ? 1 : Infinity));
    await sending.sendNewest();
    await expect(sending.take(at(1))).rejects.toThrow('no room for step 1');
    room = true;
    pass(1);
    await sending.sendNewest();
    expect(sent).toEqual([1]);
  });
});
