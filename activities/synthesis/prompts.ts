/**
 * Prompts of language-model teachers, by version. A version that was used is never changed: its name is part of the key
 * of every reply. A better wording is a new version.
 */
import {
  canonicalJson,
  expectedReplyTokens,
  type EndpointTeacher,
  type SeedRow,
} from '../../workflows/contract/index.js';
import { sha256 } from '../artifacts/keys.js';
import { keyedLanguage, languageOf } from '../languages/index.js';
import type { ExerciseWords } from '../languages/language.js';
import type { EndpointModel, Prompt } from '../endpoint/endpoint.js';
import type { Ask } from '../endpoint/replies.js';

/** What the prompt is about: a seed program, and where it is known what it was written for. */
type Task = Pick<SeedRow, 'code' | 'instruction' | 'language'>;

const schemaV1 = ({ header, tests }: ExerciseWords) => ({
  name: 'coding_exercise',
  schema: {
    type: 'object',
    properties: {
      question: { type: 'string', description: 'the exercise as a person reads it' },
      signature: { type: 'string', description: `the header of the function, such as ${header}` },
      tests: { type: 'array', items: { type: 'string' }, description: tests },
    },
    required: ['question', 'signature', 'tests'],
    additionalProperties: false,
  },
});

const systemV1 = ({ title }: ExerciseWords): string =>
  `You write exercises for a programming contest in ${title}. From a piece of ${title} code you make one self-contained exercise whose whole solution is a single function, and test cases that decide whether a solution is right. You answer with one JSON object and nothing else.`;

const userV1 = (
  { code, instruction }: Task,
  testCases: number,
  { test, tolerance }: ExerciseWords,
): string => `Here is the code that the exercise is to be based on:

<code>
${code.trim()}
</code>
${
  instruction === undefined
    ? ''
    : `
This is what the code was written for:

<instruction>
${instruction.trim()}
</instruction>
`
}
Write a JSON object with three members.

"question": the exercise in English, in the manner of LeetCode. Say what the function receives and what it returns, with the types, the valid inputs and every edge case that the tests touch. It must be solvable by one function, with nothing but the standard library: no classes to write, no files, no network, no database, no user input, no random numbers, no clock. Do not include a solution, tests, or questions about running time. Name the function in the text.

"signature": the header of that function with annotated parameters and return value. If the code defines functions, take one of them, under its own name and with its own parameters, and ask for exactly what it does, so that the code is itself a right answer. Otherwise choose a fitting name.

"tests": about ${testCases} strings. ${test} Work each expected value out with care. For floating-point results compare with a tolerance, as in ${tolerance}. Cover ordinary cases, edge cases and larger inputs; no two tests may be the same, and their expected values must differ.`;

const VERSIONS: Record<EndpointTeacher['prompt'], (task: Task, testCases: number) => Prompt> = {
  v1(task, testCases) {
    const words = languageOf(task).exercise.v1;
    return { system: systemV1(words), user: userV1(task, testCases, words), schema: schemaV1(words) };
  },
};

/** The prompt of a version for one seed program. */
export function promptFor(version: EndpointTeacher['prompt'], task: Task, testCases: number): Prompt {
  return VERSIONS[version](task, testCases);
}

/** Key of a reply: SHA-256 of model, prompt version, the seed's code, language and instruction, and sampling parameters. */
export function replyKey(
  { model, prompt, temperature, topP, maxTokens, testCases, responseFormat, seed }: EndpointTeacher,
  { code, instruction, language }: Omit<Task, 'language'> & { language?: string | undefined },
): string {
  return sha256(
    canonicalJson({
      model,
      prompt,
      code,
      ...keyedLanguage(language),
      ...(instruction === undefined ? {} : { instruction }),
      parameters: { temperature, topP, maxTokens, testCases, responseFormat, seed },
    }),
  );
}

/** The teacher as a model at an endpoint. */
export function modelOf(teacher: EndpointTeacher): EndpointModel {
  return { ...teacher, expectedReplyTokens: expectedReplyTokens(teacher) };
}

/** What a teacher is asked about seeds. */
export function asksOfSeeds(teacher: EndpointTeacher, seeds: readonly SeedRow[]): Ask[] {
  return seeds.map((row) => ({
    seedId: row.id,
    key: replyKey(teacher, row),
    prompt: promptFor(teacher.prompt, row, teacher.testCases),
    seed: teacher.seed,
  }));
}
