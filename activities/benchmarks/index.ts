/** The benchmarks: a new one is a file of this room and a line of this list. */
import { bigcodebench } from './bigcodebench.js';
import { humanevalPlus, mbppPlus } from './evalplus.js';
import { heldOut } from './held-out.js';
import { humaneval } from './humaneval.js';
import { livecodebench } from './livecodebench.js';
import { mbpp } from './mbpp.js';
import { ownTasks } from './own-tasks.js';

export const BENCHMARKS = [
  heldOut,
  humaneval,
  mbpp,
  humanevalPlus,
  mbppPlus,
  bigcodebench,
  livecodebench,
  ownTasks,
] as const;
