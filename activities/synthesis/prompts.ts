/**
 * Prompts of language-model teachers, by version. A version that was used is never changed: its name is part of the key
 * of every reply. A better wording is a new version.
 */
import type { EndpointTeacher } from '../../workflows/contract/index.js';

export interface Prompt {
  system: string;
  user: string;
  /** JSON Schema of the reply, for endpoints that take one. */
  schema: { name: string; schema: Record<string, unknown> };
}

const SCHEMA_V1 = {
  name: 'coding_exercise',
  schema: {
    type: 'object',
    properties: {
      question: { type: 'string', description: 'the exercise as a person reads it' },
      signature: { type: 'string', description: 'the header of the function, such as def add(a: int, b: int) -> int' },
      tests: { type: 'array', items: { type: 'string' }, description: 'independent assert statements' },
    },
    required: ['question', 'signature', 'tests'],
    additionalProperties: false,
  },
};

const SYSTEM_V1 = `You write exercises for a programming contest in Python. From a piece of Python code you make one self-contained exercise whose whole solution is a single function, and test cases that decide whether a solution is right. You answer with one JSON object and nothing else.`;

const userV1 = (code: string, testCases: number): string => `Here is the code that the exercise is to be based on:

<code>
${code.trim()}
</code>

Write a JSON object with three members.

"question": the exercise in English, in the manner of LeetCode. Say what the function receives and what it returns, with the types, the valid inputs and every edge case that the tests touch. It must be solvable by one function, with nothing but the standard library: no classes to write, no files, no network, no database, no user input, no random numbers, no clock. Do not include a solution, tests, or questions about running time. Name the function in the text.

"signature": the header of that function with annotated parameters and return value. If the code defines functions, take one of them, under its own name and with its own parameters, and ask for exactly what it does, so that the code is itself a right answer. Otherwise choose a fitting name.

"tests": about ${testCases} strings. Each is one line that begins with assert and stands alone: a call of the function with literal arguments, ==, and the literal value that is expected. Work each expected value out with care. For floating-point results compare with a tolerance, as in assert abs(f(2.0) - 1.41421) < 1e-4. Cover ordinary cases, edge cases and larger inputs; no two tests may be the same, and their expected values must differ.`;

const VERSIONS: Record<EndpointTeacher['prompt'], (code: string, testCases: number) => Prompt> = {
  v1: (code, testCases) => ({ system: SYSTEM_V1, user: userV1(code, testCases), schema: SCHEMA_V1 }),
};

/** The prompt of a version for one seed program. */
export function promptFor(version: EndpointTeacher['prompt'], code: string, testCases: number): Prompt {
  return VERSIONS[version](code, testCases);
}
