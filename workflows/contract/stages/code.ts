/** Source files that decide the results of steps in several stages; an entry that ends with `/` is a folder. */

/** How a policy is asked and answers. */
export const SAMPLE = [
  'activities/languages/',
  'activities/policy/prompt.ts',
  'activities/policy/generate.ts',
  'workers/runtime/sampling.py',
  'workers/runtime/samples.py',
  'workers/runtime/models.py',
  'workers/runtime/conversation.py',
  'workers/vllm_engine/engines.py',
  'workers/vllm_engine/sampling.py',
] as const;

/** How a source that is no policy is asked and answers. */
export const SOURCE = [
  'activities/languages/',
  'activities/policy/prompt.ts',
  'activities/policy/source.ts',
  'activities/policy/sources/',
] as const;

/** How an answer becomes a program. */
export const PROGRAMS = ['activities/endpoint/thoughts.ts', 'activities/policy/programs.ts'] as const;

/** How programs are judged. */
export const JUDGE = [
  'activities/execution/execution.ts',
  'workers/sandbox/asserts.py',
  'workers/sandbox/spelling.py',
  'workers/sandbox/checkers.py',
  'workers/sandbox/suites.py',
  'workers/sandbox/verdicts.py',
  'workers/sandbox/inside/',
] as const;

/** Which programs solve which problems of benchmarks. */
export const CONTAMINATION = ['activities/contamination/', 'workers/sent/record.py', 'workers/sent/screen.py'] as const;
