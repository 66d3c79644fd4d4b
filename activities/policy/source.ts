/**
 * Programs that a policy does not write: a language model at an endpoint, or stored samples. One way for sampling and
 * for the oracles of filtering.
 */
import { z } from 'zod';
import {
  canonicalJson,
  SampleRow,
  SOURCES,
  type ArtifactRef,
  type EndpointModel,
  type FilteredQuestionRow,
  type Oracle,
  type QuestionRow,
  type QuestionTest,
  type StageConfig,
} from '../../workflows/contract/index.js';
import { count } from '../artifacts/collections.js';
import { deriveSeed, sha256 } from '../artifacts/keys.js';
import { RowIndex } from '../artifacts/row-index.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { askForReplies, RequestExecution, type Ask, type Asked, type Asking } from '../endpoint/replies.js';
import { contentOf } from '../endpoint/content.js';
import { questionWithTests } from './prompt.js';

/** What is wanted of a source, in the names of the contract. */
interface ProgramRequest {
  source: { kind: string };
  /** Programs per question. */
  n: number;
  temperature: number;
  topP: number;
  maxNewTokens: number;
  /** Tests of a question that are shown with it; absent: none. */
  shownTests?: number | undefined;
  seed: number;
}

/** The request that a configuration amounts to; undefined where it needs no source. */
export const requestOf = {
  sampler(config: StageConfig['sampling']): ProgramRequest | undefined {
    const { sampler, samples, temperature, topP, maxNewTokens, shownTests, seed } = config;
    return sampler.kind === 'policy'
      ? undefined
      : { source: sampler, n: samples, temperature, topP, maxNewTokens, shownTests, seed };
  },
  oracle(oracle: Oracle): ProgramRequest | undefined {
    if (!('programs' in oracle)) return undefined;
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

type Question = Pick<QuestionRow | FilteredQuestionRow, 'id' | 'seedId' | 'question' | 'language'> &
  Partial<Pick<FilteredQuestionRow, 'tests'> & { testCases: QuestionRow['testCases'] | number | undefined }>;

/** Tests of a question: those that were kept, or, before filtering, all of them. */
function testsOf({ tests, testCases }: Question): QuestionTest[] {
  return tests ?? (typeof testCases === 'object' ? testCases.map(({ test }) => test) : []);
}

/** What an endpoint is asked about questions: `n` requests each, question after question. */
export function asksOfQuestions(
  { source, n, seed, shownTests, ...sampling }: ProgramRequest,
  questions: readonly Question[],
): Ask[] {
  const programs = SOURCES.of(source);
  if (programs.from !== 'endpoint') return [];
  return questions.flatMap((row) => {
    const asked = { ...row, question: questionWithTests(row.question, testsOf(row), shownTests) };
    return Array.from({ length: n }, (_, index): Ask => {
      const own = deriveSeed(seed, row.id, index);
      const { prompt, key } = programs.request(asked, { ...sampling, seed: own });
      return { seedId: row.seedId, prompt, seed: own, key: sha256(canonicalJson(key)) };
    });
  });
}

/** The model that a request asks at an endpoint; undefined where it asks none. */
export function modelOf({ source, temperature, topP, maxNewTokens }: ProgramRequest): EndpointModel | undefined {
  const programs = SOURCES.of(source);
  return programs.from === 'endpoint'
    ? {
        model: programs.model,
        temperature,
        topP,
        maxTokens: maxNewTokens,
        responseFormat: 'text',
        expectedReplyTokens: programs.tokens(1, maxNewTokens).completion,
      }
    : undefined;
}

/** Texts of each question's programs, in question order; undefined where the share of the budget did not do. */
export async function textsOf(
  request: ProgramRequest,
  questions: readonly Question[],
  { store, ...asking }: Pick<Asking, 'secret' | 'signal' | 'onProgress'> & { store: ArtifactStore },
  samples: ArtifactRef | undefined,
  execution: unknown,
): Promise<{ texts: SampledText[][] | undefined; metrics: Record<string, number>; notes: Asked['notes'] }> {
  const { n } = request;
  const model = modelOf(request);
  if (!model) {
    const texts = await recordedTexts(store, samples!, questions, n);
    return {
      texts,
      metrics: {
        recordedSamples: texts.reduce((sum, each) => sum + each.length, 0),
        questionsWithoutSamples: texts.filter((each) => each.length === 0).length,
      },
      notes: {},
    };
  }
  const { replies, metrics, notes } = await askForReplies({
    model,
    asks: asksOfQuestions(request, questions),
    execution: RequestExecution.parse(execution),
    store,
    ...asking,
  });
  if (!replies) return { texts: undefined, metrics, notes };
  const failures: Record<string, number> = {};
  const texts = replies.map((reply): SampledText => {
    const content = contentOf(reply);
    if ('text' in content) return { text: content.text, finish: content.cut ? 'length' : 'stop' };
    count(failures, `failures.${content.failure}`);
    return { text: '', finish: 'stop', failure: content.failure };
  });
  return {
    texts: questions.map((_, at) => texts.slice(at * n, (at + 1) * n)),
    metrics: { ...metrics, ...failures },
    notes,
  };
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
