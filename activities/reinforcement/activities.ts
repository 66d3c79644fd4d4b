/**
 * RL rounds: each is plan -> rollouts -> verdicts and scores -> rewards -> policy, every one an immutable artifact. The
 * trainer only consumes what is stored, so that a crash costs neither tokens nor executions and no rollout is trained
 * on
 * twice.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  ArtifactRef,
  CurriculumDraw,
  CurriculumRow,
  follows,
  gateFaults,
  judgedTests,
  metricsOf,
  ProgramRow,
  ReinforcementConfig,
  RepairPromptRow,
  RewardRow,
  RolloutRow,
  RoundCurriculum,
  RoundPromptRow,
  RoundRepair,
  roundSettings,
  RoundWatch,
  ScoreRow,
  STAGE,
  StageFailure,
  VerdictRow,
  VerifierRow,
  type FilteredQuestionRow,
  type GangMember,
  type ManifestFile,
  type Produced,
  type RewardModelGate,
  type StepName,
} from '../../workflows/contract/index.js';
import { collect, count, groupedBy } from '../artifacts/collections.js';
import { deriveSeed, objectKeys, rowId, sha256, stageKey, TRAINING_STATE } from '../artifacts/keys.js';
import { produce, restore, type Product } from '../artifacts/produce.js';
import {
  Documents,
  isPruned,
  keptArtifacts,
  MODEL_DOCUMENTS,
  neededBlobs,
  newestStored,
  prunable,
  prunedParts,
  pruningHorizon,
  roundsOf,
  sweep,
  UpdateManifest,
} from '../artifacts/pruning.js';
import { stepRecipe } from '../artifacts/recipes.js';
import type { Part, PrunedDocument } from '../artifacts/pruned.js';
import { writeRows } from '../artifacts/rows.js';
import { evaluateCalls, faultsOf, judgePrograms, notesOf, settled, type Job } from '../execution/execution.js';
import { PoliciesOnTheirWay } from '../runtime/ahead.js';
import { dropCheckpoints, train, trainingSettings, withWorkFolder } from '../runtime/checkpoints.js';
import { cancellationSignal, currentProducer, leaveDevice, reportProgress } from '../runtime/context.js';
import { trainingIn } from '../runtime/gang.js';
import type { Services } from '../runtime/services.js';
import { score, SCORE_SCALE_FILE, ScoreScale } from '../policy/score.js';
import { generate, type Answer } from '../policy/generate.js';
import { materialisePolicy, type PolicyFolders } from '../policy/adapters.js';
import { keyedLanguage } from '../languages/index.js';
import { extractProgram, promptOf } from '../policy/prompt.js';
import { selectQuestions, withHardenedTests } from '../policy/questions.js';
import { correctionOf, wantsLogProbabilities } from './correction.js';
import { countedPrograms, firstDraw, nextDraw, roundCurriculum, type NextDraw } from './curriculum.js';
import { hardQuestions } from './hard-questions.js';
import { hiddenTests, judgedRollouts, visiblePart } from './hidden-tests.js';
import { failuresOf, feedbackOf, groupOf, ofFailures, repairPrompt, roundRepair, visiblePlaces } from './repair.js';
import { rewardRollouts, type VerifierRates } from './rewards.js';
import { watchRound, type WatchedQuestion } from './watch.js';
import { add, set } from '../metrics.js';

/** What every activity of a round receives; `inputs` are the artifacts that it reads. */
export interface RoundInput<I extends Record<string, ArtifactRef | undefined>> {
  config: unknown;
  round: number;
  inputs: I;
}

/** What a plan reads. */
interface PlanInputs extends Record<string, ArtifactRef | undefined> {
  questions: ArtifactRef;
  programs?: ArtifactRef | undefined;
  hardened?: ArtifactRef | undefined;
  /** With a curriculum: the plan before, of this round or of the last one, and its rewards. */
  earlier?: ArtifactRef | undefined;
  rewards?: ArtifactRef | undefined;
}

/** What sampling reads besides the policy. */
interface AskedInputs extends Record<string, ArtifactRef | undefined> {
  plan: ArtifactRef;
  /** What the draw or the turn before has. */
  earlier?: ArtifactRef | undefined;
}

interface RolloutInputs extends AskedInputs {
  policy: ArtifactRef;
}

/** What a policy update consumes. */
type UpdateInputs = z.infer<typeof UpdateManifest>['inputs'];

/** The key of a policy whose files were pruned, and which is made again from the inputs that its manifest names. */
export interface UpdateAgain {
  config: unknown;
  again: string;
}

/** What a policy update is asked: that of a round, or one that is made again. */
export type UpdateInput = RoundInput<UpdateInputs> | UpdateAgain;

/** Which rounds are looked at: of a long stage, those about which something has changed. */
export interface PruneInput {
  /** Policy of the newest round. */
  newest: ArtifactRef;
  /** The first round to look at, and older policies that were still needed at the last look. */
  from: number;
  held: ArtifactRef[];
  /** What the stage itself still reads: the reference, and a policy that a later round samples. */
  needed: ArtifactRef[];
  /** How many of the newest stay; null: all. */
  keepRounds: number | null;
  /** The stage is at its end: what it keeps then, no other stage prunes. */
  done: boolean;
}

export interface PruneResult {
  /** Rounds, of those looked at, of which nothing stays but the manifest. */
  rounds: number;
  swept: number;
  sweptBytes: number;
  /** Where the next look begins: `from` and `held` of its input. */
  from: number;
  held: ArtifactRef[];
}

/** Older policies that a prune hands on to the next one. Payloads of histories stay small. */
const MOST_HELD = 20;

/** Attempts after which rollouts that the sandbox cannot judge are recorded as such and left out of their groups. */
const JUDGE_ATTEMPTS = 3;

/** A plan's prompts, and the answers to those that have none yet. */
interface Asked {
  planned: RoundPromptRow[];
  kept: RolloutRow[];
  turns: Map<string, RepairPromptRow>;
  answers: Answer[];
}

