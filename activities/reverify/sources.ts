/**
 * What is verified again: sampled programs, evaluated answers and RL rollouts, each with the tests that it was judged
 * against. All of it is read out of the store as the stages left it; nothing there changes.
 */
import { z } from 'zod';
import {
  ArtifactRef,
  canonicalJson,
  EvaluationRow,
  FilteredQuestionRow,
  ManifestFile,
  ProgramRow,
  QuestionTest,
  Repair,
  RewardConfig,
  RewardRow,
  RolloutRow,
  RoundPromptRow,
  SandboxLimits,
  ScoreRow,
  StageFailure,
  TestsRow,
  VerdictRow,
  type CpuLimits,
  type Harness,
  type ReverifyInput,
  type TestOutcome,
} from '../../workflows/contract/index.js';
import { collect } from '../artifacts/collections.js';
import { objectKeys } from '../artifacts/keys.js';
import type { RewardRule } from '../reinforcement/rewards.js';
import { roundsOf } from '../artifacts/pruning.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { extractProgram } from '../policy/prompt.js';
import { SCORE_SCALE_FILE, ScoreScale } from '../policy/score.js';
import { readFile } from 'node:fs/promises';
import { outcomesOf, programKey, type How, type Run } from './cells.js';
import { JudgedTests, TestChanges, type TestList } from './tests.js';

type Store = Pick<ArtifactStore, 'fetch' | 'getJson' | 'manifest' | 'readRows' | 'rowsOf'>;

/** A program that is verified again. */
export interface Item {
  id: string;
  questionId: string;
  program: string;
  before: TestList;
  after: TestList;
  /** Absent where no test ran before. */
  outcomes?: TestOutcome[] | undefined;
  limits: SandboxLimits;
  /** Names program and limits. */
  key: string;
  /** The verdicts before, where they were made under the same limits by the harness of today. */
  run?: Run | undefined;
  /** Whether the harness of the verdicts before is another, or unknown. */
  otherHarness?: string | undefined;
}

/** Programs with verdicts. */
export interface ProgramSource {
  kind: 'programs';
  name: string;
  rows: number;
  items: () => AsyncGenerator<Item & { row: ProgramRow }>;
}

/** Evaluated answers. */
export interface EvaluationSource {
  kind: 'evaluation';
  name: string;
  rows: number;
  passAtK: readonly number[];
  items: () => AsyncGenerator<Item & { row: EvaluationRow }>;
}

/** Rollouts of one RL round. */
export interface RoundSource {
  kind: 'round';
  name: string;
  round: number;
  rows: number;
  /** Whether tests decide anything: without a weight of theirs, no program runs. */
  isJudged: boolean;
  before: RoundRule;
  after: RoundRule;
  rewards: () => Promise<RewardRow[]>;
  scores: () => Promise<Map<string, number>>;
  items: () => AsyncGenerator<Item & { row: RolloutRow }>;
}

export type Source = ProgramSource | EvaluationSource | RoundSource;

/** The items of a source whose tests decide something. */
export function judgedItems(source: Source): AsyncGenerator<Item> {
  return source.kind === 'round' && !source.isJudged ? nothing() : source.items();
}

async function* nothing(): AsyncGenerator<never> {}

/** The rule of a round's rewards. */
interface RoundRule {
  reward: z.infer<typeof RewardConfig>;
  rewardClip: number;
  dropDegenerateGroups: boolean;
  maxNewTokens: number;
  scale?: ScoreScale | undefined;
  /** Where there are repair turns: what a turn earns of what came after it. */
  repair?: RewardRule['repair'];
}

/** What the sources follow from. */
export interface Opening {
  inputs: Record<string, ArtifactRef>;
  settings: Pick<ReverifyInput, 'limits' | 'reward' | 'run'>;
  /** The harness of today. */
  harness: Harness;
}

const Judged = z.object({ limits: SandboxLimits.prefault({}) });
const PlannedTasks = z.object({ shards: z.array(ManifestFile) });
const PlannedTask = z.object({
  benchmark: z.string(),
  task: z.object({ id: z.string(), tests: z.array(QuestionTest), checker: z.string().optional() }),
});
const EvaluationSettings = z.object({ passAtK: z.array(z.number()).default([1]) });
const RewardsManifest = z.object({
  config: z.object({
    reward: RewardConfig,
    rewardClip: z.number(),
    dropDegenerateGroups: z.boolean(),
    watch: z.object({}).optional(),
    repair: Repair.pick({ credit: true, discount: true }).partial({ discount: true }).optional(),
  }),
  inputs: z.object({
    verdicts: ArtifactRef.optional(),
    scores: ArtifactRef.optional(),
    rewardModel: ArtifactRef.optional(),
  }),
});
const RolloutsManifest = z.object({
  config: z.object({ maxNewTokens: z.number() }),
  inputs: z.object({ plan: ArtifactRef }),
});
const UpdateInputs = z.object({ inputs: z.object({ rollouts: ArtifactRef, rewards: ArtifactRef }) });

