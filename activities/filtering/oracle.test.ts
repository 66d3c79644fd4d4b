/** Oracles of several programs, and programs out of whole replies. */
import { describe, expect, it } from 'vitest';
import { agreement, anyOf, weighted } from './oracle.js';
import { programOfReply } from '../policy/prompt.js';
import { asksOfQuestions, requestOf } from '../policy/source.js';
import { checkInput, StageConfigs, type TestOutcome } from '../../workflows/contract/index.js';

/** Verdicts of a program by a letter each: p passes, f fails, t runs out of time. */
const verdicts = (letters: string): TestOutcome[] =>
  [...letters].map((letter) => ({ status: letter === 'p' ? 'pass' : letter === 't' ? 'timeout' : 'assertion_failed' }));
const kept = ({ outcomes }: { outcomes: TestOutcome[] }): string =>
  outcomes.map(({ status }) => (status === 'pass' ? 'p' : status === 'timeout' ? 't' : 'f')).join('');

describe('any of n', () => {
  it('is the program itself where there is one', () => {
    expect(anyOf([verdicts('ppft')])).toEqual({ outcomes: verdicts('ppft'), program: 0 });
    expect(anyOf([verdicts('ff')])).toEqual({ outcomes: verdicts('ff') });
  });

  it('keeps what some program passes, and names the one that passes all of it', () => {
    expect(anyOf([verdicts('pfff'), verdicts('ppff'), verdicts('fptf')])).toEqual({
      outcomes: verdicts('ppff'),
      program: 1,
    });
  });

  it('has no program where none passes all that is kept', () => {
    const verdict = anyOf([verdicts('ppf'), verdicts('ftp')]);
    expect(kept(verdict)).toBe('ppp');
    expect(verdict.program).toBeUndefined();
  });
});

describe('agreement', () => {
  it('keeps what the set with the highest product of programs and test cases passes', () => {
    // Two programs with three test cases each score 6, one program with four of them 4, three with one 3.
    const verdict = agreement(['ppppf', 'pppff', 'pppff', 'ffffp', 'ffffp', 'ffffp'].map(verdicts));
    expect(kept(verdict)).toBe('pppff');
    expect(verdict.program).toBe(0);
  });

  it('takes more test cases among equal scores, then the first program', () => {
    expect(kept(agreement(['pfff', 'pfff', 'fppf'].map(verdicts)))).toBe('fppf');
    expect(kept(agreement(['pff', 'fpf'].map(verdicts)))).toBe('pff');
  });

  it('keeps nothing where nothing passes', () => {
    expect(agreement(['ff', 'ff'].map(verdicts))).toEqual({ outcomes: verdicts('ff') });
  });
});

describe('weights', () => {
  it('keep what good programs pass, and name the best program that passes all of it', () => {
    const verdict = weighted(['fftp', 'pppf', 'pppf', 'ppff'].map(verdicts), 0.5);
    expect(kept(verdict)).toBe('ppff');
    expect(verdict.program).toBe(1);
    expect(kept(weighted(['pppf', 'ppff', 'ppff'].map(verdicts), 0))).toBe('pppf');
  });

  it('say of a dropped test case what it weighs, and what the best program that fails it gave', () => {
    const outcomes = [verdicts('ppp'), verdicts('ppp'), verdicts('ppf')];
    outcomes[2]![2] = { status: 'assertion_failed', reason: 'got 4' };
    expect(weighted(outcomes, 0.7).outcomes[2]).toEqual({
      status: 'assertion_failed',
      reason: expect.stringMatching(/^weight 0\.\d\d, and 0\.7 is needed; the best program that fails it: got 4$/),
    });
  });

  it('drop what no program passes, whatever is needed, and what all pass where more is needed', () => {
    expect(kept(weighted(['pf', 'pf'].map(verdicts), 0))).toBe('pf');
    expect(weighted(['p', 'p'].map(verdicts), 1).outcomes).toEqual([
      { status: 'assertion_failed', reason: 'weight 0.55, and 1 is needed' },
    ]);
  });

  it('need two programs', () => {
    expect(() => weighted([verdicts('p')], 0.5)).toThrow('at least 2 programs, and there is 1');
    const config = { oracle: { kind: 'weights', n: 1, programs: { kind: 'openai', model: 'm' } } };
    const inputs = { questions: { kind: 'questions', path: 'q.jsonl' } };
    expect(checkInput('filtering', { inputs, config }).mistakes).toContainEqual(
      expect.objectContaining({ path: 'config.oracle.n', message: expect.stringContaining('give at least 2') }),
    );
  });
});

