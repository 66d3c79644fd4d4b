/** What ends an activity that stands still, and what does not; how long failures wait for their next attempt. */
import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import { StageFailure, type FailureType } from '../../workflows/contract/index.js';
import { cancellationSignal, moved, reportProgress, waitingForChild } from './context.js';
import { Attempt, failureOf } from '../../test/fixtures/attempt.js';
import { activityInterceptor, movementLimits } from './interceptor.js';

const ever = (): Promise<never> => new Promise(() => undefined);
const until = (milliseconds: number): Promise<void> => new Promise((done) => setTimeout(done, milliseconds));

describe('an activity that stands still', () => {
  it('is ended by its signal, fails as Stalled, and is tried again', async () => {
    const attempt = new Attempt({ graceSeconds: 3600 });
    const error = await failureOf(
      attempt.run(
        () =>
          new Promise((_, reject) => {
            const signal = cancellationSignal();
            signal.addEventListener('abort', () => reject(new Error('the request was cut off')));
          }),
      ),
    );
    expect(error).toBeInstanceOf(ApplicationFailure);
    expect(error).toMatchObject({ type: 'Stalled', nonRetryable: false });
    expect((error as Error).message).toContain('filtering.judge: nothing has moved for 0.3 s (ACECODER_IDLE_SECONDS)');
    const { beats } = attempt;
    await until(100);
    expect(attempt.beats).toBe(beats);
  });

  it('and does not hear of it, is left alone after the grace time', async () => {
    expect(await failureOf(new Attempt().run(ever))).toMatchObject({ type: 'Stalled' });
  });

  it('while it waits for a child process, is ended although the worker is busy with other work', async () => {
    const attempt = new Attempt();
    let busy = true;
    const others = (async () => {
      while (busy) {
        const end = performance.now() + 18;
        while (performance.now() < end);
        await until(2);
      }
    })();
    const hung = failureOf(attempt.run(() => waitingForChild(ever())));
    expect(await hung).toMatchObject({ type: 'Stalled' });
    busy = false;
    await others;
  });

  it('but for CPU time of its child process, is given longer, and not for ever', async () => {
    const attempt = new Attempt({ silent: 0.6 });
    const computing = attempt.run(async () => {
      for (;;) {
        await until(20);
        moved({ byCpu: true });
      }
    });
    expect(await failureOf(computing)).toMatchObject({
      type: 'Stalled',
      message: expect.stringContaining('0.6 s') as string,
    });
  });
});

describe('an activity with many requests at once', () => {
  it('is not taken for a leak by Node', async () => {
    const warnings: Error[] = [];
    const warned = (warning: Error): unknown => warnings.push(warning);
    process.on('warning', warned);
    try {
      await new Attempt().run(() => {
        for (let request = 0; request < 32; request += 1)
          cancellationSignal().addEventListener('abort', () => undefined, { once: true });
        return until(20);
      });
    } finally {
      process.off('warning', warned);
    }
    expect(warnings.map(({ name }) => name)).toEqual([]);
  });
});

describe('an activity that is told to end', () => {
  it('and does not, is left alone with the reason, so that its slot is free', async () => {
    const attempt = new Attempt({ idle: 3600, silent: 3600 });
    const running = failureOf(attempt.run(ever));
    const reason = new CancelledFailure('CANCELLED');
    attempt.cancelled.abort(reason);
    expect(await running).toBe(reason);
  });
});

describe('an activity that moves', () => {
  it.each<[string, () => Promise<unknown>]>([
    [
      'by bytes or progress',
      async () => {
        for (let turn = 0; turn < 60; turn += 1) {
          await until(20);
          moved();
        }
      },
    ],
  ])('%s, goes on', async (_, work) => {
    const attempt = new Attempt({ idle: 1.2, silent: 1.2 });
    expect(await failureOf(attempt.run(work))).toBeUndefined();
    expect(attempt.beats).toBeGreaterThan(1);
  });

  it('is not ended because its thread was busy or its host was asleep', async () => {
    const attempt = new Attempt();
    const working = attempt.run(async () => {
      const end = performance.now() + 1000;
      while (performance.now() < end);
      await until(30);
    });
    expect(await failureOf(working)).toBeUndefined();
  });
});

