/** The chain: every input comes from an earlier stage, and what is optional is left out. */
import { describe, expect, it } from 'vitest';
import { chainInputs, fed, givenOf, sourcesOf, stagesOf, usedSources, type Sources } from './chain.js';
import { Experiment } from './experiment.js';
import { type CHAIN, StageConfigs, STAGES, type StageConfig, type StageName } from './stages/index.js';

/** Stands for an artifact. */
interface Thing {
  of: string;
}
const thing = (of: string): Thing => ({ of });
const isStage = (source: string): source is StageName => STAGES.some((stage) => stage === source);
const configOf = <S extends StageName>(stage: S, config: object = {}): StageConfig[S] =>
  StageConfigs[stage].parse(config) as StageConfig[S];

const everything: Sources<Thing> = {
  given: givenOf({ seeds: thing('seeds'), models: { policy: thing('policy') } }),
  outputs: Object.fromEntries(STAGES.map((stage) => [stage, thing(stage)])),
};

describe('the chain', () => {
  it.each(STAGES)('feeds %s out of earlier stages alone', (stage) => {
    const earlier: string[] = STAGES.slice(0, STAGES.indexOf(stage));
    expect(sourcesOf(stage).length).toBeGreaterThan(0);
    for (const source of sourcesOf(stage).filter(isStage)) expect(earlier).toContain(source);
  });

  it('uses every output but the last one', () => {
    const used = new Set<string>(STAGES.flatMap(sourcesOf));
    expect(STAGES.filter((stage) => !used.has(stage))).toEqual([STAGES.at(-1)]);
  });

  it('is checked by the compiler', () => {
    // @ts-expect-error no input of this name
    const misspelt: (typeof CHAIN)['filtering'] = { question: 'synthesis' };
    // @ts-expect-error no stage of this name
    const unknown: (typeof CHAIN)['filtering'] = { questions: 'sythesis' };
    // @ts-expect-error an input that is forgotten
    const forgotten: (typeof CHAIN)['rewardModel'] = { pairs: 'preferences' };
    expect([misspelt, unknown, forgotten]).toHaveLength(3);
  });
});

describe('inputs of a stage', () => {
  it('are what the chain says', () => {
    expect(chainInputs('evaluation', configOf('evaluation'), everything)).toEqual({
      policies: { initial: thing('policy'), fineTuned: thing('fineTuning'), trained: thing('reinforcement') },
      rewardModel: thing('rewardModel'),
      questions: thing('filtering'),
    });
    const { fineTuning: _fineTuning, ...outputs } = everything.outputs;
    expect(chainInputs('evaluation', configOf('evaluation'), { ...everything, outputs })).toMatchObject({
      policies: { initial: thing('policy'), trained: thing('reinforcement') },
    });
  });

  it('take the first source that exists', () => {
    expect(chainInputs('rewardModel', configOf('rewardModel'), everything)).toEqual({
      pairs: thing('preferences'),
      backbone: thing('policy'),
    });
    const given = givenOf({ models: { policy: thing('policy'), rewardModel: thing('backbone') } });
    expect(chainInputs('rewardModel', configOf('rewardModel'), { ...everything, given })).toMatchObject({
      backbone: thing('backbone'),
    });
  });

  it('name the sampler in the place of the policy where there is one, and nowhere else', () => {
    const given = givenOf({ models: { policy: thing('policy'), sampler: thing('sampler') } });
    expect(chainInputs('sampling', configOf('sampling'), { ...everything, given })).toMatchObject({
      policy: thing('sampler'),
    });
    expect(chainInputs('rewardModel', configOf('rewardModel'), { ...everything, given })).toMatchObject({
      backbone: thing('policy'),
    });
    expect(usedSources('sampling', ['filtering', 'models.policy', 'models.sampler'])).toEqual([
      'filtering',
      'models.sampler',
    ]);
    expect(usedSources('sampling', ['models.policy'])).toEqual(['models.policy']);
  });

  it('hold what a setting asks for, and only then', () => {
    const inputs = (questions: string) =>
      chainInputs('reinforcement', configOf('reinforcement', { questions }), everything);
    expect(inputs('hard')).toHaveProperty('programs', thing('hardening'));
    expect(inputs('all')).not.toHaveProperty('programs');
  });

  it('leave out what is optional and does not exist', () => {
    const { outputs } = everything;
    const { hardening: _hardening, rewardModel: _rewardModel, reinforcement: _reinforcement, ...before } = outputs;
    expect(chainInputs('reinforcement', configOf('reinforcement'), { ...everything, outputs: before })).toEqual({
      questions: thing('filtering'),
      policy: thing('policy'),
    });
    expect(chainInputs('evaluation', configOf('evaluation'), { ...everything, outputs: before })).toMatchObject({
      policies: { initial: thing('policy') },
    });
  });

  it('that a stage needs must exist', () => {
    expect(() => chainInputs('filtering', configOf('filtering'), { given: {}, outputs: {} })).toThrow(
      'filtering.questions comes from synthesis, which does not exist yet',
    );
    expect(() =>
      chainInputs('rewardModel', configOf('rewardModel'), { given: {}, outputs: everything.outputs }),
    ).toThrow('rewardModel.backbone comes from models.rewardModel or models.policy, which does not exist yet');
  });
});

describe('a stage that is optional', () => {
  // A stage that no experiment has: `tuning` between sampling and reinforcement.
  const feeds = {
    policy: ['tuning', 'models.policy'],
    policies: { initial: 'models.policy', tuned: 'tuning' },
  } as const;

  it('gives its output where it runs, and stands aside where it does not', () => {
    const policy = thing('policy');
    const tuning = thing('tuning');
    expect(fed(feeds, {}, { 'models.policy': policy, tuning })).toEqual({
      policy: tuning,
      policies: { initial: policy, tuned: tuning },
    });
    expect(fed(feeds, {}, { 'models.policy': policy })).toEqual({ policy, policies: { initial: policy } });
  });

  it('runs where it has settings', () => {
    const { stages } = Experiment.parse({
      name: 'x',
      seeds: { kind: 'seeds', path: 's.jsonl' },
      models: { policy: { kind: 'folder', path: 'm' } },
    });
    const usual = STAGES.filter((stage) => !['hardening', 'rewardModelCard', 'fineTuning'].includes(stage));
    expect(stagesOf(stages)).toEqual(usual);
    expect(stagesOf({ ...stages, hardening: {}, rewardModelCard: {}, fineTuning: {} })).toEqual([...STAGES]);
    expect(stagesOf({ ...stages, sampling: null, preferences: undefined })).toEqual(
      usual.filter((stage) => stage !== 'sampling' && stage !== 'preferences'),
    );
  });
});
