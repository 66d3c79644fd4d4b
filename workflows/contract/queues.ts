/** Task queues. */

/**
 * Task queues by the kind of worker that serves them. `gpu` has variants for device classes: see {@link queueName}.
 *
 * @example
 * ```ts
 * import { QUEUES } from 'acecoder-temporal/contract';
 *
 * console.log(QUEUES.gpu); // 'acecoder-gpu'
 * ```
 */
export const QUEUES = {
  pipeline: 'acecoder',
  llm: 'acecoder-llm',
  sandbox: 'acecoder-sandbox',
  gpu: 'acecoder-gpu',
} as const;
export type QueueRole = keyof typeof QUEUES;

/**
 * Names of the task queues of one deployment; `base` is `acecoder` unless two deployments share a namespace.
 *
 * @example
 * ```ts
 * import { queueName } from 'acecoder-temporal/contract';
 *
 * queueName('gpu', 'acecoder', 'train'); // 'acecoder-gpu-train'
 * ```
 */
export function queueName(role: QueueRole, base: string = QUEUES.pipeline, deviceClass?: string): string {
  const name = role === 'pipeline' ? base : `${base}-${role}`;
  return deviceClass === undefined ? name : `${name}-${deviceClass}`;
}
