/** What a shard asks its teacher, and the rows that come of it. Knows no teacher by name. */
import { canonicalJson, type QuestionRow, type RawReply, type SeedRow } from '../../workflows/contract/index.js';
import { eachOf } from '../artifacts/collections.js';
import { rowId, sha256 } from '../artifacts/keys.js';
import { askForReplies, type Ask, type Asked, type Asking } from '../endpoint/replies.js';
import { keyedLanguage } from '../languages/index.js';
import type { FromEndpoint, Taught } from './teachers/teacher.js';

/**
 * The row of a seed's question.
 *
 * @example
 * questionOf(seed, { question: '', entryPoint: '', testCases: [], failure: 'noReply' }).seedId;
 */
export function questionOf({ id, source, code, language }: SeedRow, { repairs: _, ...taught }: Taught): QuestionRow {
  const keyed = keyedLanguage(language);
  return {
    id: rowId('q', source, code, ...Object.values(keyed)),
    seedId: id,
    source,
    reference: code,
    ...keyed,
    ...taught,
  };
}

/** What a teacher asks about one seed after these replies. */
export function asksOf(teacher: FromEndpoint, seed: SeedRow, replies: readonly RawReply[] = []): Ask[] {
  return teacher.requests(seed, replies).map(({ prompt, key, seed: sampling }) => ({
    seedId: seed.id,
    key: sha256(canonicalJson(key)),
    prompt,
    seed: sampling,
  }));
}

/**
 * The replies about each seed, round after round; undefined where the share of the budget did not do.
 *
 * @throws StageFailure `TeacherRejected` for what no repetition mends.
 */
export async function askTeacher(
  teacher: FromEndpoint,
  seeds: readonly SeedRow[],
  asking: Omit<Asking, 'model' | 'asks'>,
): Promise<{ replies: RawReply[][] | undefined } & Pick<Asked, 'metrics' | 'notes'>> {
  const replies: RawReply[][] = seeds.map(() => []);
  const metrics: Asked['metrics'] = {};
  let notes: Asked['notes'] = {};
  for (let round = 0; round < teacher.rounds; round += 1) {
    const asks = seeds.map((seed, at) => asksOf(teacher, seed, replies[at]));
    const { usd } = asking.execution.share;
    const left = usd === undefined ? {} : { usd: Math.max(0, usd - (metrics['costUsd'] ?? 0)) };
    const asked = await askForReplies({
      ...asking,
      model: teacher.model,
      asks: asks.flat(),
      execution: { ...asking.execution, share: { ...asking.execution.share, ...left } },
    });
    for (const [name, value] of Object.entries(asked.metrics)) metrics[name] = (metrics[name] ?? 0) + value;
    if (asked.notes.endpoint) notes = { endpoint: [...new Set([...(notes.endpoint ?? []), ...asked.notes.endpoint])] };
    if (!asked.replies) return { replies: undefined, metrics, notes };
    const arrived = asked.replies.values();
    asks.forEach((each, at) => each.forEach(() => replies[at]!.push(arrived.next().value!)));
  }
  return { replies, metrics, notes };
}

/** Seeds whose stored replies are read at once. */
const READS = 32;

/**
 * What a teacher has asked, or can ask, about seeds, as far as `stored` replies lead: a later round quotes the
 * replies of an earlier one.
 */
export async function knownAsks(
  teacher: FromEndpoint,
  seeds: readonly SeedRow[],
  stored: (key: string) => Promise<RawReply | undefined>,
): Promise<Ask[]> {
  const known: Ask[][] = seeds.map((seed) => asksOf(teacher, seed));
  if (teacher.rounds === 1) return known.flat();
  await eachOf(seeds.length, READS, async (at) => {
    const replies: RawReply[] = [];
    let asks = known[at]!;
    for (let round = 1; round < teacher.rounds; round += 1) {
      for (const { key } of asks) {
        const reply = await stored(key);
        if (!reply) return;
        replies.push(reply);
      }
      asks = asksOf(teacher, seeds[at]!, replies);
      known[at]!.push(...asks);
    }
  });
  return known.flat();
}
