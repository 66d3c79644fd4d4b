/** Prompt and program: what a policy is asked and what of its answer is run. */
import { describe, expect, it } from 'vitest';
import { extractProgram, promptOf, questionWithTests } from './prompt.js';

describe('promptOf', () => {
  it('opens the answer with a Python fence and stops at the closing one', () => {
    const { messages, assistantPrefix, stop } = promptOf('Write double(n).');
    expect(messages).toHaveLength(1);
    expect(messages[0]).toMatchObject({
      role: 'user',
      content: expect.stringMatching(/^Write double\(n\)\.\n\n/) as string,
    });
    expect(assistantPrefix).toBe('```python\n');
    expect(stop).toEqual(['\n```']);
  });

  it('opens the answer with the head of a benchmark function', () => {
    expect(promptOf('Complete.', 'def f(x):\n').assistantPrefix).toBe('```python\ndef f(x):\n');
  });
});

describe('questionWithTests', () => {
  const tests = ['assert double(2) == 4', { call: 'double(3)', expect: '6' }, 'assert double(0) == 0'];

  it('shows the first tests under the question, and leaves it as it is without any', () => {
    expect(questionWithTests('Write double(n).', tests, 2)).toBe(
      'Write double(n).\n\nYour code should pass these tests:\n\n' +
        'assert double(2) == 4\n{"call":"double(3)","expect":"6"}',
    );
    expect(questionWithTests('Write double(n).', tests, 1)).toMatch(/pass this test:\n\nassert double\(2\) == 4$/);
    for (const [given, shown] of [
      [tests, undefined],
      [[], 2],
    ] as const)
      expect(questionWithTests('Write double(n).', given, shown)).toBe('Write double(n).');
  });
});

describe('extractProgram', () => {
  const program = 'def f(x):\n    assert x >= 0\n    return x';

  it('ends at the closing fence', () => {
    expect(extractProgram(`${program}\n\`\`\`\nThis works because...\n\`\`\`python\nprint(1)\n\`\`\``)).toBe(program);
  });

  it('takes an answer without a closing fence whole', () => {
    expect(extractProgram(program)).toBe(program);
    expect(extractProgram('')).toBe('');
  });

  it.each([
    ['its own assert', 'def f(x):\n    assert x >= 0, "negative"\n    return x'],
    ['a main guard', 'def f(x):\n    return x\n\nif __name__ == "__main__":\n    print(f(1))'],
    ['an import of unittest', 'import unittest\n\ndef f(x):\n    return x'],
    ['a fence inside a line', 'def f(x):\n    return "```" + x'],
    ['blank lines', 'def f(x):\n\n\n    return x'],
  ])('does not cut at %s', (_name, text) => {
    expect(extractProgram(`${text}\n\`\`\``)).toBe(text);
  });

  it('puts the program text before it that the answer was opened with', () => {
    expect(extractProgram('    return x\n```', 'def f(x):\n')).toBe('def f(x):\n    return x');
  });

  it('keeps the indentation of the first line', () => {
    expect(extractProgram('    return x\n\n')).toBe('    return x');
  });
});
