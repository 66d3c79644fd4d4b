/** Replies of vendors, each to the second of three rows: what the row has in the end, and what is stored. */
import { describe, expect, it } from 'vitest';
import { AskingBench, answersOf, seedRows } from '../../test/fixtures/asking.js';
import { NAMED_REPLIES, OTHER_REPLIES, type EndpointReply } from '../../test/fixtures/endpoint-replies.js';
import { answer } from '../../test/fixtures/fake-endpoint.js';

const bench = new AskingBench();

describe.each([
  ['seen first', NAMED_REPLIES],
  ['of the same kinds', OTHER_REPLIES],
])('a reply %s', (_, replies) => {
  it.each(replies.map((reply): [string, EndpointReply] => [reply.whose, reply]))('%s', async (_whose, reply) => {
    bench.fake.behave = (request, response, nth) =>
      request.name === 'times_1' && reply.when(request, nth)
        ? answer(
            response,
            reply.status,
            typeof reply.body === 'string' ? reply.body : reply.body(request),
            reply.headers ?? {},
          )
        : undefined;
    const { replies: stored, notes, metrics } = await bench.ask({ seeds: 3 });
    const answers = answersOf();
    const rows = seedRows(3).map((seed, at) => answers.read(seed, [stored![at]!]));
    const { failure } = 'failure' in reply.right ? reply.right : { failure: undefined };
    expect(rows.map((row) => row.failure)).toEqual([undefined, failure, undefined]);
    expect(rows[1]!.testCases).toHaveLength(failure === undefined ? 20 : 0);
    if (reply.note) expect(notes.endpoint?.join()).toMatch(reply.note);
    const retries = Object.keys(metrics).filter((name) => name.startsWith('retries.'));
    expect(retries.length > 0).toBe('question' in reply.right ? reply.right.question === 'again' : retries.length > 0);

    const requests = bench.fake.requests.length;
    const second = await bench.ask({ seeds: 3 });
    expect(bench.fake.requests).toHaveLength(requests);
    expect(second.replies).toEqual(stored);
  });
});

describe('a parameter that is refused', () => {
  it('is in the key of the reply, and an endpoint that takes it is asked', async () => {
    const refusing = NAMED_REPLIES.find(({ whose }) => whose.startsWith('Mistral'))!;
    bench.fake.behave = (request, response) =>
      'seed' in request.body ? answer(response, refusing.status, refusing.body as string) : undefined;
    const { replies } = await bench.ask({ seeds: 2, share: { concurrency: 1 } });
    expect(bench.fake.requests.map(({ body }) => 'seed' in body)).toEqual([true, false, false]);
    expect(bench.fake.requests.every(({ body }) => body['temperature'] === 0.7)).toBe(true);
    // The same model at another address.
    bench.fake.behave = () => undefined;
    const other = await bench.ask({ seeds: 2, endpoint: { baseUrl: `${bench.fake.url}/` } });
    expect(other.notes).toEqual({});
    expect(bench.fake.requests.slice(3).map(({ body }) => 'seed' in body)).toEqual([true, true]);
    expect(other.replies!.map(({ key }) => key)).not.toEqual(replies!.map(({ key }) => key));
  });

  it('is not sent at all where the teacher sets it to null', async () => {
    await bench.ask({ teacher: { temperature: null, topP: null, seed: null } });
    const { body } = bench.fake.requests[0]!;
    expect(['temperature', 'top_p', 'seed'].filter((name) => name in body)).toEqual([]);
  });

  it('parks the stage where its value is out of range, because only its owner can mend that', async () => {
    bench.fake.behave = (_, response) =>
      answer(
        response,
        422,
        '{"detail": [{"loc": ["body", "temperature"], "msg": "Input should be less than or equal to 1"}]}',
      );
    await expect(bench.ask({ teacher: { temperature: 1.5 } })).rejects.toThrow(
      'with 422: body.temperature\nInput should be less than or equal to 1',
    );
  });
});
