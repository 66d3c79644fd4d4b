/**
 * Repair turns on real servers: what prompts hold and what they never do, what is trained, and a kill in the middle of a
 * second turn, which changes nothing.
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, inject, it } from 'vitest';
import type { WorkflowHandle } from '@temporalio/client';
import { collect } from '../../activities/artifacts/collections.js';
import { deriveSeed, sha256, stageKey } from '../../activities/artifacts/keys.js';
import { refOf } from '../../activities/artifacts/manifests.js';
import { roundsOf } from '../../activities/artifacts/pruning.js';
import { stepRecipe } from '../../activities/artifacts/recipes.js';
import { writeRows } from '../../activities/artifacts/rows.js';
import { visiblePlaces } from '../../activities/reinforcement/repair.js';
import {
  ArtifactRef,
  FilteredQuestionRow,
  metricsOf,
  ReinforcementConfig,
  RepairPromptRow,
  RewardRow,
  RolloutRow,
  RoundPromptRow,
  STAGE,
  VerdictRow,
  type StageName,
  type StageResult,
} from '../../workflows/contract/index.js';
import { artifactStore, resultAfterKill, startWorkflow } from '../fixtures/harness.js';
import { microExperiment } from '../fixtures/micro-experiment.js';

const { stages } = microExperiment('repair', inject('seeds'), inject('model')) as {
  stages: Record<string, Record<string, unknown>>;
};
const MODEL = { kind: 'folder', path: inject('model') };
const SEED = 47;
const folder = mkdtempSync(join(tmpdir(), 'acecoder-repair-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

let filtering: ArtifactRef;
beforeAll(async () => {
  const made = async (stage: StageName, inputs: object): Promise<ArtifactRef> => {
    const handle = await startWorkflow(stage, { inputs, config: stages[stage] });
    return ((await handle.result()) as StageResult).ref;
  };
  const questions = await made('synthesis', { seeds: { kind: 'seeds', path: inject('seeds') } });
  filtering = await made('filtering', { questions });
}, 600_000);

const inputOf = async (ref: ArtifactRef, name: string): Promise<ArtifactRef> =>
  ArtifactRef.parse((await artifactStore().manifest(ref)).inputs[name]);
const configOf = (settings: object): object => ({
  ...stages['reinforcement'],
  ...{ rounds: 1, promptsPerRound: 4, samplesPerPrompt: 3, seed: SEED, reward: { testsWeight: 1, tests: 'allPass' } },
  ...settings,
});

/** What the repair turn asks whose rollouts these are; empty for those of first answers. */
async function askedIn(rollouts: ArtifactRef): Promise<RepairPromptRow[]> {
  const store = artifactStore();
  const { files } = await store.manifest(await inputOf(rollouts, 'plan'));
  const file = files.find(({ name }) => name === 'turns.jsonl');
  return file ? collect(store.readRows([file], RepairPromptRow)) : [];
}

/** The rollouts of a policy's round by turns, the last first. */
async function turnsOf(policy: ArtifactRef): Promise<ArtifactRef[]> {
  const turns = [await inputOf(policy, 'rollouts')];
  for (;;) {
    const { earlier } = (await artifactStore().manifest(turns.at(-1)!)).inputs;
    if (earlier === undefined) return turns;
    turns.push(ArtifactRef.parse(earlier));
  }
}

