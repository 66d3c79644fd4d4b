/** A teacher is added by a file and a line of the registry: everything that a stage reads of one comes from there. */
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { AskingBench, PRICES, seedRows } from '../../../test/fixtures/asking.js';
import { count, testCases } from '../../../workflows/contract/fields.js';
import { QuestionRow, repliesEstimate, TEACHERS, type SeedRow } from '../../../workflows/contract/index.js';
import { contentOf } from '../../endpoint/content.js';
import { findReply } from '../../endpoint/replies.js';
import { asksOf, knownAsks, questionOf } from '../asking.js';
import { offline } from './offline.js';
import { openai } from './openai.js';
import { recorded } from './recorded.js';
import { defineTeacher, teacherRegistry, type FromEndpoint } from './teacher.js';

/** Asks twice about a seed: for a question, and then for the tests of what was answered. */
const twice = defineTeacher({
  shape: { kind: z.literal('twice'), testCases, maxTokens: count.default(100) },
  paid: true,
  cost: 'two replies a seed',
  injectsErrors: false,
  note: 'Two requests a seed.',
  teach: ({ testCases: asked, maxTokens }) => ({
    keptShare: 0.5,
    answers: {
      from: 'endpoint',
      model: { model: 'toy', temperature: 0, topP: 1, maxTokens, responseFormat: 'text', expectedReplyTokens: 10 },
      rounds: 2,
      requests(seed, replies) {
        const [first] = replies.map(contentOf);
        const quoted = first && 'text' in first ? first.text : '';
        const user =
          replies.length === 0 ? `A question about ${seed.code}` : `${asked} tests of ${quoted} ${seed.code}`;
        return [{ prompt: { user }, key: { toy: 1, user }, seed: 0 }];
      },
      read: (_, replies) => ({
        question: `made of ${replies.length} replies`,
        entryPoint: 'f',
        testCases: replies.map((_reply, index) => ({ test: `assert f(${index}) == ${index}` })),
      }),
      tokens: (seeds) => ({ prompt: 20 * seeds, completion: 20 * seeds, completionAtMost: 2 * maxTokens * seeds }),
      extrapolated: 'all of it',
    },
  }),
});

/** Runs seeds, and has no errors of its own. */
const echo = defineTeacher({
  shape: { kind: z.literal('echo'), testCases },
  paid: false,
  cost: 'it repeats the seed',
  injectsErrors: false,
  note: 'The seeds themselves.',
  teach: () => ({
    keptShare: 1,
    answers: {
      from: 'sandbox',
      ask: (seed) => ({
        calls: ['f(1)'],
        write: (answered) => ({
          question: seed.code,
          entryPoint: 'f',
          testCases: answered.map(({ call, literal }) => ({ test: `assert ${call} == ${literal}` })),
        }),
      }),
    },
  }),
});

const teachers = teacherRegistry([offline, openai, recorded, twice, echo]);

function endpointAnswers(given: { kind: string; testCases?: number }): FromEndpoint {
  const { answers } = teachers.of(given);
  if (answers.from !== 'endpoint') throw new Error(`${given.kind} asks no endpoint`);
  return answers;
}

