/** The document that says that files of an artifact were pruned: what readers, pruning and garbage collection share. */
import { z } from 'zod';

/** Parts of an artifact that can be pruned: the folder of the optimizer's state alone, or every file. */
export type Part = 'trainingState' | 'all';

/** Why a part of an artifact was pruned, and what a reader who needs it can do. */
export const PrunedDocument = z.object({
  workflowId: z.string(),
  at: z.string(),
  policy: z.string(),
  advice: z.string(),
});
export type PrunedDocument = z.infer<typeof PrunedDocument>;
