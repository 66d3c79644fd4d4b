/**
 * Keys of what stands in stores and was paid for: a change of code must still find it. `golden-keys.json` was written
 * by version 0.1.0, out of recorded runs and of configurations of all kinds. Keys of syntheses that decontaminate are
 * those of the step that runs seeds: it drops others than version 0.1.0, and paid replies keep their keys.
 */
import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import {
  ReinforcementConfig,
  STAGE,
  STAGES,
  StageConfigs,
  TEACHERS,
  type ArtifactRef,
  type SeedRow,
} from '../../workflows/contract/index.js';
import { asksOfQuestions } from '../policy/source.js';
import { asksOf } from '../synthesis/asking.js';
import { stageKey } from './keys.js';
import { digestsOf } from './produce.js';
import { stageRecipe, stepRecipe } from './recipes.js';

const Config = z.record(z.string(), z.json());
const Golden = z.object({
  recorded: z.array(
    z.object({
      activity: z.string(),
      input: z.object({
        config: Config,
        inputs: z.record(z.string(), z.custom<ArtifactRef>()),
        round: z.number().optional(),
      }),
      key: z.string(),
    }),
  ),
  configured: z.array(
    z.object({
      from: z.string(),
      step: z.string(),
      round: z.number().optional(),
      config: Config,
      inputs: z.record(z.string(), z.string()),
      key: z.string(),
    }),
  ),
  replies: z.array(z.json()),
});
type Config = z.infer<typeof Config>;
const golden = Golden.parse(
  JSON.parse(readFileSync(new URL('../../test/fixtures/golden-keys.json', import.meta.url), 'utf8')),
);

/** What a configuration of version 0.1.0 names as recorded, by the name of the input that it is now. */
function recordedIn(config: unknown): Record<string, ArtifactRef> {
  if (typeof config !== 'object' || config === null) return {};
  return Object.assign(
    {},
    ...Object.entries(config).map(([name, value]: [string, unknown]) =>
      (name === 'replies' || name === 'samples') && typeof value === 'object' ? { [name]: value } : recordedIn(value),
    ),
  ) as Record<string, ArtifactRef>;
}

function keyOf(
  activity: string,
  config: Config,
  inputs: Record<string, ArtifactRef>,
  round: number | undefined,
): string {
  const [name, step] = activity.split('.');
  if (name === 'reinforcement') {
    const steps = STAGE.reinforcement.steps;
    const definition =
      steps[z.enum(['plan', 'rollouts', 'judge', 'score', 'reward', 'update', 'merge', 'repair']).parse(step)];
    const parsed = ReinforcementConfig.parse(config);
    return stageKey(stepRecipe(name, step!, definition, parsed, inputs, { round }));
  }
  const stage = STAGE[z.enum(STAGES).parse(name)];
  // A reference to what is recorded stood in the configuration; now it is an input, and the key has it where it was.
  const recipe = stageRecipe(stage, stage.stored?.(config) ?? config, { ...recordedIn(config), ...inputs });
  return stageKey({ ...recipe, inputs: digestsOf(inputs) });
}

/** A reference to something with a digest; nothing else of it is in a key. */
const withDigest = (digest: string): ArtifactRef => ({ kind: 'seeds', key: 'artifacts/x.json', digest, bytes: 1 });

describe('keys of version 0.1.0', () => {
  it.each(
    golden.recorded.map(
      ({ activity, key, input }) => [`${activity} ${key.slice(0, 8)}`, { activity, key, input }] as const,
    ),
  )('of the recorded %s', (_, { activity, key, input: { config, inputs, round } }) => {
    const refs = Object.fromEntries(Object.entries(inputs).filter(([, ref]) => ref !== undefined));
    expect(keyOf(activity, config, refs, round)).toBe(key);
  });

  it.each(golden.configured.map((each) => [`${each.from}: ${each.step}`, each] as const))('of %s', (_, each) => {
    const refs = Object.fromEntries(Object.entries(each.inputs).map(([name, digest]) => [name, withDigest(digest)]));
    expect(keyOf(each.step, each.config, refs, each.round)).toBe(each.key);
  });

  it.each(golden.replies.map((each, index) => [index, each] as const))('of paid replies, case %i', (_, each) => {
    const Case = z.discriminatedUnion('what', [
      z.object({
        what: z.literal('teacher'),
        teacher: Config,
        seeds: z.array(z.custom<SeedRow>()),
        keys: z.array(z.string()),
      }),
      z.object({
        what: z.literal('program'),
        request: z.custom<Parameters<typeof asksOfQuestions>[0]>(),
        questions: z.custom<Parameters<typeof asksOfQuestions>[1]>(),
        keys: z.array(z.string()),
      }),
    ]);
    const parsed = Case.parse(each);
    if (parsed.what === 'program') {
      expect(asksOfQuestions(parsed.request, parsed.questions).map(({ key }) => key)).toEqual(parsed.keys);
      return;
    }
    const execution = { budgetUsd: 1, endpoint: { prices: { input: 1, output: 1 } } };
    const { teacher } = StageConfigs.synthesis.parse({ teacher: parsed.teacher, execution });
    const { answers } = TEACHERS.of(teacher);
    if (answers.from !== 'endpoint') throw new Error('the teacher asks no endpoint');
    expect(parsed.seeds.flatMap((seed) => asksOf(answers, seed)).map(({ key }) => key)).toEqual(parsed.keys);
  });

  it('cover every stage and every step that makes an artifact', () => {
    const seen = new Set([
      ...golden.recorded.map(({ activity }) => activity.replace(/\.(plan|train)$/, '')),
      ...golden.configured.map(({ step }) => step),
    ]);
    const steps = Object.entries(STAGE.reinforcement.steps).flatMap(([step, of]) => ('kind' in of ? [step] : []));
    for (const stage of ['synthesis', 'filtering', 'sampling', 'preferences', 'rewardModel', 'evaluation'])
      expect(seen).toContain(stage);
    for (const step of steps) expect(seen).toContain(`reinforcement.${step}`);
  });
});
