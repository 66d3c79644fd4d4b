/**
 * Policies of RL rounds that are low-rank adapters: which model lies below them, and where both are on this host. The
 * activities of RL call it. The merged policy that a stage ends with is a whole model like any other.
 */
import { ArtifactRef } from '../../workflows/contract/index.js';
import type { Services } from '../runtime/services.js';

/** File that makes a folder one of adapters. */
const ADAPTERS_FILE = 'adapter_model.safetensors';

/** Folders of a policy on this host. */
export interface PolicyFolders {
  /** A whole model. */
  model: string;
  /** The adapters on top of it. */
  adapter?: string;
}

/**
 * Puts a policy onto this host, together with the model below its adapters where it has some.
 *
 * @throws StageFailure as `store.materialise` does, for either of them.
 */
export async function materialisePolicy(
  store: Pick<Services['store'], 'manifest' | 'materialise'>,
  ref: ArtifactRef,
  options: { trainingState?: boolean } = {},
): Promise<PolicyFolders> {
  const { files, inputs } = await store.manifest(ref);
  const folder = await store.materialise(ref, options);
  if (!files.some(({ name }) => name === ADAPTERS_FILE)) return { model: folder };
  // An update with adapters never moves its reference, so that this is the model that they were put onto.
  return { model: await store.materialise(ArtifactRef.parse(inputs['reference'])), adapter: folder };
}
