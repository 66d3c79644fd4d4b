/** Tasks of an evaluation: answers of files, and tests with what references answered. */
import { describe, expect, it } from 'vitest';
import { EvaluationConfig } from '../../workflows/contract/index.js';
import { judgedTask, PlannedTask, recordedAnswer, refuseTooMany } from './tasks.js';

const suite = { suite: '[[1]]', task: 't', entryPoint: 'f', rules: '0.3.1' as const, atol: 0 };
const task = PlannedTask.shape.task.parse({
  ...{ id: 't', question: 'Q', entryPoint: 'f', programPrefix: '', reference: '' },
  tests: ['assert f(1) == 1', suite],
});

describe('a task', () => {
  it('is judged by what its reference answered, under the limits that follow from it', () => {
    const limits = { cpuSecondsPerTest: 2, cpuSecondsPerProgram: 60 };
    const reference = { taskId: 't', expected: ['', '[1]'], limits };
    expect(judgedTask(task, reference)).toEqual({ tests: [task.tests[0], { ...suite, expected: '[1]' }], limits });
    expect(judgedTask(task, undefined)).toEqual({ tests: task.tests });
    const own = { cpuSecondsPerTest: 1, cpuSecondsPerProgram: 1 };
    expect(judgedTask({ ...task, limits: own }, reference).limits).toEqual(own);
  });

  it('has one answer of a file as its greedy one, and several as samples', () => {
    const given = { text: 'a', program: 'p' };
    expect(recordedAnswer(given, 0, 1)).toEqual({ mode: 'greedy', sample: 0, ...given, finish: 'stop' });
    expect(recordedAnswer(given, 2, 3)).toMatchObject({ mode: 'sample', sample: 2, program: 'p' });
  });

  it('with fewer samples than a figure asks for is refused', () => {
    const config = EvaluationConfig.parse({ samples: 8, passAtK: [1, 4], bestOf: [8] });
    expect(() => refuseTooMany(config, 'mine', 8)).not.toThrow();
    expect(() => refuseTooMany(config, 'mine', 2)).toThrow(
      "config.passAtK has 4, and the samples 'mine' are 2 per task",
    );
  });
});
