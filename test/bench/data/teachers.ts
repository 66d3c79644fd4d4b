/**
 * The part `teachers` of `npm run bench:data`: replies of endpoints over real HTTP on loopback, texts of teachers, and
 * programs out of answers. Each row is printed where it is not right.
 */
import { readFileSync } from 'node:fs';
import { keyFor, readEndpoints } from '../../../activities/endpoint/allowed.js';
import { askForReplies, RequestExecution, type Asking } from '../../../activities/endpoint/replies.js';
import { extractProgram, programOfReply } from '../../../activities/policy/prompt.js';
import { asksOf } from '../../../activities/synthesis/asking.js';
import { parseReply } from '../../../activities/synthesis/parse-reply.js';
import { SeedRow, StageConfigs, TEACHERS } from '../../../workflows/contract/index.js';
import { NAMED_REPLIES, OTHER_REPLIES, type EndpointReply } from '../../fixtures/endpoint-replies.js';
import { answer, fakeEndpoint, fakeSeeds, type FakeEndpoint } from '../../fixtures/fake-endpoint.js';
import { seedOf, TEACHER_TEXTS } from '../../fixtures/teacher-texts.js';
import type { Measure } from '../table.js';

/** A store in memory, with the functions that asking uses. */
function memory(): Asking['store'] {
  const documents = new Map<string, unknown>();
  return {
    following: (_signal, work) => work(),
    getJson: (key) => Promise.resolve(documents.get(key)),
    putJson: (key, value) => {
      const first = !documents.has(key);
      if (first) documents.set(key, value);
      return Promise.resolve(first);
    },
  };
}

/** Three seeds, of which the second gets a reply: what is wrong with what became of them; undefined where it is right. */
async function wrongWith(reply: EndpointReply, fake: FakeEndpoint, model: string): Promise<string | undefined> {
  fake.behave = (request, response, nth) =>
    request.name === `${model}_1` && reply.when(request, nth)
      ? answer(
          response,
          reply.status,
          typeof reply.body === 'string' ? reply.body : reply.body(request),
          reply.headers ?? {},
        )
      : undefined;
  const seeds = fakeSeeds(3, model)
    .trim()
    .split('\n')
    .map((line) => SeedRow.parse(JSON.parse(line)));
  const { teacher, execution } = StageConfigs.synthesis.parse({
    teacher: { kind: 'openai', model },
    execution: { endpoint: { baseUrl: fake.url, keyVariable: null, prices: { input: 0, output: 0 } } },
  });
  const { answers } = TEACHERS.of(teacher);
  if (answers.from !== 'endpoint') throw new Error('the teacher asks no endpoint');
  const { replies, notes } = await askForReplies({
    model: answers.model,
    asks: seeds.flatMap((seed) => asksOf(answers, seed)),
    execution: RequestExecution.parse({ ...execution, share: { concurrency: 4 } }),
    store: memory(),
    secret: (endpoint) => keyFor(readEndpoints(), endpoint, {}),
    signal: new AbortController().signal,
    onProgress: () => undefined,
  });
  const rows = seeds.map((seed, at) => answers.read(seed, [replies![at]!]).failure ?? 'question');
  const wanted = ['question', 'failure' in reply.right ? reply.right.failure : 'question', 'question'];
  if (rows.join() !== wanted.join()) return `${rows.join()} and not ${wanted.join()}`;
  return reply.note && !reply.note.test((notes.endpoint ?? []).join())
    ? 'nothing is said of what was changed'
    : undefined;
}

/** How many of a table's rows are right, and which are not. */
function measure(name: string, rows: readonly (readonly [string, string | undefined])[]): Measure {
  const wrong = rows.flatMap(([what, why]) => (why === undefined ? [] : [`${what}: ${why}`]));
  for (const line of wrong) console.error(line);
  return { name, value: rows.length - wrong.length, unit: 'rows', bar: rows.length, note: `of ${rows.length}` };
}

/** Whether two values are equal, and if not, what came. */
function unless(right: boolean, got: unknown): string | undefined {
  return right ? undefined : JSON.stringify(got);
}

/** The rows of all tables. Prints every row that is not right. */
export async function teachers(): Promise<Measure[]> {
  const fake = await fakeEndpoint();
  const measures: Measure[] = [];
  try {
    for (const [name, replies] of [
      ['replies of endpoints, seen first', NAMED_REPLIES],
      ['replies of endpoints, of the same kinds', OTHER_REPLIES],
    ] as const) {
      const rows: [string, string | undefined][] = [];
      for (const [at, reply] of replies.entries())
        rows.push([reply.whose, await wrongWith(reply, fake, `${name.length}_${at}`.replace(/^/, 'm'))]);
      measures.push(measure(name, rows));
    }
  } finally {
    await fake.close();
  }
  measures.push(
    measure(
      'texts of teachers',
      TEACHER_TEXTS.map((each) => {
        const taught = parseReply(seedOf(each), { seedId: 's', text: each.text }, 20);
        const { right } = each;
        return [
          each.what,
          'failure' in right
            ? unless(taught.failure === right.failure, taught)
            : unless(
                taught.testCases.length === right.tests &&
                  taught.form === right.form &&
                  (taught.repairs ?? []).join() === (right.repairs ?? []).join(),
                taught,
              ),
        ];
      }),
    ),
  );
  const { replies, opened } = JSON.parse(
    readFileSync(new URL('../../fixtures/answers.json', import.meta.url), 'utf8'),
  ) as Record<'replies' | 'opened', Record<'what' | 'answer' | 'program' | 'entryPoint' | 'programPrefix', string>[]>;
  const programs = (given: typeof replies, read: (each: (typeof replies)[number]) => string) =>
    given.map((each) => [each.what, unless(read(each) === each.program, read(each))] as const);
  measures.push(
    measure(
      'programs out of replies',
      programs(replies, (each) => programOfReply(each.answer, each.entryPoint)),
    ),
    measure(
      'programs out of opened answers',
      programs(opened, (each) => extractProgram(each.answer, each.programPrefix)),
    ),
  );
  return measures;
}
