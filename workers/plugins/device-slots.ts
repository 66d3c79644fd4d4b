/**
 * The slots of a GPU worker. What an activity holds is the device: the next task is taken when the one before has left the
 * device ({@link leaveDevice}), not when it has stored what it made. Gigabytes of weights go to the store while the device
 * already works on what comes next. No task is taken while the device is busy: another worker's may be idle.
 */
import type {
  ActivitySlotInfo,
  CustomSlotSupplier,
  SlotPermit,
  SlotReserveContext,
  WorkerTuner,
} from '@temporalio/worker';

/** Activities of a worker at once: one on the device, one that stores. What is stored takes room on the disk until then. */
const MOST_AT_ONCE = 2;

export class DeviceSlots implements CustomSlotSupplier<ActivitySlotInfo> {
  readonly type = 'custom';
  /** Permits that are out, those of waiting polls included. */
  #held = 0;
  /** Activities that have left the device and still store. */
  #storing = 0;
  readonly #waiting = new Set<() => void>();

  /** For the options of a worker: all else is as Temporal has it by default. */
  get tuner(): WorkerTuner {
    const fixed = (numSlots: number) => ({ type: 'fixed-size', numSlots }) as const;
    return {
      activityTaskSlotSupplier: this,
      workflowTaskSlotSupplier: fixed(40),
      localActivityTaskSlotSupplier: fixed(100),
      nexusTaskSlotSupplier: fixed(100),
    };
  }

  /** Notes that an activity has left the device; the function that is returned, that it has ended. */
  leave(): () => void {
    this.#storing += 1;
    this.#wake();
    return () => {
      this.#storing -= 1;
    };
  }

  reserveSlot(_context: SlotReserveContext, signal: AbortSignal): Promise<SlotPermit> {
    return new Promise((resolve, reject) => {
      const attempt = (): void => {
        const permit = this.tryReserveSlot();
        if (permit) settle(() => resolve(permit));
      };
      const abort = (): void => settle(() => reject(signal.reason as Error));
      const settle = (how: () => void): void => {
        this.#waiting.delete(attempt);
        signal.removeEventListener('abort', abort);
        how();
      };
      this.#waiting.add(attempt);
      signal.addEventListener('abort', abort, { once: true });
      if (signal.aborted) abort();
      else attempt();
    });
  }

  tryReserveSlot(): SlotPermit | null {
    if (this.#held >= MOST_AT_ONCE || this.#held - this.#storing >= 1) return null;
    this.#held += 1;
    return {};
  }

  markSlotUsed(): void {
    // A permit counts from the poll on.
  }

  releaseSlot(): void {
    this.#held -= 1;
    this.#wake();
  }

  #wake(): void {
    for (const attempt of [...this.#waiting]) attempt();
  }
}