describe('a registered teacher', () => {
  it('has its settings in the schema, with defaults and without others', () => {
    expect(teachers.schema.parse({ kind: 'twice' })).toEqual({ kind: 'twice', testCases: 20, maxTokens: 100 });
    expect(teachers.schema.safeParse({ kind: 'twice', corruptedShare: 0 }).success).toBe(false);
    expect(TEACHERS.schema.safeParse({ kind: 'twice' }).success).toBe(false);
  });

  it('has the steps of a shard from how it answers', () => {
    const stepsOf = (kind: string, more: object = {}) => teachers.of({ kind, ...more }).steps;
    expect(stepsOf('twice')).toEqual(['request', 'parse']);
    expect(stepsOf('echo')).toEqual(['ask']);
    expect(stepsOf('offline')).toEqual(['ask']);
    expect(stepsOf('openai', { model: 'm' })).toEqual(['request', 'parse']);
    expect(stepsOf('recorded')).toEqual(['request', 'parse']);
  });

  it('is paid for as it says, whatever else is wrong', () => {
    expect([{ kind: 'twice' }, { kind: 'openai' }].every(teachers.isPaid)).toBe(true);
    const others = [{ kind: 'echo' }, { kind: 'offline' }, { kind: 'none' }, { kind: 3 }, 'twice', null, undefined];
    expect(others.some(teachers.isPaid)).toBe(false);
    expect(teachers.named('echo').cost).toBe('it repeats the seed');
    expect(() => teachers.named('none')).toThrow('there is no teacher "none"');
  });

  it('cannot ask an endpoint and be paid nothing', () => {
    const answers = endpointAnswers({ kind: 'twice' });
    const teach = () => ({ keptShare: 1, answers });
    const shape = { kind: z.literal('free'), testCases };
    const free = defineTeacher({ shape, paid: false, cost: '', injectsErrors: false, note: '', teach });
    expect(() => free.with({ kind: 'free' })).toThrow("teacher 'free': paid means asking an endpoint");
  });

  it('is estimated by its own tokens', () => {
    const tokens = endpointAnswers({ kind: 'twice' }).tokens(1000, 600);
    const estimate = repliesEstimate(tokens, PRICES);
    expect(estimate.dollars).toBeCloseTo((20_000 * PRICES.input + 20_000 * PRICES.output) / 1e6, 12);
    expect(estimate.atMost).toBeCloseTo((20_000 * PRICES.input + 200_000 * PRICES.output) / 1e6, 12);
  });
});

describe('a teacher that asks twice', () => {
  const bench = new AskingBench();
  const answers = endpointAnswers({ kind: 'twice', testCases: 3 });
  const seeds = seedRows(3);

  it('quotes the first reply in the second request, and reads both', async () => {
    const { replies, metrics } = await bench.askTeacher(answers, seeds);
    expect(bench.fake.requests).toHaveLength(6);
    expect(metrics).toMatchObject({ replies: 6, requests: 6, storedBefore: 0 });
    expect(replies!.map((each) => each.map(({ seedId }) => seedId))).toEqual(seeds.map(({ id }) => [id, id]));
    const first = contentOf(replies![0]![0]!);
    expect(asksOf(answers, seeds[0]!, replies![0]!.slice(0, 1))[0]!.prompt.user).toContain(
      'text' in first ? first.text : 'no text',
    );
    const rows = seeds.map((seed, at): QuestionRow => questionOf(seed, answers.read(seed, replies![at]!)));
    for (const row of rows) expect(QuestionRow.parse(row).question).toBe('made of 2 replies');
  });

  it('asks nothing again where the replies are stored, and knows what it has paid for', async () => {
    const known = (rows: readonly SeedRow[]) => knownAsks(answers, rows, (key) => findReply(bench.store, key));
    expect(await known(seeds)).toHaveLength(3);
    const { metrics } = await bench.askTeacher(answers, seeds.slice(0, 1));
    expect(await known(seeds)).toHaveLength(4);
    const again = await bench.askTeacher(answers, seeds.slice(0, 1));
    expect(bench.fake.requests).toHaveLength(2);
    expect(again.metrics).toMatchObject({ storedBefore: 2, costUsd: metrics['costUsd'] });
    expect(again.metrics).not.toHaveProperty('requests');
  });

  it('stops before a round passes the share of the budget', async () => {
    const { metrics } = await bench.askTeacher(answers, seeds.slice(0, 1));
    const one = metrics['costUsd']! / 2;
    const other = await bench.askTeacher(answers, seeds.slice(1, 2), { share: { usd: one } });
    expect(other.replies).toBeUndefined();
    expect(other.metrics['costUsd']).toBeLessThanOrEqual(one);
  });
});