/** Share of the answers that the limit of tokens cut. */
function shareOfTruncated(rollouts: readonly Pick<RolloutRow, 'promptIds' | 'finish'>[]): number {
  const answers = rollouts.filter(({ promptIds }) => promptIds.length > 0);
  return answers.filter(({ finish }) => finish === 'length').length / Math.max(1, answers.length);
}

/** What sampling counts. */
const RolloutMetrics = z.object({ rollouts: z.number(), tokens: z.number(), truncated: z.number() });
const NO_ROLLOUTS = { rollouts: 0, tokens: 0, truncated: 0 };

/** What the watch saw, and what came of the draws: files next to the rewards. */
const WATCH_FILE = 'watch.jsonl';
const CURRICULUM_FILE = 'curriculum.jsonl';
const REPAIR_FILE = 'repair.jsonl';
/** What a plan of a repair turn asks: a file next to the prompts of the round. */
const TURNS_FILE = 'turns.jsonl';
/** What a plan with a curriculum knows of each question, and how it drew: files next to its prompts. */
const KNOWN_FILE = 'known.jsonl';
const DRAW_FILE = 'draw.jsonl';

/** The rows of one file of an artifact. @throws StageFailure `ArtifactCorrupt` where it has none. */
async function rowsIn<T>(
  store: Pick<Services['store'], 'manifest' | 'readRows'>,
  ref: ArtifactRef,
  name: string,
  schema: z.ZodType<T>,
): Promise<T[]> {
  const file = (await store.manifest(ref)).files.find((each) => each.name === name);
  const found = file ? await collect(store.readRows([file], schema)) : [];
  if (found.length === 0) throw new StageFailure('ArtifactCorrupt', `${ref.key} has no ${name}`);
  return found;
}

/** What a plan asks in a repair turn; empty for the plan of first answers. */
async function repairPrompts(
  store: Pick<Services['store'], 'manifest' | 'readRows'>,
  plan: ArtifactRef,
): Promise<RepairPromptRow[]> {
  const file = (await store.manifest(plan)).files.find(({ name }) => name === TURNS_FILE);
  return file ? collect(store.readRows([file], RepairPromptRow)) : [];
}

/** The only row of such a file. */
async function rowIn<T>(
  store: Pick<Services['store'], 'manifest' | 'readRows'>,
  ref: ArtifactRef,
  name: string,
  schema: z.ZodType<T>,
): Promise<T> {
  const [row] = await rowsIn(store, ref, name, schema);
  return row!;
}

/** Tests by question, with the places of the hidden ones. Where rewards read no test, none is hidden from them. */
function watchedQuestions(plan: readonly RoundPromptRow[], usesTests: boolean): Map<string, WatchedQuestion> {
  return new Map(
    plan.map(({ questionId, tests, hiddenTests = [] }) => [
      questionId,
      { tests, hidden: usesTests ? hiddenTests : [] },
    ]),
  );
}

/** What the draw before made for these rollouts, and the rollouts for which it made nothing. */
function takenOver<R extends { id: string }, T extends { id: string }>(
  rollouts: readonly R[],
  earlier: readonly T[],
): { kept: T[]; rest: R[] } {
  const ids = new Set(rollouts.map(({ id }) => id));
  const made = new Set(earlier.map(({ id }) => id));
  return { kept: earlier.filter(({ id }) => ids.has(id)), rest: rollouts.filter(({ id }) => !made.has(id)) };
}

/** Whether a program never ran: it does not load, or the sandbox refuses it. */
function neverRan({ outcomes }: VerdictRow): boolean {
  return outcomes.length > 0 && outcomes.every(({ status }) => status === 'load_error' || status === 'refused');
}

/**
 * The rates of the tests of each question as a verifier, out of the artifact of `preferences`. For the share of passed
 * tests these are the means over tests. For all tests together, the FPR is the share of the mutants of the reference
 * that no test fails, and the TPR is 1, because the reference passes. Questions without rates are left out.
 *
 * @throws StageFailure `InvalidExperiment` where `preferences` measured nothing.
 */
async function verifierRates(
  store: Pick<Services['store'], 'manifest' | 'readRows'>,
  pairs: ArtifactRef,
  tests: ReinforcementConfig['reward']['tests'],
): Promise<Map<string, VerifierRates>> {
  const file = (await store.manifest(pairs)).files.find(({ name }) => name === 'verifiers.jsonl');
  if (!file)
    throw new StageFailure(
      'InvalidExperiment',
      'reward.verifier: the pairs say nothing of the quality of tests; set "verifier": {} in stages.preferences',
    );
  const rates = new Map<string, VerifierRates>();
  for await (const { questionId, truePositive, falsePositive, mutationScore } of store.readRows([file], VerifierRow)) {
    if (tests === 'allPass') {
      if (mutationScore !== undefined) rates.set(questionId, { truePositive: 1, falsePositive: 1 - mutationScore });
    } else if (truePositive !== undefined && falsePositive !== undefined)
      rates.set(questionId, { truePositive, falsePositive });
  }
  return rates;
}

/** What the store says of a round's optimizer state that stays on the host that trained. */
function onThisHost(round: number, storeStateEvery: number): PrunedDocument {
  return {
    workflowId: currentProducer().workflowId,
    at: new Date().toISOString(),
    policy: `round ${round}, reinforcement.execution.storeStateEvery ${storeStateEvery}`,
    advice: 'The stage trains the rounds since the last stored one again where it needs it.',
  };
}

