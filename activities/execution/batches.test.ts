/** Programs with large tests go to a real sandbox in batches, and come back as if they had gone at once. */
import { expect, it } from 'vitest';
import { ownSandbox } from '../../test/fixtures/own-sandbox.js';
import { SandboxLimits } from '../../workflows/contract/index.js';
import { judgeInBatches, judgePrograms } from './execution.js';

const sandbox = ownSandbox();
const limits = SandboxLimits.parse({});

it('judges in batches as at once, with the tests of one question read once in a row', async () => {
  const tests = [1, 2].map((question) => [`assert f(${question}) == ${question + 1}`, 'assert f("x") == "xx"']);
  const programs = ['def f(n):\n    return n + 1', 'def f(n):\n    return n * 2', 'def f(n):'];
  const jobs = tests.flatMap((own, question) =>
    programs.map((program, at) => ({ id: `${question}/${at}`, program, tests: own })),
  );
  const atOnce = await judgePrograms(sandbox, jobs, { limits });
  const read: number[] = [];
  const inBatches = await judgeInBatches(
    sandbox,
    jobs.map(({ tests: own, ...job }, at) => ({ ...job, tests: () => (read.push(at), Promise.resolve(own)) })),
    { limits, batchText: 200 },
  );
  expect(inBatches.judgements).toEqual(atOnce.judgements);
  expect(inBatches.judgements.map(({ outcomes }) => outcomes.map(({ status }) => status).join())).toContain(
    'pass,raised',
  );
  expect(inBatches.harness).toEqual(atOnce.harness);
  expect(read).toEqual(jobs.map((_, at) => at));
  expect(await judgeInBatches(sandbox, [], { limits })).toMatchObject({ judgements: [], cpuSeconds: 0 });
});