/** Harness in a few words, as manifests have it. */
export function harnessText(harness: Harness | undefined): string {
  return harness ? `${harness.version}; Python ${harness.python}; ${harness.importPolicy}` : 'unknown';
}

/** What an item knows of its verdicts today: undefined where a test has to run. */
export function knownOutcomes({ after, run }: Pick<Item, 'after' | 'run'>, how: How): TestOutcome[] | undefined {
  const known = outcomesOf(after.digests, run ? [run] : [], how);
  return known.every((outcome) => outcome !== undefined) ? known : undefined;
}

/** The changes of tests. @throws StageFailure `InvalidExperiment` where a question is there twice. */
export async function readChanges(store: Store, tests: ArtifactRef | undefined): Promise<TestChanges> {
  const changes = new TestChanges();
  if (tests?.kind === 'tests') for await (const row of store.rowsOf(tests, TestsRow)) changes.take(row);
  else if (tests) for await (const row of store.rowsOf(tests, FilteredQuestionRow)) changes.replace(row);
  return changes;
}

/**
 * The sources of a re-verification, in a fixed order.
 *
 * @throws StageFailure `InvalidExperiment` where an input does not name what its verdicts follow from.
 */
export async function openSources(store: Store, opening: Opening, changes: TestChanges): Promise<Source[]> {
  const { inputs } = opening;
  const all: Source[] = [];
  if (inputs['programs']) all.push(await programSource(store, inputs['programs'], opening, changes));
  if (inputs['evaluation']) all.push(await evaluationSource(store, inputs['evaluation'], opening, changes));
  if (inputs['policy']) all.push(...(await roundSources(store, inputs['policy'], opening, changes)));
  return all;
}

async function programSource(
  store: Store,
  ref: ArtifactRef,
  opening: Opening,
  changes: TestChanges,
): Promise<ProgramSource> {
  const { inputs, config } = await store.manifest(ref);
  const named = ArtifactRef.safeParse(inputs['questions']);
  const questions = opening.inputs['questions'] ?? named.data;
  if (!questions)
    throw new StageFailure(
      'InvalidExperiment',
      'inputs.questions: needed, because inputs.programs come from no stage: the questions that the programs were ' +
        'judged against',
    );
  const tests = new JudgedTests();
  for await (const row of store.rowsOf(questions, FilteredQuestionRow)) tests.add(row.id, row);
  const limits = Judged.safeParse(config).data?.limits ?? SandboxLimits.parse({});
  return {
    kind: 'programs',
    name: 'programs',
    rows: ref.rows ?? 0,
    async *items() {
      for await (const row of store.rowsOf(ref, ProgramRow)) {
        const before = tests.of(row.questionId, row);
        yield { ...itemOf({ ...row, before, defaults: limits }, opening, changes), row };
      }
    },
  };
}

async function evaluationSource(
  store: Store,
  ref: ArtifactRef,
  opening: Opening,
  changes: TestChanges,
): Promise<EvaluationSource> {
  const { config, stageKey } = await store.manifest(ref);
  const plan = PlannedTasks.safeParse(await store.getJson(objectKeys.plan(stageKey)));
  if (!plan.success)
    throw new StageFailure(
      'InvalidExperiment',
      `inputs.evaluation: the store has no plan of ${ref.key}, which holds the tests of its tasks`,
    );
  const nameOf = (benchmark: string, task: string): string => `${benchmark} ${task}`;
  const tests = new JudgedTests();
  for await (const { benchmark, task } of store.readRows(plan.data.shards, PlannedTask)) {
    if (task.tests.some((test) => typeof test === 'object' && test !== null && 'suite' in test))
      throw new StageFailure(
        'InvalidExperiment',
        `inputs.evaluation: '${benchmark}' is judged by what its references answer; evaluate its samples again instead`,
      );
    tests.add(nameOf(benchmark, task.id), task);
  }
  const limits = Judged.safeParse(config).data?.limits ?? SandboxLimits.parse({});
  return {
    kind: 'evaluation',
    name: 'evaluation',
    rows: ref.rows ?? 0,
    passAtK: EvaluationSettings.parse(config).passAtK,
    async *items() {
      for await (const row of store.rowsOf(ref, EvaluationRow)) {
        const before = tests.of(nameOf(row.benchmark, row.taskId), row);
        yield {
          ...itemOf({ ...row, questionId: row.taskId, before, defaults: limits }, opening, changes),
          row,
        };
      }
    },
  };
}

async function roundSources(
  store: Store,
  newest: ArtifactRef,
  opening: Opening,
  changes: TestChanges,
): Promise<RoundSource[]> {
  let rounds: Map<number, ArtifactRef>;
  try {
    rounds = await roundsOf(store, newest);
  } catch (error) {
    if (error instanceof StageFailure) throw error;
    throw new StageFailure('InvalidExperiment', `inputs.policy: ${(error as Error).message}`);
  }
  const sources: RoundSource[] = [];
  for (const [round, policy] of rounds) {
    const { rollouts, rewards } = UpdateInputs.parse(await store.manifest(policy)).inputs;
    sources.push(await roundSource(store, { round, rollouts, rewards }, opening, changes));
  }
  return sources;
}