describe('repair turns', { timeout: 600_000 }, () => {
  const input = (salt: string): object => ({
    inputs: { questions: filtering, policy: MODEL },
    config: configOf({ rounds: 2, salt, repair: {} }),
  });
  /** Digests of all that each round made. */
  const digestsOf = async (policy: ArtifactRef): Promise<string[][]> =>
    Promise.all(
      [...(await roundsOf(artifactStore(), policy)).values()].map(async (round) => {
        const turns = await turnsOf(round);
        const plans = await Promise.all(turns.map((turn) => inputOf(turn, 'plan')));
        const rewards = await inputOf(round, 'rewards');
        const verdicts = await inputOf(rewards, 'verdicts');
        return [...turns, ...plans, rewards, verdicts, round].map(({ digest }) => digest);
      }),
    );
  let result: StageResult;
  let undisturbed: WorkflowHandle;
  beforeAll(async () => {
    undisturbed = await startWorkflow('reinforcement', input('one'));
    result = (await undisturbed.result()) as StageResult;
  }, 600_000);

  it('ask again for programs that fail a visible test, and train both answers', async () => {
    const store = artifactStore();
    for (const [round, policy] of await roundsOf(store, result.ref)) {
      const [last, first] = await turnsOf(policy);
      const asked = await askedIn(last!);
      expect(await askedIn(first!)).toEqual([]);
      const rollouts = await collect(store.rowsOf(last!, RolloutRow));
      const rewards = await inputOf(policy, 'rewards');
      const verdicts = await collect(store.rowsOf(await inputOf(rewards, 'verdicts'), VerdictRow));
      const verdictOf = new Map(verdicts.map((verdict) => [verdict.id, verdict]));
      const prompts = await collect(store.rowsOf(await inputOf(last!, 'plan'), RoundPromptRow));
      expect(prompts).toEqual(await collect(store.rowsOf(await inputOf(first!, 'plan'), RoundPromptRow)));
      const failed = rollouts.filter(({ id, questionId, turn }) => {
        const prompt = prompts.find((each) => each.questionId === questionId)!;
        const places = visiblePlaces(prompt, { hiddenShare: 0.5, seed: SEED });
        return turn === undefined && places.some((place) => verdictOf.get(id)!.outcomes[place]!.status !== 'pass');
      });
      // The micro model is often wrong, and the test would show nothing if it never were.
      expect(failed.length).toBeGreaterThan(0);
      expect(asked.map(({ repairs }) => repairs).sort()).toEqual(failed.map(({ id }) => id).sort());
      const mended = rollouts.filter(({ turn }) => turn === 2);
      expect(mended.map(({ repairs }) => repairs).sort()).toEqual(failed.map(({ id }) => id).sort());
      for (const { repairs, index, questionId, promptIds } of mended) {
        const before = failed.find(({ id }) => id === repairs)!;
        const { messages, seed } = asked.find((each) => each.repairs === repairs)!;
        expect(messages).toHaveLength(3);
        expect(messages[1]!.content).toContain(before.text);
        expect(messages[2]!.content).toMatch(/^The program is wrong\.\n/);
        expect(seed).toBe(deriveSeed(SEED, round, 'turn', 2, questionId, index));
        // What is trained has the whole conversation as its prompt.
        expect(promptIds.length).toBeGreaterThan(before.promptIds.length + before.completionIds.length);
      }
      const rewarded = await collect(store.rowsOf(rewards, RewardRow));
      const metrics = metricsOf('reinforcement', await store.manifest(policy));
      expect(rewarded).toHaveLength(rollouts.length);
      expect(metrics.trained).toBe(rewarded.filter(({ reward }) => reward !== undefined).length);
      expect(metrics.trained).toBeGreaterThan(12);
      expect(metrics.repair).toMatchObject({ conversations: 12, repairs: mended.length });
      expect(metrics.repair!.lastPass).toBeGreaterThanOrEqual(metrics.repair!.firstPass);
    }
  });

  it('are the same after kill -9 in the middle of a second turn', { tags: 'long' }, async () => {
    // The feedback is stored, and the rollouts of the second turn are on their way.
    const killed = { queue: 'repair-killed', activity: 'reinforcement.rollouts', times: 2 };
    const { ref } = await resultAfterKill<StageResult>('reinforcement', input('another'), killed);
    expect(await digestsOf(ref)).toEqual(await digestsOf(result.ref));
  });
});

/** A text that nothing else holds. */
const markOf = (...of: (string | number)[]): string => `mark${sha256(of.join('/')).slice(0, 16)}`;

