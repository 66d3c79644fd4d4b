/**
 * A language model behind an OpenAI-compatible endpoint as the teacher.
 *
 * Its prompts have versions. A version that was used is never changed, because its name is part of the key of every
 * reply. A better wording is a new version.
 */
import { z } from 'zod';
import type { Prompt } from '../../../workflows/contract/endpoint.js';
import { CHARACTERS_PER_TOKEN, RESPONSE_FORMATS } from '../../../workflows/contract/endpoint.js';
import { KEPT_OF_A_LANGUAGE_MODEL } from '../../../workflows/contract/estimation.js';
import { count, seed, testCases } from '../../../workflows/contract/fields.js';
import type { QuestionForm, SeedRow } from '../../../workflows/contract/rows.js';
import { keyedLanguage, languageOf } from '../../languages/index.js';
import type { ExerciseWords } from '../../languages/language.js';
import { parseReply } from '../parse-reply.js';
import { defineTeacher } from './teacher.js';

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

/**
 * What the authors of the paper ask for, in words of this project: one message, one object with a question and about
 * twenty asserts, no signature. The paper's tables 10 and 11 have their words, with the instruction of a seed and
 * without it.
 */
const userPaper = ({ code, instruction }: Task, testCases: number, { title, test }: ExerciseWords): string =>
  `${
    instruction === undefined
      ? `You get a program in ${title}. Make up a programming question that it inspires.`
      : `You get a question about programming and a program in ${title} that answers it. Write the question anew.`
  }

Your question reads like one of LeetCode. It says clearly what comes in and what goes out, and one function answers it: no class, and no chain of functions. It needs no file, no database, no network and nothing else from outside. You may take over what is good in what you got. Do not ask how fast the function has to be, and do not put test cases into the question.

Then write about ${testCases} test cases. ${test} Every argument and every expected value is a constant, and no test needs anything from outside.

Answer with a JSON object and nothing else: "question" is the text of the question, "tests" is the list of test cases as strings.
${
  instruction === undefined
    ? ''
    : `
The question:
${instruction.trim()}
`
}
The program:
\`\`\`
${code.trim()}
\`\`\``;

const schemaPaper = ({ tests }: ExerciseWords) => ({
  name: 'question_with_tests',
  schema: {
    type: 'object',
    properties: {
      question: { type: 'string', description: 'the question as a person reads it' },
      tests: { type: 'array', items: { type: 'string' }, description: tests },
    },
    required: ['question', 'tests'],
    additionalProperties: false,
  },
});

/**
 * What version 2 says of a seed that is no plain function. Such seeds are lost with the other versions, which ask for
 * one function whatever the code is.
 */
const FORMS: Record<QuestionForm, { asks: string; header: string; test: string }> = {
  class: {
    asks: 'It must be solvable by one class.',
    header: 'the header of that class with the headers of its methods, one a line',
    test: 'Each stands alone: it makes an object, calls methods, and asserts a value, on several lines where needed.',
  },
  method: {
    asks: 'It must be solvable by one class with one method that is called.',
    header: 'the header of that class with the header of its method, one a line',
    test: 'Each is one line that begins with assert, makes an object and calls its method with literal arguments.',
  },
  async: {
    asks: 'It must be solvable by one asynchronous function.',
    header: 'the header of that function, with async',
    test: 'Each is one line that begins with assert and waits for the function by asyncio.run.',
  },
  script: {
    asks: 'It must be solvable by a program that reads standard input and prints its answer.',
    header: 'an empty text',
    test: 'Each is an object with two texts: "stdin", what the program reads, and "stdout", what it has to print.',
  },
};

const userV2 = (task: Task, testCases: number, words: ExerciseWords, form: QuestionForm): string => {
  const { asks, header, test } = FORMS[form];
  return `${userV1(task, testCases, words).split('\nWrite a JSON object')[0]!}
Write a JSON object with three members.

"question": the exercise in English. Say what comes in and what goes out, with the types, the valid inputs and every edge case that the tests touch. ${asks} It needs nothing but the standard library: no files, no network, no database, no random numbers, no clock. Do not include a solution or tests. Name what is to be written in the text, under the name that it has in the code, and ask for exactly what the code does, so that the code is itself a right answer.

"signature": ${header}.

"tests": about ${testCases} entries. ${test} Work each expected value out with care. Cover ordinary cases, edge cases and larger inputs; no two tests may be the same.`;
};

const schemaV2 = (form: QuestionForm) => ({
  name: 'coding_exercise',
  schema: {
    type: 'object',
    properties: {
      question: { type: 'string', description: 'the exercise as a person reads it' },
      signature: { type: 'string', description: FORMS[form].header },
      tests: {
        type: 'array',
        items:
          form === 'script'
            ? {
                type: 'object',
                properties: { stdin: { type: 'string' }, stdout: { type: 'string' } },
                required: ['stdin', 'stdout'],
                additionalProperties: false,
              }
            : { type: 'string' },
        description: FORMS[form].test,
      },
    },
    required: ['question', 'signature', 'tests'],
    additionalProperties: false,
  },
});

