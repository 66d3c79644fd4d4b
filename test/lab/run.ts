/**
 * One seed of the laboratory: a micro model that is often wrong, and the whole chain on it, by the real stages.
 *
 * The model is trained on the spot on noisy answers to the train questions, then filter, pairs, reward models and RL
 * run
 * as workflows; every program is judged in the sandbox. All figures are those of held-out questions, which neither the
 * micro model, nor the pairs, nor RL have seen.
 */
import { join } from 'node:path';
import type { Client } from '@temporalio/client';
import type { ArtifactStore } from '../../activities/artifacts/store.js';
import { writeRows } from '../../activities/artifacts/rows.js';
import type { RuntimeOperation } from '../../activities/runtime/operations.js';
import type { PythonProcess } from '../../activities/runtime/python-service.js';
import { promptOf } from '../../activities/policy/prompt.js';
import { merge } from '../../workflows/contract/presets.js';
import {
  EvaluationRow,
  FilteredQuestionRow,
  ProgramRow,
  chainInputs,
  givenOf,
  StageConfigs,
  STAGES,
  type ArtifactRef,
  type EvaluationResult,
  type StageName,
  type StageResult,
} from '../../workflows/contract/index.js';
import { labQuestions, type Family, type LabQuestion } from './questions.js';

/** Settings of one stage, as in an experiment file. */
type Config = Record<string, unknown>;

/** What the chain feeds a stage of the laboratory with. */
interface Fed {
  outputs: Partial<Record<StageName, object>>;
  seeds?: object;
  /** Policies to evaluate by their names; absent: those that an experiment compares. */
  policies?: Record<string, object>;
}

/** A way from programs to a policy: how pairs are made, a reward model trained, and the policy rewarded. */
interface Recipe {
  title: string;
  /** Absent where the reward is that of the tests and no reward model is trained. */
  preferences?: Config;
  rewardModel?: Config;
  reinforcement: Config;
}

export interface LabSettings {
  /** Questions of a seed, train and held-out. */
  questions: number;
  /** Questions of kinds that nothing is trained on; every policy answers them at the end. */
  unseen: number;
  /** The micro model's training. */
  model: { steps: number; batch: number; learningRate: number; initializerRange: number; phrases: boolean };
  stages: Partial<Record<StageName, Config>>;
  /** Samples per held-out question of the policies after RL; the base policy has those of Best-of-N. */
  samplesAfter: number;
  recipes: Record<string, Recipe>;
}

export interface LabContext {
  client: Client;
  taskQueue: string;
  models: PythonProcess<RuntimeOperation>;
  store: ArtifactStore;
  /** Folder for what is made on the way. */
  folder: string;
  say: (line: string) => void;
}

/** Figures of a recipe on held-out questions; a share each. */
interface RecipeFigures {
  /** Of all pairs of a passing and a failing program of one question, the share with the passing one scored higher. */
  pairAccuracy?: number;
  pairs?: number;
  bestOf16?: number;
  /** How far Best-of-N goes from the mean to the oracle. */
  closed?: number;
  mean: number;
  greedy: number;
  seconds: number;
}

export interface SeedFigures {
  family: Family;
  seed: number;
  questions: { train: number; heldOut: number };
  base: { mean: number; greedy: number; oracle: number };
  /** Share of the corpus' wrong answers, among those that were sampled, that pass all tests. */
  wrongJudgedRight: number;
  recipes: Record<string, RecipeFigures>;
  /** Mean and greedy pass@1 by policy on questions of kinds that nothing was trained on, and how many they are. */
  unseen: { tasks: number; policies: Record<string, { mean: number; greedy: number }> };
  /** From the first question to the last figure. */
  seconds: number;
}

