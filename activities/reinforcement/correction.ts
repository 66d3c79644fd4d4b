/**
 * Whether the loss of a round corrects for rollouts of another distribution than the trainer's. An older policy wrote
 * the rollouts of asynchronous rounds. In synchronous rounds the sampler may compute otherwise than the trainer: vLLM
 * has kernels of its own, and on a GPU the runtime samples in bfloat16 and trains float32 weights.
 */
import type { ReinforcementConfig } from '../../workflows/contract/index.js';

/** Why importance weights are taken; `none`: they are not. */
export type Correction = 'asynchronous' | 'setting' | 'engine' | 'dtype' | 'none';

/** Cap of importance weights where the settings name none; that of `asynchronous`. */
const CAP = 2;

type Settings = Pick<ReinforcementConfig, 'asynchronous' | 'importanceCap' | 'engine' | 'topP'>;

/**
 * Whether rollouts need the log-probabilities of their sampler, on a device: `cpu` or the name of a GPU. Below `topP` 1
 * they are those of the whole vocabulary and not of the nucleus, from which the sampler draws, so that no weight could
 * be made of them. The settings then refuse weights, and none are taken by themselves.
 *
 * @example
 * wantsLogProbabilities({ asynchronous: null, engine: 'transformers', topP: 1 }, 'cpu'); // false
 */
export function wantsLogProbabilities(
  { asynchronous, importanceCap, engine, topP }: Settings,
  device: string,
): boolean {
  if (asynchronous !== null || typeof importanceCap === 'number') return true;
  return importanceCap === undefined && topP === 1 && (engine !== 'transformers' || device !== 'cpu');
}

/**
 * The correction of an update, and the cap of its weights, by the settings and whether the rollouts carry
 * log-probabilities. Where they do by themselves, engine or device has made them.
 *
 * @example
 * correctionOf({ asynchronous: null, engine: 'vllm', topP: 1 }, true); // { why: 'engine', cap: 2 }
 */
export function correctionOf(
  { asynchronous, importanceCap, engine }: Settings,
  carried: boolean,
): { why: Correction; cap?: number } {
  if (asynchronous !== null) return { why: 'asynchronous', cap: asynchronous.importanceCap };
  if (typeof importanceCap === 'number') return { why: 'setting', cap: importanceCap };
  if (importanceCap === null || !carried) return { why: 'none' };
  return { why: engine === 'transformers' ? 'dtype' : 'engine', cap: CAP };
}
