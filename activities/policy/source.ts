/**
 * Programs that a policy does not write: a language model at an endpoint, or stored samples. One way for sampling and for
 * the oracles of filtering.
 */
import { z } from 'zod';
import {
  canonicalJson,
  expectedProgramTokens,
  SampleRow,
  type ArtifactRef,
  type FilteredQuestionRow,
  type Oracle,
  type ProgramSource,
  type QuestionRow,
  type StageConfig,
} from '../../workflows/contract/index.js';
import { count } from '../artifacts/collections.js';
import { deriveSeed, sha256 } from '../artifacts/keys.js';
import { RowIndex } from '../artifacts/row-index.js';
import type { ArtifactStore } from '../artifacts/store.js';
import type { EndpointModel } from '../endpoint/endpoint.js';
import { askForReplies, RequestExecution, type Ask, type Asking } from '../endpoint/replies.js';
import { contentOf } from '../endpoint/content.js';
import { keyedLanguage } from '../languages/index.js';
import { PROMPT_VERSION, promptOf } from './prompt.js';

/** What is wanted of a source, in the names of the contract. */
export interface ProgramRequest {
  source: ProgramSource;
  /** Programs per question. */
  n: number;
  temperature: number;
  topP: number;
  maxNewTokens: number;
  seed: number;
}

/** The request that a configuration amounts to; undefined where it needs no source. */
export const requestOf = {
  sampler({
    sampler,
    samples,
    temperature,
    topP,
    maxNewTokens,
    seed,
  }: StageConfig['sampling']): ProgramRequest | undefined {
    return sampler.kind === 'policy'
      ? undefined
      : { source: sampler, n: samples, temperature, topP, maxNewTokens, seed };
  },
  oracle(oracle: Oracle): ProgramRequest | undefined {
    if (oracle.kind === 'reference') return undefined;
    const { kind: _kind, programs, ...request } = oracle;
    return { source: programs, ...request };
  },
};

/** One program's text as the model gave it. `failure` says why there is none. */
export const SampledText = z.strictObject({
  text: z.string(),
  finish: z.enum(['stop', 'length']),
  failure: z.string().optional(),
});
export type SampledText = z.infer<typeof SampledText>;

type Question = Pick<QuestionRow | FilteredQuestionRow, 'id' | 'seedId' | 'question' | 'language'>;

/** What an endpoint is asked about questions: `n` requests each, question after question. */
export function asksOfQuestions(
  { source, n, temperature, topP, maxNewTokens, seed }: ProgramRequest,
  questions: readonly Question[],
): Ask[] {
  if (source.kind !== 'openai') return [];
  return questions.flatMap(({ id, seedId, question, language }) => {
    const {
      messages: [message],
    } = promptOf(question, '', language);
    return Array.from({ length: n }, (_, index): Ask => {
      const own = deriveSeed(seed, id, index);
      return {
        seedId,
        prompt: { user: message!.content },
        seed: own,
        key: sha256(
          canonicalJson({
            model: source.model,
            prompt: `program-v${PROMPT_VERSION}`,
            question,
            ...keyedLanguage(language),
            parameters: { temperature, topP, maxNewTokens, seed: own },
          }),
        ),
      };
    });
  });
}

/** Texts of each question's programs, in question order; undefined where the share of the budget did not do. */
export async function textsOf(
  request: ProgramRequest,
  questions: readonly Question[],
  { store, ...asking }: Pick<Asking, 'secret' | 'signal' | 'onProgress'> & { store: ArtifactStore },
  samples: ArtifactRef | undefined,
  execution: unknown,
): Promise<{ texts: SampledText[][] | undefined; metrics: Record<string, number> }> {
  const { source, n, temperature, topP, maxNewTokens } = request;
  if (source.kind === 'recorded') {
    const texts = await recordedTexts(store, samples!, questions, n);
    return {
      texts,
      metrics: {
        recordedSamples: texts.reduce((sum, each) => sum + each.length, 0),
        questionsWithoutSamples: texts.filter((each) => each.length === 0).length,
      },
    };
  }
  const model: EndpointModel = {
    model: source.model,
    temperature,
    topP,
    maxTokens: maxNewTokens,
    responseFormat: 'text',
    expectedReplyTokens: expectedProgramTokens(maxNewTokens),
  };
  const { replies, metrics } = await askForReplies({
    model,
    asks: asksOfQuestions(request, questions),
    execution: RequestExecution.parse(execution),
    store,
    ...asking,
  });
  if (!replies) return { texts: undefined, metrics };
  const failures: Record<string, number> = {};
  const texts = replies.map((reply): SampledText => {
    const content = contentOf(reply);
    if ('text' in content) return { text: content.text, finish: content.cut ? 'length' : 'stop' };
    count(failures, `failures.${content.failure}`);
    return { text: '', finish: 'stop', failure: content.failure };
  });
  return { texts: questions.map((_, at) => texts.slice(at * n, (at + 1) * n)), metrics: { ...metrics, ...failures } };
}

/** The first `n` stored samples of each question's seed. */
async function recordedTexts(
  store: ArtifactStore,
  ref: ArtifactRef,
  questions: readonly Question[],
  n: number,
): Promise<SampledText[][]> {
  const samples = await (
    await RowIndex.of(store, ref)
  ).rowsOf(
    questions.map(({ seedId }) => seedId),
    SampleRow,
    n,
  );
  return questions.map(({ seedId }) => samples.get(seedId)!.map(({ text }) => ({ text, finish: 'stop' })));
}
