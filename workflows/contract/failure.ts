import type { FailureType } from './names.js';

/**
 * A failure of a known class, thrown by logic that knows nothing of Temporal; the activity interceptor turns it into an
 * `ApplicationFailure` of that type. The message names the value and what to do.
 *
 * @example
 * ```ts
 * import { StageFailure } from 'acecoder-temporal/contract';
 *
 * throw new StageFailure('InvalidExperiment', 'samples is 0; give 1 or more');
 * ```
 */
export class StageFailure extends Error {
  readonly details: unknown[];

  /** @param options.details what a workflow reads to act on the failure, such as the key of an artifact. */
  constructor(
    readonly type: FailureType,
    message: string,
    options?: ErrorOptions & { details?: unknown[] },
  ) {
    super(message, options);
    this.name = type;
    this.details = options?.details ?? [];
  }
}