export async function runSeed(
  context: LabContext,
  settings: LabSettings,
  family: Family,
  seed: number,
): Promise<SeedFigures> {
  const { store, models, say } = context;
  const began = performance.now();
  const since = (start: number): number => (performance.now() - start) / 1000;
  const name = `lab-${family}-${seed}`;
  const [corpus, model] = [join(context.folder, `${name}-corpus.jsonl`), join(context.folder, `${name}-model`)];
  const base = { kind: 'folder', path: model };
  const stage = async (
    of: StageName,
    { outputs, seeds, policies }: Fed,
    over: Config = {},
    title: string = of,
  ): Promise<StageResult> => {
    const start = performance.now();
    const config = merge(merge(settings.stages[of] ?? {}, seeded(of, seed)), over);
    const given = givenOf<object>({ ...(seeds ? { seeds } : {}), models: { policy: base } });
    const inputs = {
      ...chainInputs(of, StageConfigs[of].parse(config), { given, outputs }),
      ...(policies ? { policies } : {}),
    };
    const result = (await context.client.workflow.execute(of, {
      taskQueue: context.taskQueue,
      workflowId: `${name}/${title}-${Date.now()}`,
      args: [{ inputs, config }],
    })) as StageResult;
    say(`${name}: ${title} ${since(start).toFixed(0)} s`);
    return result;
  };
  const rowsOf = async <T>(
    ref: ArtifactRef,
    schema: Parameters<typeof store.rowsOf>[1],
    keep: (row: T) => boolean = () => true,
  ): Promise<T[]> => {
    const rows: T[] = [];
    for await (const row of store.rowsOf(ref, schema)) if (keep(row as T)) rows.push(row as T);
    return rows;
  };

  const written = async (which: string, from: readonly LabQuestion[], over: Config = {}): Promise<ArtifactRef> => {
    const path = join(context.folder, `${name}-${which}.jsonl`);
    await writeRows(
      path,
      from.map((question) => question.seed),
    );
    const { ref } = await stage('synthesis', { seeds: { kind: 'seeds', path }, outputs: {} }, {}, `synthesis-${which}`);
    return (await stage('filtering', { outputs: { synthesis: ref } }, over, `filtering-${which}`)).ref;
  };
  const asked = new Map(labQuestions(family, seed, settings.questions).map((question) => [question.seed.id, question]));
  const filtering = await written('seen', [...asked.values()]);
  const filtered = await rowsOf<FilteredQuestionRow>(filtering, FilteredQuestionRow);
  const train = filtered.filter(({ split }) => split === 'train');

  const start = performance.now();
  await writeRows(
    corpus,
    train.map(({ seedId, question }) => {
      const { messages, assistantPrefix } = promptOf(question);
      const { answers, shares } = asked.get(seedId)!;
      return { messages, assistantPrefix, answers, shares };
    }),
  );
  await models.call('buildMicroModel', { corpus, output: model, seed, ...settings.model });
  say(`${name}: micro model ${since(start).toFixed(0)} s`);

  const { ref: sampling } = await stage('sampling', { outputs: { filtering } });
  const recipes: Record<string, RecipeFigures> = {};
  const trained: Record<string, ArtifactRef> = {};
  let baseFigures: EvaluationResult | undefined;
  for (const [recipe, { preferences, rewardModel, reinforcement }] of Object.entries(settings.recipes)) {
    const recipeStart = performance.now();
    const outputs: Partial<Record<StageName, ArtifactRef>> = { filtering, sampling };
    let figures: Partial<RecipeFigures> = {};
    if (rewardModel) {
      outputs.preferences = (await stage('preferences', { outputs }, preferences, `preferences-${recipe}`)).ref;
      outputs.rewardModel = (await stage('rewardModel', { outputs }, rewardModel, `rewardModel-${recipe}`)).ref;
      const { ref } = await stage('evaluation', { outputs, policies: { base } }, {}, `bestOf-${recipe}`);
      const rows = await rowsOf<EvaluationRow>(ref, EvaluationRow);
      const result = resultsOf(await store.manifest(ref))['base']!;
      baseFigures = result;
      const best = Math.max(...Object.keys(result.bestOfN).map(Number));
      const bestOf16 = result.bestOfN[String(best)]!;
      figures = {
        ...strictAccuracy(rows),
        bestOf16,
        closed: (bestOf16 - result.mean!) / (result.oracle! - result.mean!),
      };
    }
    const policy = await stage('reinforcement', { outputs }, reinforcement, `reinforcement-${recipe}`);
    trained[recipe] = policy.ref;
    // The programs of a trained policy are not scored.
    const { ref } = await stage(
      'evaluation',
      { outputs: { filtering }, policies: { [recipe]: policy.ref } },
      { samples: settings.samplesAfter, bestOf: [settings.samplesAfter] },
      `evaluation-${recipe}`,
    );
    const after = resultsOf(await store.manifest(ref))[recipe]!;
    recipes[recipe] = { ...figures, mean: after.mean!, greedy: after.greedy!, seconds: since(recipeStart) };
    const { pairAccuracy, closed } = figures;
    const ranking = pairAccuracy === undefined ? '' : `pairs ${percent(pairAccuracy)}, closed ${percent(closed!)}, `;
    say(`${name}: ${recipe}: ${ranking}after RL mean ${percent(after.mean!)}, greedy ${percent(after.greedy!)}`);
  }
  if (!baseFigures) throw new Error('no recipe has a reward model');
  const unseen = await written('unseen', labQuestions(family, seed, settings.unseen, 'unseen'), { heldOutShare: 1 });
  const { ref: beyond } = await stage(
    'evaluation',
    { outputs: { filtering: unseen }, policies: { base, ...trained } },
    { samples: settings.samplesAfter, bestOf: [settings.samplesAfter] },
    'evaluation-unseen',
  );
  const unseenResults = resultsOf(await store.manifest(beyond));
  const wrong = new Set(
    [...asked.values()].flatMap(({ seed: { id }, answers }) =>
      answers.slice(1).map((answer) => JSON.stringify([id, answer])),
    ),
  );
  const seedOf = new Map(filtered.map(({ id, seedId }) => [id, seedId]));
  const sampledWrong = await rowsOf<ProgramRow>(sampling, ProgramRow, ({ questionId, program }) =>
    wrong.has(JSON.stringify([seedOf.get(questionId), program])),
  );
  return {
    family,
    seed,
    questions: { train: train.length, heldOut: filtered.length - train.length },
    base: { mean: baseFigures.mean!, greedy: baseFigures.greedy!, oracle: baseFigures.oracle! },
    wrongJudgedRight: sampledWrong.filter(({ passRate }) => passRate === 1).length / Math.max(1, sampledWrong.length),
    recipes,
    unseen: {
      tasks: unseenResults['base']!.tasks,
      policies: Object.fromEntries(
        Object.entries(unseenResults).map(([policy, { mean, greedy }]) => [policy, { mean: mean!, greedy: greedy! }]),
      ),
    },
    seconds: since(began),
  };
}

