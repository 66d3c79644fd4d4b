/**
 * The laboratory's questions: small functions of one integer, each with the answers that a noisy model is to give.
 *
 * A family says what kind of wrong answer there is: `structural` ones have another operator, order or bracket,
 * `nearMiss` ones a constant that is off by one. Every question's domain is so small that its test cases cover all of
 * it,
 * and with it the boundary at which `n >= k` and `n > k` differ.
 */
import { sha256 } from '../../activities/artifacts/keys.js';
import type { SeedRow } from '../../workflows/contract/index.js';

export const FAMILIES = ['structural', 'nearMiss'] as const;
export type Family = (typeof FAMILIES)[number];

export interface LabQuestion {
  seed: SeedRow;
  /** Index of its kind. */
  kind: number;
  /** Complete programs; the first is the right one. */
  answers: string[];
  /** How often the corpus gives each answer; their sum is 1. */
  shares: number[];
}

interface Kind {
  /** Type of the returned value. */
  returns: 'int' | 'bool';
  task: string;
  /** Expression of the right answer. */
  right: string;
  structural: string[];
  nearMiss: string[];
}

/** Smallest and largest value of each constant: few, so that each is one token in question and program alike. */
const [LEAST, MOST] = [2, 10];
/** Values of n in test cases. */
const DOMAIN = { min: -4, max: 14 };

/** Constants that are off by one and still one that a question may hold. */
const near = (value: number): number[] => [value + 1, value - 1].filter((other) => other >= LEAST && other <= MOST);

/**
 * The kinds of question for three different constants, of which most use two; undefined where these constants make
 * none.
 */
function kinds(a: number, b: number, c: number): (Kind | undefined)[] {
  const kind = (
    returns: Kind['returns'],
    task: string,
    text: (x: number, y: number, z: number) => string,
    structural: string[],
  ): Kind => {
    const right = text(a, b, c);
    const nearMiss = [
      ...near(a).map((x) => text(x, b, c)),
      ...near(b).map((y) => text(a, y, c)),
      ...near(c).map((z) => text(a, b, z)),
    ];
    return { returns, task, right, structural, nearMiss: nearMiss.filter((other) => other !== right) };
  };
  return [
    kind('int', `the sum of n and ${a}, times ${b}`, (x, y) => `(n + ${x}) * ${y}`, [
      `n + ${a} * ${b}`,
      `(n - ${a}) * ${b}`,
      `(n * ${a}) + ${b}`,
    ]),
    kind('int', `the difference of n and ${a}, times ${b}`, (x, y) => `(n - ${x}) * ${y}`, [
      `n - ${a} * ${b}`,
      `(n + ${a}) * ${b}`,
      `(n * ${a}) - ${b}`,
    ]),
    kind('int', `n times ${a}, plus ${b}`, (x, y) => `n * ${x} + ${y}`, [
      `n * (${a} + ${b})`,
      `n * ${a} - ${b}`,
      `n + ${a} * ${b}`,
    ]),
    kind('int', `n times ${a}, minus ${b}`, (x, y) => `n * ${x} - ${y}`, [
      `n * (${a} - ${b})`,
      `n * ${a} + ${b}`,
      `${b} - n * ${a}`,
    ]),
    kind('int', `the remainder of n divided by ${a}, plus ${b}`, (x, y) => `n % ${x} + ${y}`, [
      `n % (${a} + ${b})`,
      `n // ${a} + ${b}`,
      `(n + ${b}) % ${a}`,
    ]),
    kind('int', `the whole quotient of n and ${a}, plus ${b}`, (x, y) => `n // ${x} + ${y}`, [
      `n // (${a} + ${b})`,
      `n % ${a} + ${b}`,
      `(n + ${b}) // ${a}`,
    ]),
    // (n - a) * b + c is the same where c is a * b.
    a * b === c
      ? undefined
      : kind('int', `the sum of n and ${a}, times ${b}, minus ${c}`, (x, y, z) => `(n + ${x}) * ${y} - ${z}`, [
          `n + ${a} * ${b} - ${c}`,
          `(n + ${a}) * (${b} - ${c})`,
          `(n - ${a}) * ${b} + ${c}`,
        ]),
    kind(
      'int',
      `n plus ${b} if n is at least ${a} and n minus ${c} otherwise`,
      (x, y, z) => `n + ${y} if n >= ${x} else n - ${z}`,
      [
        `n + ${b} if n > ${a} else n - ${c}`,
        `n - ${c} if n >= ${a} else n + ${b}`,
        `n + ${b} if n <= ${a} else n - ${c}`,
      ],
    ),
    // With equal values at the boundary or right below it, the answer with the other comparison or the boundary there
    // would be right too.
    a * b === a + c || (a - 1) * b === a - 1 + c
      ? undefined
      : kind(
          'int',
          `n times ${b} if n is below ${a} and n plus ${c} otherwise`,
          (x, y, z) => `n * ${y} if n < ${x} else n + ${z}`,
          [
            `n * ${b} if n <= ${a} else n + ${c}`,
            `n + ${c} if n < ${a} else n * ${b}`,
            `n * ${b} if n > ${a} else n + ${c}`,
          ],
        ),
    // Closer bounds would leave nothing or everything between them.
    ...(a + 2 <= b
      ? [
          kind('bool', `whether n is at least ${a} and at most ${b}`, (x, y) => `${x} <= n and n <= ${y}`, [
            `${a} < n and n <= ${b}`,
            `${a} <= n and n < ${b}`,
            `${a} <= n or n <= ${b}`,
          ]),
          kind('bool', `whether n is above ${a} and below ${b}`, (x, y) => `${x} < n and n < ${y}`, [
            `${a} <= n and n < ${b}`,
            `${a} < n and n <= ${b}`,
            `${a} < n or n < ${b}`,
          ]),
          kind('bool', `whether n is below ${a} or above ${b}`, (x, y) => `n < ${x} or n > ${y}`, [
            `n <= ${a} or n > ${b}`,
            `n < ${a} or n >= ${b}`,
            `n < ${a} and n > ${b}`,
          ]),
          kind('bool', `whether n is at most ${a} or at least ${b}`, (x, y) => `n <= ${x} or n >= ${y}`, [
            `n < ${a} or n >= ${b}`,
            `n <= ${a} or n > ${b}`,
            `n <= ${a} and n >= ${b}`,
          ]),
        ]
      : []),
  ];
}

