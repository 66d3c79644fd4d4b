/**
 * The slots of a GPU worker. An activity holds the device. The next task is taken when the activity has left the device
 * (`leaveDevice`), not when it has stored its result: gigabytes of weights go to the store while the device works on
 * the next task. No task is taken while the device is busy, because another worker's device may be idle.
 */
import type {
  ActivitySlotInfo,
  CustomSlotSupplier,
  SlotPermit,
  SlotReserveContext,
  WorkerTuner,
} from '@temporalio/worker';

/** Activities of a worker at once: one on the device, one that stores. A third would need disk for another result. */
const MOST_AT_ONCE = 2;

export class DeviceSlots implements CustomSlotSupplier<ActivitySlotInfo> {
  readonly type = 'custom';
  /** Permits in use, those of waiting polls included. */
  #held = 0;
  /** Activities that have left the device and still store. */
  #storing = 0;
  readonly #waiting = new Set<() => void>();

  /** For the options of a worker. Other slots have Temporal's defaults. */
  get tuner(): WorkerTuner {
    const fixed = (numSlots: number) => ({ type: 'fixed-size', numSlots }) as const;
    return {
      activityTaskSlotSupplier: this,
      workflowTaskSlotSupplier: fixed(40),
      localActivityTaskSlotSupplier: fixed(100),
      nexusTaskSlotSupplier: fixed(100),
    };
  }

  /** Notes that an activity has left the device. Call the returned function when the activity has ended. */
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