describe('prompts of repair turns', { timeout: 600_000 }, () => {
  const repair = { turns: 3, shows: 'test', length: 4_000 };
  const watch = { gap: 1 };
  let questions: FilteredQuestionRow[];
  let path: string;
  let policy: ArtifactRef;
  beforeAll(async () => {
    const store = artifactStore();
    const rows = await collect(store.rowsOf(filtering, FilteredQuestionRow));
    // Marks in arguments and in expected values of tests, which then fail, and in the references.
    questions = rows
      .filter(({ split }) => split === 'train')
      .slice(0, 4)
      .map((row) => ({
        ...row,
        reference: `${row.reference}\n# ${markOf(row.id, 'reference')}\n`,
        tests: [
          ...row.tests,
          ...[0, 1, 2, 3, 4, 5].flatMap((at) => [
            `assert ${row.entryPoint}("${markOf(row.id, at, 'argument')}") == "${markOf(row.id, at, 'expected')}"`,
            { call: `${row.entryPoint}(${at})`, expect: `"${markOf(row.id, at, 'object')}"` },
          ]),
        ],
      }));
    path = join(folder, 'questions.jsonl');
    await writeRows(path, questions);
    policy = ((await (await startWorkflow('reinforcement', inputOfMarked({}))).result()) as StageResult).ref;
  }, 600_000);

  const inputOfMarked = (settings: object): object => ({
    inputs: { questions: { kind: 'filteredQuestions', path }, policy: MODEL },
    config: configOf({ watch, repair, ...settings }),
  });

  /** Marks that prompts may hold, and those that they may not. */
  const marks = async (rollouts: ArtifactRef): Promise<{ shown: string[]; hidden: string[] }> => {
    const all = { shown: [] as string[], hidden: [] as string[] };
    for await (const prompt of artifactStore().rowsOf(await inputOf(rollouts, 'plan'), RoundPromptRow)) {
      const visible = new Set(visiblePlaces(prompt, { hiddenShare: 0.5, seed: SEED }));
      expect(prompt.hiddenTests!.length).toBeGreaterThan(0);
      for (const hidden of prompt.hiddenTests!) expect(visible.has(hidden)).toBe(false);
      for (const [place, test] of prompt.tests.entries())
        for (const [mark] of JSON.stringify(test).matchAll(/mark[0-9a-f]{16}/g))
          all[visible.has(place) ? 'shown' : 'hidden'].push(mark);
      all.hidden.push(markOf(prompt.questionId, 'reference'));
    }
    return all;
  };
  const textOf = async (turns: readonly ArtifactRef[]): Promise<string> =>
    JSON.stringify((await Promise.all(turns.map(askedIn))).map((asked) => asked.map(({ messages }) => messages)));

  it('hold 0 marks of hidden tests, of their values and of references', async () => {
    const turns = await turnsOf(policy);
    expect(turns).toHaveLength(3);
    const { shown, hidden } = await marks(turns[0]!);
    expect(hidden.length).toBeGreaterThan(20);
    const text = await textOf(turns);
    expect(hidden.filter((mark) => text.includes(mark))).toEqual([]);
    // The scan finds what is there.
    expect(shown.filter((mark) => text.includes(mark)).length).toBeGreaterThan(0);
  });

  it('hold none either where programs hand over every argument that they were ever given', async () => {
    const store = artifactStore();
    const first = (await turnsOf(policy)).at(-1)!;
    const [plan, start] = [await inputOf(first, 'plan'), await inputOf(first, 'policy')];
    const entryPoints = new Map(questions.map(({ id, entryPoint }) => [id, entryPoint]));
    const planted = (await collect(store.rowsOf(first, RolloutRow))).map((row, at) => ({
      ...row,
      text:
        `SEEN = []\ndef ${entryPoints.get(row.questionId)}(*given):\n    SEEN.append(given)\n` +
        `    ${at % 2 === 0 ? 'return str(SEEN)' : 'raise ValueError(str(SEEN))'}`,
    }));
    const { config } = inputOfMarked({ temperature: 0.9 }) as { config: object };
    const inputs = { plan, policy: start };
    const definition = STAGE.reinforcement.steps.rollouts;
    const parsed = ReinforcementConfig.parse(config);
    const recipe = stepRecipe('reinforcement', 'rollouts', definition, parsed, inputs, { round: 1 });
    const file = await store.putRows('rows.jsonl', RolloutRow, planted);
    const { manifest } = await store.commit(
      {
        ...{ kind: 'rollouts', stage: recipe.stage, stageKey: stageKey(recipe), files: [file], rows: planted.length },
        ...{ inputs, config: recipe.semantics, metrics: { rollouts: 12, tokens: 1, truncated: 0 }, seconds: 0 },
      },
      {
        ...{ workflowId: 'planted', runId: 'planted', activity: 'fixture', attempt: 1, host: 'test' },
        ...{ package: 'test', versions: {} },
      },
    );
    const handle = await startWorkflow('reinforcement', inputOfMarked({ temperature: 0.9 }));
    const { ref } = (await handle.result()) as StageResult;
    const turns = await turnsOf(ref);
    expect(turns.at(-1)!.key).toBe(refOf(manifest).key);
    const { hidden } = await marks(turns[0]!);
    const holds = (text: string): string[] => hidden.filter((mark) => text.includes(mark));
    // The programs do hand them over, and their verdicts know.
    const judged = await collect(store.rowsOf(await inputOf(await inputOf(ref, 'rewards'), 'verdicts'), VerdictRow));
    expect(holds(JSON.stringify(judged)).length).toBeGreaterThan(0);
    const text = await textOf(turns);
    expect(text).toContain('SEEN.append(given)');
    expect(holds(text)).toEqual([]);
  });
});
