/**
 * When a worker with a device takes its next task: as soon as the device is free, never before, and never without an
 * end.
 */
import { describe, expect, it } from 'vitest';
import { DeviceSlots } from './device-slots.js';

const context = {
  slotType: 'activity',
  taskQueue: 'queue',
  workerIdentity: 'worker',
  workerBuildId: '',
  isSticky: false,
} as const;

/** Whether a reservation that is waited for has been granted by now. */
async function granted(reservation: Promise<unknown>): Promise<boolean> {
  return Promise.race([
    reservation.then(() => true),
    new Promise<false>((resolve) => setImmediate(() => resolve(false))),
  ]);
}

const never = new AbortController().signal;

describe('the slots of a worker with a device', () => {
  it('are one while an activity works on the device', async () => {
    const slots = new DeviceSlots();
    expect(await granted(slots.reserveSlot(context, never))).toBe(true);
    const [second, third] = [slots.reserveSlot(context, never), slots.reserveSlot(context, never)];
    expect([await granted(second), slots.tryReserveSlot()]).toEqual([false, null]);
    slots.releaseSlot();
    expect([await granted(second), await granted(third)]).toEqual([true, false]);
  });

  it('let the next one in when the first has left the device, and a third when one of them has ended', async () => {
    const slots = new DeviceSlots();
    await slots.reserveSlot(context, never);
    const second = slots.reserveSlot(context, never);
    const endFirst = slots.leave();
    expect(await granted(second)).toBe(true);
    const third = slots.reserveSlot(context, never);
    const endSecond = slots.leave();
    expect(await granted(third)).toBe(false);
    endFirst();
    expect(await granted(third)).toBe(false);
    slots.releaseSlot();
    expect(await granted(third)).toBe(true);
    endSecond();
    slots.releaseSlot();
    expect(slots.tryReserveSlot()).toBeNull();
    slots.releaseSlot();
    expect(slots.tryReserveSlot()).toEqual({});
  });

  it('keep one on the device when one that stores ends first or last', async () => {
    const slots = new DeviceSlots();
    await slots.reserveSlot(context, never);
    const end = slots.leave();
    expect(slots.tryReserveSlot()).toEqual({});
    end();
    slots.releaseSlot();
    expect(slots.tryReserveSlot()).toBeNull();
  });

  it('forget a reservation that is not wanted any more', async () => {
    const slots = new DeviceSlots();
    await slots.reserveSlot(context, never);
    const abort = new AbortController();
    const unwanted = slots.reserveSlot(context, abort.signal);
    const reason = new Error('shutting down');
    abort.abort(reason);
    await expect(unwanted).rejects.toBe(reason);
    await expect(slots.reserveSlot(context, abort.signal)).rejects.toBe(reason);
    slots.releaseSlot();
    expect(slots.tryReserveSlot()).toEqual({});
  });
});
