/** Programs and questions that are written like a problem of a benchmark. */
import { describe, expect, it } from 'vitest';
import { ProblemTexts } from './likeness.js';

const solution = `def has_close_elements(numbers, threshold):
    for place, one in enumerate(numbers):
        for other in numbers[place + 1:]:
            if abs(one - other) < threshold:
                return True
    return False
`;
const task = {
  id: 'HumanEval/0',
  entryPoint: 'has_close_elements',
  question: 'Say whether two of the numbers are closer to each other than the threshold.',
  reference: solution,
};

describe('ProblemTexts', () => {
  it('knows a name however it is written, which says nothing of the code', () => {
    const texts = new ProblemTexts([task]);
    for (const name of ['has_close_elements', 'hasCloseElements', 'HAS_close_Elements'])
      expect(texts.hasName(name)).toBe(true);
    expect(texts.hasName('double')).toBe(false);
    expect(texts.likeCode({ code: 'def has_close_elements(x):\n    return x' })).toEqual([]);
  });

  it('finds a program by its code, whatever its name and docstring', () => {
    const docstring = Array.from({ length: 80 }, (_, index) => `word${index}`).join(' ');
    const code = solution.replace('has_close_elements', 'near').replace(':\n', `:\n    """${docstring}"""\n`);
    expect(new ProblemTexts([task]).likeCode({ code })).toEqual(['HumanEval/0']);
  });

  it('finds a question that is asked in nearly the same words', () => {
    const texts = new ProblemTexts([task]);
    expect(texts.likeQuestion(`${task.question} Return a truth.`)).toEqual(['HumanEval/0']);
    expect(texts.likeQuestion('Sort the numbers.')).toEqual([]);
  });

  it('leaves others alone, and a problem without a reference is like no program', () => {
    const code = 'def double(n):\n    """Return twice n."""\n    return 2 * n\n';
    expect(new ProblemTexts([task]).likeCode({ code })).toEqual([]);
    expect(new ProblemTexts([]).likeCode({ code })).toEqual([]);
    expect(new ProblemTexts([{ ...task, reference: '' }]).likeCode({ code: '' })).toEqual([]);
  });
});
