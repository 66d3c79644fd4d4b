/** The benchmarks: a new one is a file of this room and a line of this list. */
import { heldOut } from './held-out.js';
import { humaneval } from './humaneval.js';
import { mbpp } from './mbpp.js';

export const BENCHMARKS = [heldOut, humaneval, mbpp] as const;