/**
 * Shares of the right answer and of the most frequent wrong one; the other wrong ones share the rest. In every second
 * kind the right answer leads, in the others a wrong one, so that a model that has learned the corpus is right in about
 * a third of its samples and its most likely answer is often wrong.
 */
const RIGHT_LEADS = [0.46, 0.24] as const;
const WRONG_LEADS = [0.27, 0.61] as const;

/** All questions of a family, in a fixed order. */
export function allQuestions(family: Family): LabQuestion[] {
  const constants = Array.from({ length: MOST - LEAST + 1 }, (_, index) => LEAST + index);
  const questions = new Map<string, LabQuestion>();
  for (const a of constants)
    for (const b of constants)
      for (const c of constants) {
        if (new Set([a, b, c]).size < 3) continue;
        for (const [number, kind] of kinds(a, b, c).entries()) {
          if (kind && !questions.has(kind.task)) questions.set(kind.task, question(family, kind, number));
        }
      }
  return [...questions.values()];
}

function question(family: Family, kind: Kind, number: number): LabQuestion {
  const header = `def f(n: int) -> ${kind.returns}:\n`;
  const program = (expression: string): string => `${header}    return ${expression}`;
  const wrong = (family === 'structural' ? kind.structural : kind.nearMiss).map(program);
  const [right, frequentWrong] = number % 2 === 1 ? RIGHT_LEADS : WRONG_LEADS;
  const rest = (1 - right - frequentWrong) / (wrong.length - 1);
  return {
    kind: number,
    seed: {
      id: `lab/${family}/${kind.task.replace(/[ ,]+/g, '-')}`,
      source: `lab-${family}`,
      domain: { n: DOMAIN },
      code: `${header}    """Return ${kind.task}."""\n    return ${kind.right}\n`,
    },
    answers: [program(kind.right), ...wrong],
    shares: [right, frequentWrong, ...wrong.slice(1).map(() => rest)],
  };
}

/** Kinds that nothing is trained on, one in which the right answer leads and one in which a wrong one does. */
const UNSEEN = [3, 12];

/** Whether a question of this kind has a boundary: an answer that is off by one there is wrong for one value of n. */
export const hasBoundary = (kind: number): boolean => kind >= 7;

/**
 * The questions of one laboratory seed, of seen kinds or of those that nothing is trained on. Seed 0 is for choosing
 * hyperparameters: its questions are two fifths of all, by hash, that no other seed is ever asked.
 */
export function labQuestions(
  family: Family,
  seed: number,
  count: number,
  of: 'seen' | 'unseen' = 'seen',
  ofKinds: (kind: number) => boolean = () => true,
): LabQuestion[] {
  const forValidation = ({ seed: { id } }: LabQuestion): boolean =>
    Number.parseInt(sha256(`validation/${id}`).slice(0, 8), 16) % 5 < 2;
  const order = (question: LabQuestion): string => sha256(`${seed}/${question.seed.id}`);
  return allQuestions(family)
    .filter(
      (question) =>
        forValidation(question) === (seed === 0) &&
        UNSEEN.includes(question.kind) === (of === 'unseen') &&
        ofKinds(question.kind),
    )
    .sort((x, y) => (order(x) < order(y) ? -1 : 1))
    .slice(0, count);
}