/** `reinforcement.gate`, `.plan`, `.rollouts`, `.ahead`, `.judge`, `.repair`, `.score`, `.reward`, `.update`. */
export function reinforcementActivities(services: Services) {
  const { store, models, engines, sandbox } = services;
  const documents = new Documents(store, MODEL_DOCUMENTS);
  /** The settings of a step of a round, its inputs, and its key as its definition says. */
  function recipeOf<I extends Record<string, ArtifactRef | undefined>>(
    name: Exclude<StepName<'reinforcement'>, 'ahead' | 'prune' | 'gate'>,
    { round, inputs, config: unparsed }: RoundInput<I>,
  ) {
    const config = roundSettings(ReinforcementConfig.parse(unparsed), round);
    const refs = Object.fromEntries(
      Object.entries(inputs).filter((entry): entry is [string, ArtifactRef] => entry[1] !== undefined),
    );
    return {
      config,
      refs,
      recipe: stepRecipe('reinforcement', name, STAGE.reinforcement.steps[name], config, refs, { round }),
    };
  }

  /** One artifact of a round, under the key that the step's definition says. */
  async function step<I extends Record<string, ArtifactRef | undefined>>(
    name: Exclude<StepName<'reinforcement'>, 'ahead' | 'prune' | 'gate'>,
    { round, inputs, config: unparsed, again = false }: RoundInput<I> & { again?: boolean },
    make: (config: ReinforcementConfig, key: string) => Promise<Product>,
    versions: Record<string, string> = {},
  ): Promise<Produced> {
    const { config, refs, recipe } = recipeOf(name, { round, inputs, config: unparsed });
    const { kind } = recipe;
    const standing = again ? await store.findManifest(objectKeys.manifest(kind, stageKey(recipe))) : undefined;
    if (
      standing &&
      (await store.prunedFailure({ key: objectKeys.manifest(kind, standing.stageKey) }, { trainingState: true }))
    ) {
      await restore(store, standing, () => make(config, standing.stageKey));
    }
    const produced = await produce(store, recipe, refs, currentProducer(versions), (key) => make(config, key));
    // Only once the policy is committed: until then the newest checkpoint is all that a lost worker leaves.
    if (kind === 'policy') await dropCheckpoints(store, stageKey(recipe));
    return produced;
  }

  /** The input of an update that is made again. @throws StageFailure `ArtifactPruned` where no round here makes it. */
  async function madeAgain({ config: unparsed, again: key }: UpdateAgain) {
    const standing = UpdateManifest.safeParse(await store.findManifest(key));
    if (standing.success) {
      const { round } = standing.data.config;
      const { inputs } = standing.data;
      const config = roundSettings(ReinforcementConfig.parse(unparsed), round);
      const recipe = stepRecipe('reinforcement', 'update', STAGE.reinforcement.steps.update, config, inputs, { round });
      if (objectKeys.manifest(recipe.kind, stageKey(recipe)) === key) return { config, round, inputs, again: true };
    }
    throw (await store.prunedFailure({ key })) ?? new StageFailure('ArtifactCorrupt', `${key} cannot be made again`);
  }

  const rows = <T>(ref: ArtifactRef, schema: z.ZodType<T>): Promise<T[]> => collect(store.rowsOf(ref, schema));

  /**
   * Asks a policy a plan's prompts, or those of its repair turn. What `earlier` has, from the draw or the turn before, is
   * taken over.
   */
  async function asked(
    config: ReinforcementConfig,
    { round, inputs: { plan, earlier } }: RoundInput<AskedInputs>,
    policy: PolicyFolders,
  ): Promise<Asked> {
    const planned = await rows(plan, RoundPromptRow);
    const before = groupedBy(earlier ? await rows(earlier, RolloutRow) : [], ({ questionId }) => questionId);
    const kept = planned.flatMap(({ questionId }) => before.get(questionId) ?? []);
    const prompts = planned.filter(({ questionId }) => !before.has(questionId));
    const turns = new Map((await repairPrompts(store, plan)).map((prompt) => [prompt.repairs, prompt]));
    const byQuestion = new Map(planned.map((prompt) => [prompt.questionId, prompt]));
    const { device } = await models.versions();
    const { temperature, topP, maxNewTokens } = config;
    const answers = await generate(
      services,
      [
        ...prompts.map(({ questionId, question, language, seeds }) => ({
          ...{ id: questionId, prompt: promptOf(question, '', language), n: seeds.length, seeds },
          ...{ temperature, topP, maxNewTokens },
        })),
        ...[...turns.values()].map(({ repairs, questionId, messages, seed }) => {
          const { question, language } = byQuestion.get(questionId)!;
          return {
            ...{ id: repairs, prompt: { ...promptOf(question, '', language), messages }, n: 1, seeds: [seed] },
            ...{ temperature, topP, maxNewTokens },
          };
        }),
      ],
      {
        engine: config.engine,
        ...policy,
        maxRows: config.execution.maxRows,
        logProbs: wantsLogProbabilities(config, device ?? 'cpu'),
        signal: cancellationSignal(),
        onProgress: (done, total) => reportProgress({ done, total, message: `round ${round}: rollouts` }),
      },
    );
    leaveDevice();
    return { planned, kept, turns, answers };
  }

  /** The rollouts of a round, of what `asking` gives where the store has none. */
  const rollouts = async (
    input: RoundInput<RolloutInputs>,
    asking: (config: ReinforcementConfig) => Promise<Asked & { seconds?: number }>,
  ): Promise<Produced> =>
    step(
      'rollouts',
      input,
      async (config) => {
        const { plan, policy, earlier } = input.inputs;
        const { planned, kept, turns, answers, seconds } = await asking(config);
        const sampled = answers.map(({ id, index, text, finish, promptIds, completionIds, logProbs }): RolloutRow => {
          const turn = turns.get(id);
          return {
            id: rowId('r', plan.digest, policy.digest, id, index),
            questionId: turn?.questionId ?? id,
            index: turn?.index ?? index,
            text,
            finish: finish === 'promptTooLong' ? 'length' : finish,
            promptIds,
            completionIds,
            ...(logProbs ? { logProbs } : {}),
            ...(turn ? { turn: turn.turn, repairs: turn.repairs } : {}),
          };
        });
        // Those of a question stand together.
        const all = groupedBy([...kept, ...sampled], ({ questionId }) => questionId);
        const rollouts = planned.flatMap(({ questionId }) => all.get(questionId) ?? []);
        const file = await store.putRows('rows.jsonl', RolloutRow, rollouts);
        // Of all draws: groups that were replaced have cost as much as the others.
        const drawn = earlier ? RolloutMetrics.parse((await store.manifest(earlier)).metrics) : NO_ROLLOUTS;
        return {
          files: [file],
          rows: rollouts.length,
          metrics: {
            rollouts: drawn.rollouts + sampled.length,
            tokens: drawn.tokens + sampled.reduce((sum, { completionIds }) => sum + completionIds.length, 0),
            truncated: drawn.truncated + sampled.filter(({ finish }) => finish === 'length').length,
          },
          ...(seconds === undefined ? {} : { seconds }),
        };
      },
      await engines[ReinforcementConfig.parse(input.config).engine].versions(),
    );

  const onTheirWay = new PoliciesOnTheirWay<PolicyFolders>(store);

  async function* trainPrograms(ref: ArtifactRef): AsyncGenerator<ProgramRow> {
    for await (const row of store.rowsOf(ref, ProgramRow)) if (row.split === 'train') yield row;
  }

  /**
   * The next draw of a curriculum: the very first one by sampled programs, where there are some, every other one by the
   * plan and the rewards before it. Gives the prompts that stay, too.
   */
  async function curriculumDraw(
    config: ReinforcementConfig & Required<Pick<ReinforcementConfig, 'curriculum'>>,
    { round, inputs: { programs, earlier, rewards } }: RoundInput<PlanInputs>,
    questions: readonly FilteredQuestionRow[],
  ): Promise<NextDraw & { kept: RoundPromptRow[] }> {
    const settings = { ...config, round, tests: config.reward.tests };
    if (!earlier || !rewards) {
      const sampled = countedPrograms(programs ? await collect(trainPrograms(programs)) : [], settings.tests);
      const ids = questions.map(({ id }) => id);
      return { ...firstDraw(settings, ids, sampled), kept: [] };
    }
    const prompts = await rows(earlier, RoundPromptRow);
    const about = await rowIn(store, earlier, DRAW_FILE, CurriculumDraw);
    const next = nextDraw(settings, {
      ...{ about, prompts, known: await rowsIn(store, earlier, KNOWN_FILE, CurriculumRow) },
      rewards: await rows(rewards, RewardRow),
    });
    const isRedraw = about.round === round;
    return { ...next, kept: isRedraw ? prompts.filter(({ questionId }) => !next.replaced.has(questionId)) : [] };
  }

  return {
    /**
     * Refuses a reward model whose card says what the gate forbids.
     *
     * @throws StageFailure `RewardModelRefused` with the settings that would let it pass, or `InvalidExperiment` where
     *   the card is that of another reward model.
     */
    'reinforcement.gate': async ({
      gate,
      card,
      rewardModel,
    }: {
      gate: RewardModelGate;
      card: ArtifactRef;
      rewardModel: ArtifactRef;
    }): Promise<void> => {
      const manifest = await store.manifest(card);
      const of = ArtifactRef.optional().parse(manifest.inputs['rewardModel']);
      if (of?.digest !== rewardModel.digest)
        throw new StageFailure(
          'InvalidExperiment',
          `inputs.rewardModelCard is the card of ${of?.key ?? 'no reward model'}, and inputs.rewardModel is ` +
            `${rewardModel.key}: give the card that the stage rewardModelCard made of it`,
        );
      const faults = gateFaults(metricsOf('rewardModelCard', manifest), gate);
      if (faults.length === 0) return;
      throw new StageFailure(
        'RewardModelRefused',
        `the gate of reinforcement.rewardModelGate refuses the reward model: ` +
          `${faults.map(({ text }) => text).join('; ')}. Nothing was trained on it. Train it on other pairs and ` +
          'fork from rewardModel, or go on with limits that you accept',
        { details: [Object.assign({}, ...faults.map(({ patch }) => patch)) as object] },
      );
    },

    /**
     * Prompts and sample seeds of a round: the questions in a fixed shuffled order, round after round, wrapping around;
     * or those that a curriculum draws, with what it knows of all questions.
     */
    'reinforcement.plan': (input: RoundInput<PlanInputs>): Promise<Produced> =>
      step('plan', input, async (config) => {
        const { programs, hardened } = input.inputs;
        const selected = await selectQuestions(store, input.inputs.questions, 'train', undefined, config.salt);
        const all = hardened ? await withHardenedTests(store, selected, hardened) : selected;
        const hard = programs && config.questions === 'hard' && (await hardQuestions(trainPrograms(programs)));
        const questions = hard ? all.filter(({ id }) => hard.has(id)) : all;
        if (questions.length < config.promptsPerRound) {
          throw new StageFailure(
            'InvalidExperiment',
            `stages.reinforcement.promptsPerRound is ${config.promptsPerRound}, there are ${questions.length} ` +
              `${hard ? 'hard ' : ''}train questions`,
          );
        }
        const promptFor = (
          { id, question, language, tests, checker, limits }: FilteredQuestionRow,
          draw = 0,
        ): RoundPromptRow => ({
          questionId: id,
          question,
          ...keyedLanguage(language),
          tests,
          ...(checker === undefined ? {} : { checker }),
          ...(limits ? { limits } : {}),
          seeds: Array.from({ length: config.samplesPerPrompt }, (_, sample) =>
            deriveSeed(config.seed, input.round, id, sample),
          ),
          ...(config.watch
            ? { hiddenTests: hiddenTests(tests, config.watch.hiddenShare, { seed: config.seed, questionId: id }) }
            : {}),
          ...(draw > 0 ? { draw } : {}),
        });
        const { curriculum } = config;
        if (curriculum) {
          const { about, known, ask, kept } = await curriculumDraw({ ...config, curriculum }, input, questions);
          const byId = new Map(questions.map((question) => [question.id, question]));
          const prompts = [...kept, ...ask.map((id) => promptFor(byId.get(id)!, about.draw))];
          return {
            files: [
              await store.putRows('rows.jsonl', RoundPromptRow, prompts),
              await store.putRows(KNOWN_FILE, CurriculumRow, known),
              await store.putRows(DRAW_FILE, CurriculumDraw, [about]),
            ],
            rows: prompts.length,
            metrics: { prompts: prompts.length, rollouts: prompts.length * config.samplesPerPrompt, ...about },
          };
        }
        const order = questions
          .map((question) => ({ question, at: sha256(`${config.seed}/${question.id}`) }))
          .sort((a, b) => (a.at < b.at ? -1 : 1));
        const prompts = Array.from({ length: config.promptsPerRound }, (_, index) =>
          promptFor(order[((input.round - 1) * config.promptsPerRound + index) % order.length]!.question),
        );
        const file = await store.putRows('rows.jsonl', RoundPromptRow, prompts);
        return {
          files: [file],
          rows: prompts.length,
          metrics: { prompts: prompts.length, rollouts: prompts.length * config.samplesPerPrompt },
        };
      }),

    /** The rollouts of a round. */
    'reinforcement.rollouts': (input: RoundInput<RolloutInputs>): Promise<Produced> =>
      rollouts(input, async (config) => asked(config, input, await materialisePolicy(store, input.inputs.policy))),

    /**
     * The rollouts of a round from a policy that this process has trained, while its update hashes and sends it. They are
     * stored once the policy is, so that nothing in the store comes from what is not there. Another process has no such
     * policy, and samples nothing.
     */
    'reinforcement.ahead': async ({
      name,
      ...input
    }: RoundInput<AskedInputs> & { name: string }): Promise<{ sampled: boolean }> => {
      const began = performance.now();
      const config = roundSettings(ReinforcementConfig.parse(input.config), input.round);
      const sampled = await onTheirWay.sampling(
        name,
        input.round,
        async (folders) => {
          const answered = await asked(config, input, folders);
          return { ...answered, seconds: (performance.now() - began) / 1000 };
        },
        (policy, answered) =>
          rollouts({ ...input, inputs: { ...input.inputs, policy } }, () => Promise.resolve(answered)),
      );
      return { sampled };
    },

    'reinforcement.judge': (
      input: RoundInput<{ plan: ArtifactRef; rollouts: ArtifactRef; earlier?: ArtifactRef | undefined }>,
      attempt: number = currentProducer().attempt,
    ): Promise<Produced> =>
      step('judge', input, async (config) => {
        const prompts = new Map(
          (await rows(input.inputs.plan, RoundPromptRow)).map((prompt) => [prompt.questionId, prompt]),
        );
        const tests = new Map([...prompts].map(([id, prompt]) => [id, judgedTests(prompt)]));
        const all = await rows(input.inputs.rollouts, RolloutRow);
        const { watch, reward } = config;
        const chosen = watch && reward.testsWeight === 0 ? judgedRollouts(all, watch.judgedShare, input.round) : all;
        const { earlier } = input.inputs;
        const { kept, rest: rollouts } = takenOver(chosen, earlier ? await rows(earlier, VerdictRow) : []);
        const { judgements, cpuSeconds, ...about } = await judgePrograms(
          sandbox,
          rollouts.map(({ id, questionId, text }): Job => {
            const { limits } = prompts.get(questionId)!;
            return { id, program: extractProgram(text), tests: tests.get(questionId)!, limits };
          }),
          {
            limits: config.limits,
            signal: cancellationSignal(),
            onProgress: (done, total) => reportProgress({ done, total, message: `round ${input.round}: programs run` }),
          },
        );
        if (attempt < JUDGE_ATTEMPTS) settled(judgements);
        const faults = faultsOf(judgements);
        const verdicts = judgements.map((judgement, at): VerdictRow => {
          const { limits } = prompts.get(rollouts[at]!.questionId)!;
          const { id, outcomes } = judgement;
          return {
            id,
            outcomes,
            ...(judgement.judged ? { passRate: judgement.passRate } : {}),
            ...(limits ? { limits } : {}),
            harness: about.harness,
          };
        });
        const both = [...kept, ...verdicts];
        return {
          files: [await store.putRows('rows.jsonl', VerdictRow, both)],
          rows: both.length,
          metrics: { cpuSeconds, ...faults.counts, notes: { ...notesOf(about), ...faults.notes } },
        };
      }),

    /**
     * Feedback on the programs of the newest turn that fail a test that feedback may be about, as the prompts of the
     * next turn. Each program runs again with the calls of such tests alone, so that nothing that it answers comes from
     * a test that it may not be told of.
     *
     * @throws StageFailure `SandboxUnavailable` where calls could not run. From the third attempt on, feedback does without
     *   the values of those calls.
     */
    'reinforcement.repair': (
      input: RoundInput<{ plan: ArtifactRef; rollouts: ArtifactRef; verdicts: ArtifactRef }>,
      attempt: number = currentProducer().attempt,
    ): Promise<Produced> =>
      step('repair', input, async ({ repair, seed, limits }) => {
        if (!repair) throw new StageFailure('InvalidExperiment', 'reinforcement.repair is absent');
        const { plan } = input.inputs;
        const { round } = input;
        const planned = await rows(plan, RoundPromptRow);
        const prompts = new Map(planned.map((prompt) => [prompt.questionId, prompt]));
        const visible = new Map(
          planned.map((prompt) => [
            prompt.questionId,
            visiblePlaces(prompt, { hiddenShare: repair.hiddenShare, seed }),
          ]),
        );
        const before = new Map((await repairPrompts(store, plan)).map((asked) => [asked.repairs, asked]));
        const [{ turn } = { turn: 1 }] = before.values();
        const verdicts = new Map(
          (await rows(input.inputs.verdicts, VerdictRow)).map((verdict) => [verdict.id, verdict]),
        );
        const failed = (await rows(input.inputs.rollouts, RolloutRow)).flatMap((rollout) => {
          const verdict = verdicts.get(rollout.id);
          if (!verdict || (rollout.turn ?? 1) !== turn || rollout.promptIds.length === 0) return [];
          const prompt = prompts.get(rollout.questionId)!;
          const failures = failuresOf(verdict, prompt, visible.get(rollout.questionId)!);
          return failures.length === 0 ? [] : [{ rollout, prompt, failures }];
        });
        const calling = failed.map(({ rollout, prompt, failures }) => ({
          ...{ id: rollout.id, program: extractProgram(rollout.text), limits: prompt.limits },
          calls: failures.flatMap(({ call }) => call ?? []),
        }));
        const called = repair.shows === 'kind' ? [] : calling.filter(({ calls }) => calls.length > 0);
        const values = await evaluateCalls(sandbox, called, {
          limits,
          signal: cancellationSignal(),
          keepUnjudged: attempt >= JUDGE_ATTEMPTS,
          onProgress: (done, total) => reportProgress({ done, total, message: `round ${round}: feedback` }),
        });
        const valuesOf = new Map(called.map(({ id }, at) => [id, values[at]!]));
        const asked = failed.map(({ rollout, prompt, failures }) => {
          const feedback = feedbackOf(failures, ofFailures(failures, valuesOf.get(rollout.id) ?? []), repair);
          const messages = rollout.repairs === undefined ? undefined : before.get(rollout.repairs)?.messages;
          const shown = failures.map(({ place }) => place);
          return repairPrompt({ ...rollout, messages }, prompt, { feedback, shown }, { seed, round });
        });
        return {
          files: [
            await store.putRows('rows.jsonl', RoundPromptRow, planned),
            await store.putRows(TURNS_FILE, RepairPromptRow, asked),
          ],
          rows: planned.length,
          metrics: { turn: turn + 1, asked: asked.length },
        };
      }),

    'reinforcement.score': async (
      input: RoundInput<{
        plan: ArtifactRef;
        rollouts: ArtifactRef;
        rewardModel: ArtifactRef;
        earlier?: ArtifactRef | undefined;
      }>,
    ): Promise<Produced> =>
      step(
        'score',
        input,
        async (config) => {
          const prompts = new Map(
            (await rows(input.inputs.plan, RoundPromptRow)).map(({ questionId, question, language }) => [
              questionId,
              { question, language },
            ]),
          );
          const { earlier } = input.inputs;
          const { kept, rest: rollouts } = takenOver(
            await rows(input.inputs.rollouts, RolloutRow),
            earlier ? await rows(earlier, ScoreRow) : [],
          );
          const scores = await score(
            models,
            store,
            rollouts.map(({ id, questionId, text }) => ({
              id,
              ...prompts.get(questionId)!,
              program: extractProgram(text),
            })),
            {
              model: await store.materialise(input.inputs.rewardModel),
              microBatch: config.execution.microBatch,
              signal: cancellationSignal(),
              onProgress: (done, total) =>
                reportProgress({ done, total, message: `round ${input.round}: rollouts scored` }),
            },
          );
          leaveDevice();
          const both = [...kept, ...scores];
          return { files: [await store.putRows('rows.jsonl', ScoreRow, both)], rows: both.length, metrics: {} };
        },
        await models.versions(),
      ),

    'reinforcement.reward': (
      input: RoundInput<{
        rollouts: ArtifactRef;
        verdicts: ArtifactRef | undefined;
        scores: ArtifactRef | undefined;
        rewardModel: ArtifactRef | undefined;
        /** Where the settings use the measured quality of tests. */
        verifiers?: ArtifactRef | undefined;
        /** Where rounds are watched or have a curriculum. */
        plan?: ArtifactRef | undefined;
        /** Where rounds are watched: the rewards of the first round with scores and verdicts. */
        calibrated?: ArtifactRef | undefined;
      }>,
    ): Promise<Produced> =>
      step('reward', input, async (config) => {
        const { rollouts, verdicts, scores, rewardModel, verifiers, plan, calibrated } = input.inputs;
        const judged = new Map(
          (verdicts ? await rows(verdicts, VerdictRow) : []).map((verdict) => [verdict.id, verdict]),
        );
        const scoreById = new Map((scores ? await rows(scores, ScoreRow) : []).map(({ id, score }) => [id, score]));
        const scale =
          rewardModel && scores
            ? ScoreScale.parse(
                JSON.parse(await readFile(join(await store.materialise(rewardModel), SCORE_SCALE_FILE), 'utf8')),
              )
            : undefined;
        const rates = verifiers ? await verifierRates(store, verifiers, config.reward.tests) : undefined;
        const sampled = (await rows(rollouts, RolloutRow)).map((row) => {
          const verdict = judged.get(row.id);
          const passed = verdict?.outcomes.map(({ status }) => status === 'pass');
          return { ...row, verdict, passed, score: scoreById.get(row.id) };
        });
        const usesTests = config.reward.testsWeight > 0;
        const questions =
          config.watch && plan ? watchedQuestions(await rows(plan, RoundPromptRow), usesTests) : undefined;
        const watched =
          questions &&
          watchRound(
            sampled.map(({ id, questionId, text, completionIds, verdict, passed, score }) => ({
              ...{ id, questionId, score, program: extractProgram(text), completionTokens: completionIds.length },
              passed: verdict?.passRate === undefined ? undefined : passed,
            })),
            questions,
            calibrated && (await rowIn(store, calibrated, WATCH_FILE, RoundWatch)).calibration,
          );
        const rewarded = rewardRollouts(
          sampled.map(
            ({ id, questionId, turn, repairs, promptIds, completionIds, finish, verdict, passed, score }) => ({
              ...{ id, questionId, turn, repairs },
              truncated: finish === 'length',
              promptTokens: promptIds.length,
              completionTokens: completionIds.length,
              ...visiblePart(passed, verdict?.passRate, questions?.get(questionId)?.hidden ?? []),
              invalid: verdict ? neverRan(verdict) : false,
              rates: rates?.get(questionId),
              flagged: watched?.flagged.get(id),
              score,
            }),
          ),
          {
            reward: config.reward,
            rewardClip: config.algorithm.rewardClip,
            dropDegenerateGroups: config.dropDegenerateGroups,
            dropFlagged: config.watch?.decisions?.at(-1)?.flagged === 'drop',
            maxNewTokens: config.maxNewTokens,
            repair: config.repair,
            scale,
          },
        );
        const repaired =
          config.repair &&
          roundRepair(rewarded.map(({ id, passRate }, at) => ({ id, passRate, repairs: sampled[at]!.repairs })));
        const curriculum =
          config.curriculum && plan
            ? roundCurriculum(await rowIn(store, plan, DRAW_FILE, CurriculumDraw), rewarded)
            : undefined;
        const dropped: Record<string, number> = {};
        for (const row of rewarded) if (row.dropped) count(dropped, row.dropped);
        return {
          files: [
            await store.putRows('rows.jsonl', RewardRow, rewarded),
            ...(watched ? [await store.putRows(WATCH_FILE, RoundWatch, [watched.measured])] : []),
            ...(curriculum ? [await store.putRows(CURRICULUM_FILE, RoundCurriculum, [curriculum])] : []),
            ...(repaired ? [await store.putRows(REPAIR_FILE, RoundRepair, [repaired])] : []),
          ],
          rows: rewarded.length,
          metrics: {
            ...{ rollouts: rewarded.length, dropped },
            ...(watched ? { watch: watched.measured } : {}),
            ...(curriculum ? { curriculum } : {}),
            ...(repaired ? { repair: repaired } : {}),
          },
        };
      }),

    /**
     * The policy update of a round. What is trained equals the plan's rollouts minus the recorded drops, or it fails.
     */
    'reinforcement.update': async ({
      gang,
      ...given
    }: UpdateInput & { gang?: GangMember }): Promise<Produced | undefined> => {
      const input = 'again' in given ? await madeAgain(given) : given;
      const updated = (config: ReinforcementConfig, key: string): Promise<Product> =>
        trainingIn(services, gang, key, (trainer) =>
          withWorkFolder(store, async (work) => {
            const rollouts = new Map(
              (await rows(input.inputs.rollouts, RolloutRow)).map((rollout) => [rollout.id, rollout]),
            );
            const rewards = await rows(input.inputs.rewards, RewardRow);
            const trained = rewards.filter((row) => row.reward !== undefined);
            if (trained.length === 0)
              throw new StageFailure(
                'InvalidExperiment',
                `round ${input.round} has no rollout to train on; the reward artifact ` +
                  `${input.inputs.rewards.key} says why each was dropped`,
              );
            const path = join(work, 'rollouts.jsonl');
            await writeRows(
              path,
              trained.map((row) => {
                const { id, reward } = row;
                const { promptIds, completionIds, finish, logProbs } = rollouts.get(id)!;
                const group = { questionId: groupOf(row), promptIds, completionIds };
                return { id, ...group, finish, reward, ...(logProbs ? { logProbs } : {}) };
              }),
            );
            const { model: policy, adapter } = await materialisePolicy(store, input.inputs.policy, {
              trainingState: input.round > 1,
            });
            const reference = await store.materialise(input.inputs.reference);
            const previous = input.round > 1 ? { resumeState: join(adapter ?? policy, TRAINING_STATE) } : {};
            const output = join(work, 'policy');
            const state = join(work, TRAINING_STATE);
            const { execution, seed, temperature, rounds } = config;
            const { warmupRatio, endWeight = 1, lora, ...algorithm } = config.algorithm;
            const correction = correctionOf(
              config,
              [...rollouts.values()].some(({ logProbs }) => logProbs !== undefined),
            );
            const result = await train(trainer, key, 'updatePolicy', (folders) => ({
              policy,
              ...(adapter === undefined ? {} : { adapter }),
              reference,
              rollouts: path,
              output,
              state,
              ...previous,
              ...folders,
              ...(correction.cap === undefined ? {} : { importanceCap: correction.cap }),
              ...(warmupRatio ? { warmUp: { ratio: warmupRatio, round: input.round, rounds } } : {}),
              config: {
                ...algorithm,
                endWeight,
                seed,
                temperature,
                maxNewTokens: config.maxNewTokens,
                ...trainingSettings(execution),
                ...(lora ? { lora: { ...lora, base: input.inputs.reference.digest } } : {}),
              },
            }));
            if (follows(gang)) return { files: [], metrics: {} };
            const expected = trained.map(({ id }) => id).sort();
            const actual = [...new Set(result.trainedIds)].sort();
            if (JSON.stringify(actual) !== JSON.stringify(expected)) {
              throw new Error(
                `round ${input.round} trained ${actual.length} rollouts, the plan less its recorded drops has ` +
                  `${expected.length}`,
              );
            }
            // What is made again is asked for by somebody who lacks it.
            const { storeStateEvery = 1 } = execution;
            const isSent = 'again' in given || input.round % storeStateEvery === 0 || input.round === rounds;
            const send = async (): Promise<ManifestFile[]> => [
              ...(await store.putFolder(output)),
              ...(await store.putFolder(state, `${TRAINING_STATE}/`, { sent: isSent })),
            ];
            const foldersOf = (files: string): PolicyFolders =>
              lora ? { model: policy, adapter: files } : { model: files };
            const made = { key, output, state };
            const files =
              'again' in given || gang
                ? await send()
                : await onTheirWay.offering(config, input.round, made, foldersOf, send);
            const dropped: Record<string, number> = {};
            for (const row of rewards) if (row.dropped) count(dropped, row.dropped);
            add('rounds', 1, {});
            set('reward', trained.reduce((sum, { reward }) => sum + reward!, 0) / trained.length, {});
            return {
              files,
              hostOnly: isSent ? undefined : onThisHost(input.round, storeStateEvery),
              metrics: {
                ...result.metrics,
                round: input.round,
                steps: result.steps,
                rollouts: rewards.length,
                trained: trained.length,
                dropped,
                truncated: shareOfTruncated([...rollouts.values()]),
                ...(config.watch ? { watch: await rowIn(store, input.inputs.rewards, WATCH_FILE, RoundWatch) } : {}),
                ...(config.curriculum
                  ? { curriculum: await rowIn(store, input.inputs.rewards, CURRICULUM_FILE, RoundCurriculum) }
                  : {}),
                ...(config.repair
                  ? { repair: await rowIn(store, input.inputs.rewards, REPAIR_FILE, RoundRepair) }
                  : {}),
                correction: correction.why,
                environments: result.environments,
              },
            };
          }),
        );
      if (follows(gang)) {
        const { config, recipe } = recipeOf('update', input);
        await updated(config, stageKey(recipe));
        return undefined;
      }
      const produced = await step('update', input, updated, await models.versions());
      if (await store.prunedFailure(produced.ref)) return { ...produced, pruned: true };
      // The next round reads it here. In a folder it stays in the cache, which may be its only place.
      if (!produced.reused && (await store.prunedFailure(produced.ref, { trainingState: true })))
        await store.materialise(produced.ref, { trainingState: true });
      // Nothing on this host reads the policy before the one that was updated any more, unless it is the reference.
      const { inputs } = await store.manifest(input.inputs.policy);
      const before = ArtifactRef.optional().parse(inputs['policy']);
      if (input.round > 2 && before && before.key !== input.inputs.reference.key) await store.forget(before);
      return produced;
    },

    /** The policy of the last round as a whole model, where rounds train adapters, for every later stage. */
    'reinforcement.merge': async (
      input: RoundInput<{ policy: ArtifactRef; reference: ArtifactRef }>,
    ): Promise<Produced> =>
      step(
        'merge',
        input,
        () =>
          withWorkFolder(store, async (work) => {
            const { model, adapter } = await materialisePolicy(store, input.inputs.policy);
            if (adapter === undefined) throw new Error(`${input.inputs.policy.key} is a whole model already`);
            const output = join(work, 'policy');
            await models.call('mergeAdapters', { model, adapter, output }, { signal: cancellationSignal() });
            leaveDevice();
            const { metrics } = await store.manifest(input.inputs.policy);
            return { files: await store.putFolder(output), metrics };
          }),
        await models.versions(),
      ),

    /**
     * Takes out of the store what no round needs any more: marks it, then removes what is old enough of all that was
     * marked.
     * What is younger goes with a later round, or by garbage collection.
     */
    'reinforcement.prune': async ({
      newest,
      from,
      held,
      needed,
      keepRounds,
      done,
    }: PruneInput): Promise<PruneResult> => {
      const { workflowId } = currentProducer();
      const policies = await roundsOf(store, newest, keepRounds === null && done ? 1 : from);
      for (const older of held)
        for (const [round, ref] of await roundsOf(store, older, Infinity)) policies.set(round, ref);
      const last = Math.max(...policies.keys());
      if (done || keepRounds === null) {
        for (const [round, { key }] of policies)
          if (keepRounds === null || round > last - keepRounds)
            await store.putJson(objectKeys.kept(key), { workflowId });
      }
      const read = () =>
        documents.read((count) => reportProgress({ done: count, total: 0, message: 'documents read' }));
      const kept = await keptArtifacts(store);
      const marked = await prunedParts(store);
      const stateless = new Set([...marked.keys()]);
      const parts = prunable({ policies, needed, keepRounds }, await read(), kept, stateless);
      const at = new Date().toISOString();
      for (const [round, { key, digest, bytes, kind }] of policies) {
        const part = parts.get(key);
        const mark = (which: Part): Promise<boolean> =>
          store.putJson(objectKeys.pruned(key, which), {
            workflowId,
            at,
            policy: `round ${round}, reinforcement.execution.keepRounds ${keepRounds}`,
            advice:
              `Take a newer round, or start reinforcement with the same inputs and configuration and ` +
              `"rounds": ${round}, which makes it again.`,
          } satisfies PrunedDocument);
        if (part && !marked.get(key)?.has(part)) await mark(part);
        if (part === 'all' || !marked.get(key)?.has('all')) continue;
        // Needed again, and perhaps nothing of it is gone yet.
        const { files } = await store.manifest({ key, digest, bytes, kind });
        const missing = await store.missingBlob(
          files.filter(({ name }) => !isPruned(name, new Set(['trainingState']))),
          { fresh: true },
        );
        if (missing) continue;
        await mark('trainingState');
        await store.remove([objectKeys.pruned(key, 'all')]);
      }
      const before = pruningHorizon();
      const pruned = await prunedParts(store);
      const neededNow = neededBlobs(await read(), pruned);
      const result = { rounds: 0, swept: 0, sweptBytes: 0 };
      // The first round about which a later look has something to do.
      let next =
        keepRounds === null ? last : Math.max(1, Math.min(last - keepRounds + 1, newestStored(policies, stateless)));
      const holding: ArtifactRef[] = [];
      for (const [round, ref] of policies) {
        const gone = pruned.get(ref.key);
        const files = gone ? (await store.manifest(ref)).files.filter(({ name }) => isPruned(name, gone)) : [];
        const { swept, sweptBytes, young } = await sweep(store, files, { needed: neededNow, before });
        result.swept += swept;
        result.sweptBytes += sweptBytes;
        if (gone?.has('all')) result.rounds += 1;
        if (young > 0) next = Math.min(next, round);
        else if (round < next && !gone?.has('all') && !kept.has(ref.key)) holding.push(ref);
      }
      return { ...result, from: next, held: holding.slice(-MOST_HELD) };
    },
  };
}
