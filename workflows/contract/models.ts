/** Where models come from. */
import { z } from 'zod';
import { ArtifactRef } from './artifacts.js';
import { FileBelow, HubId, HubRevision, PackageName } from './safe-text.js';

const GgufModel = z.strictObject({
  kind: z.literal('gguf').describe('a GGUF file inside an installed Python package'),
  package: PackageName.describe('import name of the Python package'),
  file: FileBelow.describe('file inside the package'),
});
const GgufFileModel = z.strictObject({
  kind: z.literal('ggufFile').describe('a GGUF file on the GPU worker, in one part or several'),
  paths: z
    .array(z.string().min(1))
    .min(1)
    .max(1000)
    .describe('paths on the GPU worker: the file, or its parts in order, of `gguf-split` or pieces of one file'),
});
const HubModel = z.strictObject({
  kind: z.literal('hub').describe('a model of the Hugging Face hub'),
  id: HubId.describe('id, such as Qwen/Qwen2.5-Coder-0.5B-Instruct'),
  revision: HubRevision.describe('branch, tag or commit; a commit is the only one that never moves'),
});
const FolderModel = z.strictObject({
  kind: z
    .literal('folder')
    .describe('a Hugging Face folder with config.json, *.safetensors and a tokenizer with chat template'),
  path: z
    .string()
    .min(1)
    .describe('path on the GPU worker: absolute, or relative to its working folder or the package'),
});
const ModelRef = ArtifactRef.extend({
  kind: z.enum(['model', 'policy']).describe('a model that was imported, or a policy that RL trained'),
});
const ArtifactModel = z.strictObject({
  kind: z.literal('artifact').describe('a model that stands in the store'),
  ref: ModelRef.describe('reference to the model'),
});

/**
 * Where a model comes from. It becomes an artifact before any stage uses it, so that its digest is an input of the key.
 */
export const ModelSource = z.discriminatedUnion('kind', [
  GgufModel,
  GgufFileModel,
  HubModel,
  FolderModel,
  ArtifactModel,
]);
export type ModelSource = z.infer<typeof ModelSource>;

/**
 * What a stage that is started alone accepts as a policy or backbone: a reference, or a source that is imported first.
 */
export const ModelInput = z.discriminatedUnion('kind', [
  GgufModel,
  GgufFileModel,
  HubModel,
  FolderModel,
  ArtifactModel,
  ModelRef,
]);
export type ModelInput = z.infer<typeof ModelInput>;
