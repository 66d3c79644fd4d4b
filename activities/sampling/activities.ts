/** Sampling: questions to programs with verdicts and pass rates. */
import { z } from 'zod';
import {
  FilteredQuestionRow,
  judgedTests,
  ProgramRow,
  SamplingConfig,
  SOURCES,
  STAGE,
  StageConfigs,
} from '../../workflows/contract/index.js';
import { count } from '../artifacts/collections.js';
import { deriveSeed, rowId } from '../artifacts/keys.js';
import { faultsOf, judgePrograms, notesOf, settled, shortNotes, type Job } from '../execution/execution.js';
import { cancellationSignal, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { intoShards, ShardedStage } from '../runtime/sharded-stage.js';
import { keyedLanguage } from '../languages/index.js';
import { generate } from '../policy/generate.js';
import { shardAsks } from '../endpoint/activities.js';
import { paidMetrics } from '../endpoint/replies.js';
import { extractProgram, programOfReply, promptOf, questionWithTests } from '../policy/prompt.js';
import { selectQuestions } from '../policy/questions.js';
import { asksOfQuestions, modelOf, requestOf, SampledText, textsOf } from '../policy/source.js';

const SampledQuestion = z.strictObject({
  question: FilteredQuestionRow,
  samples: z.array(SampledText),
});
type SampledQuestion = z.infer<typeof SampledQuestion>;

export const samplingAsks = shardAsks({
  config: StageConfigs.sampling,
  row: FilteredQuestionRow,
  model(config) {
    const request = requestOf.sampler(config);
    return request && modelOf(request);
  },
  asks(config, questions) {
    const request = requestOf.sampler(config);
    return request ? asksOfQuestions(request, questions) : [];
  },
});

/** `sampling.plan`; `sampling.generate` by the policy, or `sampling.request`; `sampling.judge`, `sampling.seal`. */
export function samplingActivities(services: Services) {
  const { store, sandbox, secret } = services;
  const stage = new ShardedStage(STAGE.sampling);

  const plan = stage.plan({
    row: FilteredQuestionRow,
    async run({ config, inputs }) {
      const train = await selectQuestions(store, inputs['questions']!, 'train', config.questions.train, config.salt);
      const heldOut = await selectQuestions(
        store,
        inputs['questions']!,
        'heldOut',
        config.questions.heldOut,
        config.salt,
      );
      return {
        shards: intoShards([...train, ...heldOut], config.shardSize),
        metrics: { train: train.length, heldOut: heldOut.length },
      };
    },
  });

  const request = stage.step({
    after: [plan],
    row: SampledQuestion,
    async run({ config, inputs, rows, execution }) {
      const questions = rows;
      const { texts, metrics, notes } = await textsOf(
        requestOf.sampler(config)!,
        questions,
        {
          store,
          secret,
          signal: cancellationSignal(),
          onProgress: (done, total, message) => reportProgress({ done, total, message }),
        },
        inputs['samples'],
        execution,
      );
      if (!texts) return { incomplete: true, metrics };
      return {
        rows: questions.map((question, at): SampledQuestion => ({ question, samples: texts[at]! })),
        metrics,
        notes,
      };
    },
  });

  const generated = stage.step({
    after: [plan],
    row: SampledQuestion,
    async run({ config, inputs, rows, execution }) {
      const questions = rows;
      const { maxRows } = SamplingConfig.shape.execution.parse(execution);
      const answers = await generate(
        services,
        questions.map(({ id, question, tests, language }) => ({
          id,
          prompt: promptOf(questionWithTests(question, tests, config.shownTests), '', language),
          n: config.samples,
          temperature: config.temperature,
          topP: config.topP,
          maxNewTokens: config.maxNewTokens,
          seeds: Array.from({ length: config.samples }, (_, index) => deriveSeed(config.seed, id, index)),
        })),
        {
          engine: config.engine,
          model: await store.materialise(inputs['policy']!),
          maxRows,
          signal: cancellationSignal(),
          onProgress: (done, total) => reportProgress({ done, total, message: 'programs sampled' }),
        },
      );
      const tooLong = new Set(answers.flatMap(({ id, finish }) => (finish === 'promptTooLong' ? [id] : [])));
      return {
        rows: questions.map((question, at): SampledQuestion => ({
          question,
          samples: answers
            .slice(at * config.samples, (at + 1) * config.samples)
            .map(({ text, finish }) =>
              finish === 'promptTooLong' ? { text, finish: 'length', failure: finish } : { text, finish },
            ),
        })),
        metrics: {
          tokens: answers.reduce((sum, { completionIds }) => sum + completionIds.length, 0),
          ...nonZero({ questionsPromptTooLong: tooLong.size }),
        },
        ...(tooLong.size > 0 ? { notes: { promptTooLong: [...tooLong] } } : {}),
      };
    },
  });

  const judge = stage.step({
    after: [request, generated],
    row: ProgramRow,
    async run({ config, inputs, rows: all }) {
      // A question that the policy could not read has no program.
      const rows = all.filter(({ samples }) => !samples.every(({ failure }) => failure === 'promptTooLong'));
      const { sampler } = config;
      const source = sampler.kind === 'policy' ? undefined : SOURCES.of(sampler);
      const model = source?.from === 'endpoint' ? source.model : inputs[source ? 'samples' : 'policy']!.digest;
      const { samples: _n, seed, temperature, topP, maxNewTokens, shownTests } = config;
      const decoding = { seed, temperature, topP, maxNewTokens, ...(shownTests === undefined ? {} : { shownTests }) };
      const programs = rows.flatMap(({ question, samples }) =>
        samples.map(({ text, finish }, index) => ({
          id: rowId('p', question.id, model, decoding, index),
          question,
          index,
          finish,
          program:
            sampler.kind === 'policy'
              ? extractProgram(text)
              : programOfReply(text, question.entryPoint, question.language),
        })),
      );
      const tests = new Map(rows.map(({ question }) => [question.id, judgedTests(question)]));
      const { judgements, cpuSeconds, brokenReferences, ...about } = await judgePrograms(
        sandbox,
        programs.map(({ id, program, question: { id: questionId, limits } }): Job => ({
          id,
          program,
          tests: tests.get(questionId)!,
          limits,
        })),
        {
          limits: config.limits,
          // Every one, under the limits of the programs: a host on which they fail gives no verdicts, and a question
          // whose reference cannot pass is set aside. A question from elsewhere may have none.
          references: rows
            .filter(({ question: { reference } }) => reference !== '')
            .map(({ question: { id, reference, limits } }): Job => ({
              id,
              program: reference,
              tests: tests.get(id)!,
              limits,
            })),
          signal: cancellationSignal(),
          onProgress: (done, total) => reportProgress({ done, total, message: 'programs run' }),
        },
      );
      const broken = new Set(brokenReferences.map(({ id }) => id));
      const judged = settled(judgements);
      const rated = new Set(judged.flatMap((each, at) => (each.judged ? [programs[at]!.question.id] : [])));
      // A checker that fails on every program, or on the reference, is the question's fault, and else a program's.
      const unratable = new Set(programs.map(({ question }) => question.id).filter((id) => !rated.has(id)));
      for (const { id, status } of brokenReferences) if (status === 'checker_failed') unratable.add(id);
      const faults = faultsOf(judged);
      const left = judged.filter(
        (each, at) => !each.judged && !broken.has(programs[at]!.question.id) && rated.has(programs[at]!.question.id),
      ).length;
      return {
        rows: judged.flatMap((each, at): ProgramRow[] => {
          const {
            id,
            question: { id: questionId, split, question, language, limits, testCases },
            index,
            finish,
            program,
          } = programs[at]!;
          if (broken.has(questionId) || !each.judged) return [];
          const { outcomes, passRate } = each;
          return [
            {
              id,
              questionId,
              split,
              question,
              index,
              program,
              ...keyedLanguage(language),
              finish,
              outcomes,
              passRate,
              testCases,
              ...(limits ? { limits } : {}),
              harness: about.harness,
            },
          ];
        }),
        metrics: {
          cpuSeconds,
          brokenReferences: [...broken].filter((id) => !unratable.has(id)).length,
          ...(unratable.size > 0 ? { questionsCheckerFailed: unratable.size } : {}),
          ...(left > 0 ? { programsCheckerFailed: left } : {}),
        },
        notes: {
          ...notesOf(about),
          ...faults.notes,
          brokenReferences: brokenReferences.map(({ id, test, status, reason }) =>
            `${id}: test ${test} ${status} ${reason ?? ''}`.trim(),
          ),
        },
      };
    },
  });

  return stage.activities(store, {
    plan,
    steps: { request, generate: generated, judge },
    async seal({ config, rows, counts, notes, planMetrics }) {
      const histogram = Array.from({ length: 10 }, () => 0);
      const verdicts: Record<string, number> = {};
      const brokenReference = counts['brokenReferences'] ?? 0;
      const noSamples = counts['questionsWithoutSamples'] ?? 0;
      const checkerFailed = counts['questionsCheckerFailed'] ?? 0;
      const promptTooLong = counts['questionsPromptTooLong'] ?? 0;
      const programsLeft = counts['programsCheckerFailed'] ?? 0;
      let programs = 0;
      let sum = 0;
      let cut = 0;
      for await (const { passRate, outcomes, finish } of rows(judge)) {
        programs += 1;
        if (finish === 'length') cut += 1;
        sum += passRate;
        histogram[Math.min(9, Math.floor(passRate * 10))]! += 1;
        for (const { status } of outcomes) count(verdicts, status);
      }
      return {
        metrics: {
          programs,
          meanPassRate: programs === 0 ? 0 : sum / programs,
          truncated: programs === 0 ? 0 : cut / programs,
          histogram,
          verdicts,
          questions:
            Number(planMetrics['train']) +
            Number(planMetrics['heldOut']) -
            [brokenReference, noSamples, checkerFailed, promptTooLong].reduce((sum, each) => sum + each),
          droppedQuestions: nonZero({ brokenReference, noSamples, checkerFailed, promptTooLong }),
          ...(programsLeft > 0 ? { droppedPrograms: { checkerFailed: programsLeft } } : {}),
          ...(SOURCES.isPaid(config.sampler) ? { ...paidMetrics(counts), failures: failuresOf(counts) } : {}),
          notes: shortNotes(notes),
          tokens: counts['tokens'] ?? 0,
          cpuSeconds: counts['cpuSeconds'] ?? 0,
        },
      };
    },
  });
}

const nonZero = (counts: Record<string, number>): Record<string, number> =>
  Object.fromEntries(Object.entries(counts).filter(([, times]) => times > 0));

/** Why replies held no program, by reason. */
function failuresOf(counts: Record<string, number>): Record<string, number> {
  return Object.fromEntries(
    Object.entries(counts)
      .filter(([name]) => name.startsWith('failures.'))
      .map(([name, times]) => [name.slice('failures.'.length), times]),
  );
}