const VERSIONS = {
  v1(task: Task, testCases: number): Prompt {
    const words = languageOf(task).exercise.v1;
    return { system: systemV1(words), user: userV1(task, testCases, words), schema: schemaV1(words) };
  },
  /** As version 1 where the seed defines a function, and in the seed's own form where it does not. */
  v2(task: Task, testCases: number): Prompt {
    const language = languageOf(task);
    const words = language.exercise.v1;
    const form = language.formOf(task.code);
    return form === undefined
      ? VERSIONS.v1(task, testCases)
      : {
          system: `You write exercises for a programming contest in ${words.title}, and test cases that decide whether a solution is right. You answer with one JSON object and nothing else.`,
          user: userV2(task, testCases, words, form),
          schema: schemaV2(form),
        };
  },
  paper(task: Task, testCases: number): Prompt {
    const words = languageOf(task).exercise.v1;
    return { user: userPaper(task, testCases, words), schema: schemaPaper(words) };
  },
};

/** The prompt of a version for one seed program. */
function promptFor(version: keyof typeof VERSIONS, task: Task, testCases: number): Prompt {
  return VERSIONS[version](task, testCases);
}

/**
 * Tokens of instructions and reply, as lengths of the prompt and of JSON replies suggest. Never measured on a paid
 * model.
 */
const INSTRUCTION_TOKENS = 560;
const QUESTION_TOKENS = 260;
const TEST_CASE_TOKENS = 36;

const shape = {
  kind: z
    .literal('openai')
    .describe('a language model behind an OpenAI-compatible endpoint; where and at what price: `execution`'),
  model: z.string().min(1).describe('name of the model at the endpoint'),
  prompt: z
    .enum(['v1', 'v2', 'paper'])
    .default('v1')
    .describe(
      'version of the prompt: `v1` asks for one function, `v2` also for classes, asynchronous functions and ' +
        'programs, `paper` asks what the authors of the paper ask',
    ),
  testCases,
  temperature: z
    .number()
    .nonnegative()
    .max(2)
    .nullable()
    .default(0.7)
    .describe('sampling temperature; null: not sent, the endpoint chooses'),
  topP: z
    .number()
    .positive()
    .max(1)
    .nullable()
    .default(1)
    .describe('nucleus: share of probability that is sampled from; 1: all; null: not sent, the endpoint chooses'),
  maxTokens: count.default(8192).describe('upper limit of a reply, in tokens'),
  responseFormat: z
    .enum(RESPONSE_FORMATS)
    .default('auto')
    .describe('how JSON is asked for; auto: the first of the others that the endpoint takes'),
  seed: seed
    .nullable()
    .default(0)
    .describe('sampling seed, sent with each request; endpoints may ignore it; null: not sent'),
};
type Settings = z.output<z.ZodObject<typeof shape>>;

/** What a reply's key is made of: model, prompt version, the seed's code, language and instruction, and sampling. */
export function replyKeyOf(
  { model, prompt, temperature, topP, maxTokens, testCases, responseFormat, seed }: Omit<Settings, 'kind'>,
  { code, instruction, language }: Omit<Task, 'language'> & { language?: string | undefined },
): object {
  return {
    model,
    prompt,
    code,
    ...keyedLanguage(language),
    ...(instruction === undefined ? {} : { instruction }),
    parameters: { temperature, topP, maxTokens, testCases, responseFormat, seed },
  };
}

export const openai = defineTeacher({
  shape,
  paid: true,
  cost: "the teacher's replies",
  injectsErrors: false,
  note: 'Questions and test cases were written by a language model; the raw replies stand in the store.',
  teach(settings) {
    const { model, prompt, testCases: asked, temperature, topP, maxTokens, responseFormat } = settings;
    const expectedReplyTokens = Math.min(maxTokens, QUESTION_TOKENS + TEST_CASE_TOKENS * asked);
    return {
      keptShare: KEPT_OF_A_LANGUAGE_MODEL,
      answers: {
        from: 'endpoint',
        model: { model, temperature, topP, maxTokens, responseFormat, expectedReplyTokens },
        rounds: 1,
        requests: (row) => [
          { prompt: promptFor(prompt, row, asked), key: replyKeyOf(settings, row), seed: settings.seed },
        ],
        read: (row, [reply]) => parseReply(row, reply, asked),
        tokens: (seeds, seedBytes) => ({
          prompt: Math.round(seeds * (INSTRUCTION_TOKENS + seedBytes / CHARACTERS_PER_TOKEN)),
          completion: Math.round(seeds * expectedReplyTokens),
          completionAtMost: seeds * maxTokens,
        }),
        extrapolated:
          'tokens and cost of the teacher: from the lengths of prompt and seeds and a usual length of replies; ' +
          'a model that thinks aloud writes more',
      },
    };
  },
});
