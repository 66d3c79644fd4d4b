/**
 * Replies of a teacher for the project's seeds: the questions of the offline teacher, as a language model sends them.
 */
import { spawnSync } from 'node:child_process';
import { z } from 'zod';
import { deriveSeed } from '../../activities/artifacts/keys.js';
import { venvPython } from '../../infra/setup/paths.mjs';
import { StageConfigs, TEACHERS, type SeedRow } from '../../workflows/contract/index.js';

/** Runs the seeds, which are the project's own, and prints what each call gives. */
const RUN = `
import json, sys
out = []
for seed in json.load(sys.stdin):
    names = {}
    exec(seed["code"], names)
    out.append([repr(eval(call, names)) for call in seed["calls"]])
json.dump(out, sys.stdout)
`;

/** The reply to each seed, by the name of its function. */
export function teacherReplies(seeds: readonly SeedRow[]): Map<string, string> {
  const { answers } = TEACHERS.of(StageConfigs.synthesis.parse({ teacher: { kind: 'offline' } }).teacher);
  if (answers.from !== 'sandbox') throw new Error('the offline teacher runs no seeds');
  const asked = seeds.map((seed) => ({ code: seed.code, ...answers.ask(seed, deriveSeed) }));
  const { stdout, stderr, status } = spawnSync(venvPython(), ['-c', RUN], {
    input: JSON.stringify(asked.map(({ code, calls }) => ({ code, calls }))),
    encoding: 'utf8',
    maxBuffer: 1 << 28,
  });
  if (status !== 0) throw new Error(`the seeds cannot be run: ${stderr}`);
  const literals = z.array(z.array(z.string())).parse(JSON.parse(stdout));
  return new Map(
    asked.map(({ code, calls, write }, index) => {
      const { question, entryPoint, testCases } = write(
        calls.map((call, at) => ({ call, literal: literals[index]![at]! })),
      );
      const signature = code.split(':\n')[0]!;
      return [entryPoint, JSON.stringify({ question, signature, tests: testCases.map(({ test }) => test) })] as const;
    }),
  );
}
