/** A result that changed under an old version would be answered by what the old code made. */
import { describe, expect, it } from 'vitest';
import { currentStepCode, recordedStepCode, undecided, withoutPythonComments, type StepCode } from './step-code.js';

const CODE: StepCode = {
  files: { 'a.ts': '1', 'b.ts': '2' },
  steps: { 'x.plan': { version: 3, code: ['a.ts', 'b.ts'] } },
};
const withFile = (digest: string): StepCode => ({ ...CODE, files: { ...CODE.files, 'b.ts': digest } });
const withVersion = (code: StepCode, version: number): StepCode => ({
  ...code,
  steps: { 'x.plan': { version, code: ['a.ts', 'b.ts'] } },
});

describe('versions of steps', () => {
  it('go with the code that decides the result', () => {
    expect(undecided(currentStepCode(), recordedStepCode())).toEqual({ decisions: [], stale: [] });
  });

  it('stay undecided where code changed under the same version, by file, step and what to type', () => {
    const { decisions } = undecided(withFile('9'), CODE);
    expect(decisions).toHaveLength(1);
    expect(decisions[0]).toMatch(/x\.plan: b\.ts changed.*still 3.*raise the version to 4.*npm run steps -- --same/);
  });

  it('stay undecided where a file joined or left the code of a step', () => {
    const fewer: StepCode = { files: { 'a.ts': '1' }, steps: { 'x.plan': { version: 3, code: ['a.ts'] } } };
    expect(undecided(fewer, CODE).decisions).toHaveLength(1);
    expect(undecided(CODE, fewer).decisions).toHaveLength(1);
  });

  it('stay undecided where a version was raised without its code', () => {
    expect(undecided(withVersion(CODE, 4), CODE).decisions[0]).toMatch(/from 3 to 4.*take the version back/);
  });

  it('are written down where both changed', () => {
    expect(undecided(withVersion(withFile('9'), 4), CODE)).toEqual({ decisions: [], stale: ['x.plan'] });
  });
});

describe('the digest of Python code', () => {
  it('does not see comments, docstrings and empty lines', () => {
    const one = '"""A module."""\n\ndef f(x):\n    """Says what it does."""\n    return x  # the same\n';
    const other =
      '"""Another."""\ndef f(x):\n    """In other words,\n    over two lines."""\n\n    # why\n    return x\n';
    expect(withoutPythonComments(one)).toBe(withoutPythonComments(other));
  });

  it.each([
    ['a number', 'x = 1', 'x = 2'],
    ['a text', 'x = "a # b"', 'x = "a # c"'],
    ['a long text that is no docstring', 'x = """a\n# b"""', 'x = """a\n# c"""'],
    ['indentation', 'if x:\n    y()\nz()', 'if x:\n    y()\n    z()'],
  ])('sees %s', (_, one, other) => {
    expect(withoutPythonComments(one)).not.toBe(withoutPythonComments(other));
  });
});