/** Every stage that draws at random draws from the laboratory's seed. */
function seeded(stage: StageName, seed: number): Config {
  if (!STAGES.includes(stage)) throw new Error(`${stage} is no stage`);
  if (stage === 'synthesis') return { teacher: { kind: 'offline', seed } };
  return stage === 'filtering' || stage === 'preferences' ? {} : { seed };
}

function resultsOf({ metrics }: { metrics: unknown }): Record<string, EvaluationResult> {
  const { results } = metrics as { results: EvaluationResult[] };
  return Object.fromEntries(results.map((result) => [result.policy, result]));
}

/** Over distinct programs of the same question. */
function strictAccuracy(rows: readonly EvaluationRow[]): { pairAccuracy: number; pairs: number } {
  const tasks = new Map<string, Map<string, EvaluationRow>>();
  for (const row of rows) {
    if (row.score === undefined) continue;
    const programs = tasks.get(row.taskId) ?? new Map<string, EvaluationRow>();
    programs.set(row.program, row);
    tasks.set(row.taskId, programs);
  }
  let right = 0;
  let pairs = 0;
  for (const programs of tasks.values()) {
    const all = [...programs.values()];
    for (const good of all.filter(({ passed }) => passed))
      for (const bad of all.filter(({ passed }) => !passed)) {
        pairs += 1;
        if (good.score! > bad.score!) right += 1;
      }
  }
  return { pairAccuracy: right / pairs, pairs };
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