describe('the program of a reply', () => {
  const program =
    'def double(x):\n    assert x >= 0\n    return 2 * x\n\nif __name__ == "__main__":\n    assert double(1) == 2';
  it.each([
    ['plain code', program],
    ['a fence', `\`\`\`python\n${program}\n\`\`\``],
    ['prose around a fence', `Here it is:\n\n\`\`\`python\n${program}\n\`\`\`\n\nIt runs in O(1).`],
    ['a usage block behind it', `\`\`\`python\n${program}\n\`\`\`\nUse it so:\n\`\`\`python\nprint(double(2))\n\`\`\``],
    ['a first draft before it', `\`\`\`\ndef double(x):\n    return x\n\`\`\`\nBetter:\n\`\`\`py\n${program}\n\`\`\``],
    ['a shell block behind it', `\`\`\`python\n${program}\n\`\`\`\n\`\`\`bash\npython double.py\n\`\`\``],
    [
      'thoughts with a fence before it',
      `<think>\n\`\`\`python\ndef double(x): pass\n\`\`\`\n</think>\n\`\`\`python\n${program}\n\`\`\``,
    ],
    ['a fence that is not closed', `\`\`\`python\n${program}`],
  ])('is found in %s, whole', (_, reply) => expect(programOfReply(reply, 'double')).toBe(program));

  it('is the last block where none defines the function', () => {
    expect(programOfReply('```python\na = 1\n```\n```python\nb = 2\n```', 'double')).toBe('b = 2');
    expect(programOfReply('```python\na = 1\n```', '')).toBe('a = 1');
  });
});

describe('what an endpoint is asked for programs', () => {
  const questions = [
    { id: 'q-1', seedId: 's-1', question: 'Add.' },
    { id: 'q-2', seedId: 's-2', question: 'Subtract.' },
  ];
  const request = requestOf.sampler(
    StageConfigs.sampling.parse({
      sampler: { kind: 'openai', model: 'm' },
      samples: 3,
      execution: { endpoint: { prices: { input: 0, output: 0 } } },
    }),
  )!;

  it('has a key and a seed of its own for each program, which depend on what is asked alone', () => {
    const asks = asksOfQuestions(request, questions);
    expect(asks).toHaveLength(6);
    expect(new Set(asks.map(({ key }) => key)).size).toBe(6);
    expect(new Set(asks.map(({ seed }) => seed)).size).toBe(6);
    expect(
      asksOfQuestions(request, [...questions].reverse())
        .map(({ key }) => key)
        .sort(),
    ).toEqual(asks.map(({ key }) => key).sort());
    expect(
      asksOfQuestions({ ...request, temperature: 0.1 }, questions).some(({ key }) =>
        asks.some((other) => other.key === key),
      ),
    ).toBe(false);
  });

  it('holds the first tests of a question where they are shown, whatever they are called before and after filtering', () => {
    const tests = ['assert add(1, 2) == 3', 'assert add(0, 0) == 0', 'assert add(2, 2) == 4'];
    const [question] = questions;
    const kept = asksOfQuestions({ ...request, shownTests: 2 }, [{ ...question!, tests, testCases: 9 }]);
    const written = asksOfQuestions({ ...request, shownTests: 2 }, [
      { ...question!, testCases: tests.map((test) => ({ test })) },
    ]);
    expect(kept).toEqual(written);
    expect(kept[0]!.prompt.user).toContain(`${tests[0]}\n${tests[1]}`);
    expect(kept[0]!.prompt.user).not.toContain(tests[2]);
    expect(kept[0]!.key).not.toBe(asksOfQuestions(request, questions)[0]!.key);
  });
});

describe('prices', () => {
  const inputs = { questions: { kind: 'filteredQuestions', path: 'q.jsonl' } };
  it.each([
    [
      'filtering',
      {
        inputs: { questions: { kind: 'questions', path: 'q.jsonl' } },
        config: { oracle: { kind: 'model', programs: { kind: 'openai', model: 'm' } } },
      },
    ],
    ['sampling', { inputs, config: { sampler: { kind: 'openai', model: 'm' } } }],
  ] as const)('and a budget are needed where %s asks an endpoint', (stage, input) => {
    expect(checkInput(stage, input).mistakes?.map(({ path }) => path)).toEqual(['config.execution.endpoint.prices']);
    const priced = {
      ...input,
      config: { ...input.config, execution: { endpoint: { prices: { input: 1, output: 1 } } } },
    };
    expect(checkInput(stage, priced).mistakes?.map(({ path }) => path)).toEqual(['config.execution.budgetUsd']);
    expect(
      checkInput(stage, {
        ...priced,
        config: { ...priced.config, execution: { ...priced.config.execution, budgetUsd: 1 } },
      }).mistakes,
    ).toBeUndefined();
  });

  it('are of no concern to a sampler that is the policy, which needs one', () => {
    expect(checkInput('sampling', { inputs }).mistakes?.map(({ path }) => path)).toEqual(['inputs.policy']);
    expect(
      checkInput('sampling', {
        inputs: { ...inputs, samples: { kind: 'samples', path: 's.jsonl' } },
        config: { sampler: { kind: 'recorded' } },
      }).mistakes,
    ).toBeUndefined();
  });
});