async function roundSource(
  store: Store,
  { round, rollouts, rewards }: { round: number; rollouts: ArtifactRef; rewards: ArtifactRef },
  opening: Opening,
  changes: TestChanges,
): Promise<RoundSource> {
  const rewarded = RewardsManifest.parse(await store.manifest(rewards));
  const { watch, reward } = rewarded.config;
  const readsMore = [reward, opening.settings.reward].some((each) => each?.verifier || each?.invalidBelowValid);
  if (watch || readsMore)
    throw new StageFailure(
      'InvalidExperiment',
      `inputs.policy: round ${round} has hidden tests, or rewards that more than verdicts decide (reinforcement.watch, ` +
        'reward.verifier or reward.invalidBelowValid); its rewards are not made again from verdicts alone',
    );
  const sampled = RolloutsManifest.parse(await store.manifest(rollouts));
  const { verdicts, scores, rewardModel } = rewarded.inputs;
  const scale = rewardModel && scores ? await scoreScale(store, rewardModel) : undefined;
  const before: RoundRule = { ...rewarded.config, maxNewTokens: sampled.config.maxNewTokens, scale };
  const after: RoundRule = { ...before, reward: opening.settings.reward ?? before.reward };
  if (after.reward.rewardModelWeight > 0 && !scores)
    throw new StageFailure(
      'InvalidExperiment',
      `reward.rewardModelWeight: round ${round} has no scores of a reward model, and none are made here: 0 alone works`,
    );
  const limits = verdicts ? Judged.parse((await store.manifest(verdicts)).config).limits : SandboxLimits.parse({});
  return {
    kind: 'round',
    name: `round ${round}`,
    round,
    rows: rollouts.rows ?? 0,
    isJudged: verdicts !== undefined || after.reward.testsWeight > 0,
    before,
    after,
    rewards: () => collect(store.rowsOf(rewards, RewardRow)),
    scores: async () =>
      new Map((scores ? await collect(store.rowsOf(scores, ScoreRow)) : []).map(({ id, score }) => [id, score])),
    async *items() {
      const tests = new JudgedTests();
      const own = new Map<string, CpuLimits>();
      for await (const row of store.rowsOf(sampled.inputs.plan, RoundPromptRow)) {
        tests.add(row.questionId, row);
        if (row.limits) own.set(row.questionId, row.limits);
      }
      const judged = new Map<string, VerdictRow>();
      if (verdicts) for await (const row of store.rowsOf(verdicts, VerdictRow)) judged.set(row.id, row);
      for await (const row of store.rowsOf(rollouts, RolloutRow)) {
        const { id, questionId, text } = row;
        const verdict = judged.get(id);
        const item = itemOf(
          {
            id,
            questionId,
            program: extractProgram(text),
            before: tests.of(questionId, verdict ?? { id }),
            outcomes: verdict?.outcomes,
            limits: verdict ? verdict.limits : own.get(questionId),
            harness: verdict?.harness,
            defaults: limits,
          },
          opening,
          changes,
        );
        yield { ...item, row };
      }
    },
  };
}

/** Mean and deviation of a reward model's scores, without the model. */
async function scoreScale(store: Store, rewardModel: ArtifactRef): Promise<ScoreScale> {
  const { files } = await store.manifest(rewardModel);
  const file = files.find(({ name }) => name === SCORE_SCALE_FILE);
  if (!file) throw new StageFailure('ArtifactCorrupt', `${rewardModel.key} has no ${SCORE_SCALE_FILE}`);
  return ScoreScale.parse(JSON.parse(await readFile(await store.fetch(file), 'utf8')));
}

interface JudgedProgram {
  id: string;
  questionId: string;
  program: string;
  before: TestList;
  outcomes?: TestOutcome[] | undefined;
  /** Those of the question. */
  limits?: CpuLimits | undefined;
  harness?: Harness | undefined;
  /** Limits of the stage, where the question has none. */
  defaults: SandboxLimits;
}

function itemOf(
  { id, questionId, program, before, outcomes, limits: own, harness, defaults }: JudgedProgram,
  { settings, harness: today }: Opening,
  changes: TestChanges,
): Item {
  const after = changes.after(questionId, before);
  const was: SandboxLimits = { ...defaults, ...own };
  const limits = settings.limits ?? { ...was, ...changes.limitsOf(questionId) };
  const key = programKey(program, limits);
  const isToday = harness !== undefined && canonicalJson(harness) === canonicalJson(today);
  const holds = outcomes && isToday && canonicalJson(was) === canonicalJson(limits);
  return {
    id,
    questionId,
    program,
    before,
    after,
    outcomes,
    limits,
    key,
    ...(holds ? { run: { tests: before.digests, outcomes } } : {}),
    ...(outcomes && !isToday ? { otherHarness: harnessText(harness) } : {}),
  };
}