describe('the next attempt', () => {
  /** The pauses that one worker asks for, one failure after another. */
  async function pauses(type: FailureType, failures: { attempt?: number; done?: number }[]): Promise<unknown[]> {
    const worker = activityInterceptor({ graceSeconds: 45, limits: { idle: 60, silent: 60 } });
    const asked: unknown[] = [];
    for (const { attempt, done } of failures) {
      const work = (): Promise<never> => {
        if (done !== undefined) reportProgress({ done, total: 9 });
        return Promise.reject(new StageFailure(type, 'away'));
      };
      const error = await failureOf(new Attempt({ worker, ...(attempt ? { attempt } : {}) }).run(work));
      expect(error).toMatchObject({ type, nonRetryable: false });
      asked.push((error as ApplicationFailure).nextRetryDelay);
    }
    return asked;
  }
  const inARow = (times: number): { attempt: number }[] =>
    Array.from({ length: times }, (_, index) => ({ attempt: index + 1 }));

  it.each<FailureType>(['StoreUnavailable', 'DiskFull'])(
    'after %s comes later and later, up to a minute',
    async (type) => {
      expect(await pauses(type, inARow(9))).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60].map((seconds) => 1000 * seconds));
    },
  );

  it('comes after a second again once there was progress, however many attempts there were', async () => {
    const failures = [{ done: 1 }, { done: 1 }, { done: 1 }, { attempt: 40, done: 2 }, { attempt: 41, done: 2 }];
    expect(await pauses('StoreUnavailable', failures)).toEqual([1000, 2000, 4000, 1000, 2000]);
    expect(await pauses('StoreUnavailable', [{ attempt: 100 }])).toEqual([1000]);
  });

  it('is that of the workflow after any other failure', async () => {
    expect(await pauses('RuntimeLost', inARow(3))).toEqual([undefined, undefined, undefined]);
  });

  it('goes from worker to worker while builds differ, so that attempts count', async () => {
    expect(await pauses('VersionMismatch', [{ attempt: 1 }, { attempt: 4 }, { attempt: 9 }])).toEqual([
      1000, 8000, 60_000,
    ]);
  });
});

describe('an unknown error', () => {
  const broken = (text: string): Promise<never> => Promise.reject(new TypeError(text));

  it('that comes back four times in a row on one worker, without progress, is final', async () => {
    const worker = activityInterceptor({ graceSeconds: 45, limits: { idle: 60, silent: 60 } });
    const fails = (text: string, done?: number): Promise<unknown> =>
      failureOf(
        new Attempt({ worker }).run(() => {
          if (done !== undefined) reportProgress({ done, total: 9 });
          return broken(text);
        }),
      );
    for (let turn = 0; turn < 3; turn += 1) expect(await fails('x is not a function')).toBeInstanceOf(TypeError);
    // Another error, and progress, are no repetition.
    expect(await fails('y is not a function')).toBeInstanceOf(TypeError);
    for (let done = 1; done < 9; done += 1) expect(await fails('y is not a function', done)).toBeInstanceOf(TypeError);
    for (let turn = 0; turn < 3; turn += 1) expect(await fails('z')).toBeInstanceOf(TypeError);
    expect(await fails('z')).toMatchObject({
      type: 'RepeatedFailure',
      nonRetryable: true,
      message: 'TypeError: z (the same 4 times in a row, without progress)',
    });
    // An operator's retry begins to count anew.
    expect(await fails('z')).toBeInstanceOf(TypeError);
  });

  it('is counted for each worker: a worker that breaks does not end what others can do', async () => {
    for (let turn = 0; turn < 8; turn += 1)
      expect(await failureOf(new Attempt().run(() => broken('z')))).toBeInstanceOf(TypeError);
  });
});

describe('the setting of idle time', () => {
  it('is in seconds, four minutes by default, and refused where it is none', () => {
    expect(movementLimits('gpu', {})).toEqual({ idle: 240, silent: 3600 });
    expect(movementLimits('gpu', { ACECODER_IDLE_SECONDS: '60' })).toEqual({ idle: 60, silent: 900 });
    expect(movementLimits('llm', { ACECODER_IDLE_SECONDS: '60' }).idle).toBe(6 * 3600);
    for (const text of ['soon', '0', '-1'])
      expect(() => movementLimits('gpu', { ACECODER_IDLE_SECONDS: text })).toThrow(`ACECODER_IDLE_SECONDS is ${text}`);
  });
});
