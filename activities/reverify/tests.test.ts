/** The tests of a question before and after a change, with the checker that the question leaves some of them to. */
import { describe, expect, it } from 'vitest';
import { testDigest } from './cells.js';
import { JudgedTests, TestChanges, withChecker, withoutChecker, type TestList } from './tests.js';

const OLD = 'def check(input, output, answer):\n    return True';
const NEW = 'def check(input, output, answer):\n    return output == 1';
const OWN = 'def check(input, output, answer):\n    return output == 2';
const BARE = { call: 'f(1)' };
const PLAIN = 'assert f(0) == 0';
const OTHER = { call: 'f(2)', checker: OWN };

function before(tests: (string | { call: string; checker?: string; expect?: string })[], checker?: string): TestList {
  const judged = new JudgedTests();
  judged.add('q', { tests: tests, checker });
  return judged.of('q', { id: 'p' });
}
const after = (list: TestList, change: object): TestList => {
  const changes = new TestChanges();
  changes.take({ questionId: 'q', ...change });
  return changes.after('q', list);
};

describe('a checker of a question', () => {
  it('is part of the tests that leave it open how they are judged, and of what names them', () => {
    const list = before([PLAIN, BARE, OTHER], OLD);
    expect(list.tests).toEqual([PLAIN, { ...BARE, checker: OLD }, OTHER]);
    expect(list.digests).toEqual(list.tests.map(testDigest));
    expect(list.digests[1]).not.toBe(before([PLAIN, BARE, OTHER], NEW).digests[1]);
  });

  it('judges the tests that come, and names those that leave', () => {
    const list = before([BARE, PLAIN], OLD);
    expect(after(list, { add: [{ call: 'f(3)' }], remove: [BARE] }).tests).toEqual([
      PLAIN,
      { call: 'f(3)', checker: OLD },
    ]);
  });

  it('is another one where the change says so, but not for tests with their own', () => {
    expect(after(before([PLAIN, BARE, OTHER], OLD), { checker: NEW }).tests).toEqual([
      PLAIN,
      { ...BARE, checker: NEW },
      OTHER,
    ]);
    // Tests that expected a value are left to it, and no others.
    const expecting = { call: 'f(1)', expect: '1' };
    expect(after(before([PLAIN, expecting]), { checker: NEW }).tests).toEqual([PLAIN, { ...expecting, checker: NEW }]);
  });

  it('comes with tests that replace all others, which have none of the question', () => {
    const list = before([BARE], OLD);
    expect(after(list, { tests: [{ call: 'f(1)', expect: '1' }] }).tests).toEqual([{ call: 'f(1)', expect: '1' }]);
    expect(after(list, { tests: [BARE], checker: NEW }).tests).toEqual([{ ...BARE, checker: NEW }]);
    expect(() => after(list, { tests: [BARE] })).toThrow(/tests.0: give it an expected answer/);
  });

  it('is in stored work once, and back in each test when it is read', () => {
    for (const test of [PLAIN, { ...BARE, checker: OLD }, OTHER, { call: 'f(1)', checker: OLD, expect: '3' }])
      expect(withChecker(withoutChecker(test, OLD), OLD)).toEqual(test);
    expect(withoutChecker({ ...BARE, checker: OLD }, OLD)).toEqual(BARE);
  });
});
