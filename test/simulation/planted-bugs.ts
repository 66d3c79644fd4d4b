/**
 * Bugs that are planted on purpose, to show that the simulation finds them. Some change what activities do; others
 * change the text of the workflow bundle.
 */
import type { Replacement } from './workflow-vm.js';

interface Bug {
  what: string;
  /** In the bundle; absent: in the modelled activities. */
  replacement?: Replacement;
}

export const BUGS = {
  cursorAhead: { what: 'a checkpoint says one step more than was trained' },
  stepTwiceOnResume: { what: 'a training that goes on applies its last step again' },
  hashByArrival: { what: 'a reward depends on which of verdicts and scores arrived first' },
  staleRewards: { what: 'an update reads the newest reward file, not that of its round' },
  storeOverwrites: { what: 'the store makes again what it has' },
  seedOfAttempt: { what: 'rollouts depend on the attempt' },
  planWithoutRound: { what: 'the key of a plan lacks the round' },
  checkpointOfAnotherUpdate: { what: 'checkpoints have one name for all updates' },
  shardsCountedByAttempt: { what: 'a shard that is done twice counts twice' },
  rowsOfAttempt: { what: 'the rows of a shard depend on the attempt' },
  prunesNeeded: { what: 'a prune takes what the stage still reads' },
} as const satisfies Record<string, Bug>;
export type BugName = keyof typeof BUGS;
