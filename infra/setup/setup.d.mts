import type { StoreName } from './store-choice.mjs';
import type { TemporalName } from './temporal-choice.mjs';

export function setup(options?: {
  quiet?: boolean;
  python?: boolean;
  vllm?: boolean;
  vllmCpu?: boolean;
  libraries?: string | undefined;
  store?: StoreName | undefined;
  temporal?: TemporalName | undefined;
}): Promise<void>;
export function fail(error: Error): never;
