/** Which forks run, what they reuse, and the one sentence for each that cannot. */
import { describe, expect, it } from 'vitest';
import type { ArtifactKind, ArtifactRef } from './artifacts.js';
import { Experiment } from './experiment.js';
import { forked, ForkInput, frontierOf, pinned, type ForkSource } from './fork.js';
import { frontierText } from './frontier.js';
import { STAGES, type StageName } from './stages/index.js';
import { roundSettings } from './stages/reinforcement.js';

const ref = (kind: ArtifactKind, name: string): ArtifactRef => ({
  kind,
  key: `artifacts/${kind}/${name}.json`,
  digest: 'd'.repeat(64),
  bytes: 1,
});

const experiment = (reinforcement: object = {}): Experiment =>
  Experiment.parse({
    name: 'base',
    seeds: ref('seeds', 's'),
    models: { policy: { kind: 'artifact', ref: ref('model', 'm') } },
    stages: { reinforcement: { rounds: 4, ...reinforcement } },
  });

/** An experiment that has done the stages before `running`. */
function source(running?: StageName, reinforcement: object = {}): ForkSource {
  const ran = STAGES.filter((name) => !['hardening', 'rewardModelCard', 'fineTuning'].includes(name));
  const at = running === undefined ? ran.length : ran.indexOf(running);
  return {
    workflowId: 'base-run',
    experiment: experiment(reinforcement),
    stages: ran.map((name, index) =>
      index < at
        ? { name, state: 'done', artifact: ref('questions', name), metrics: {} }
        : { name, state: index === at ? 'parked' : 'waiting', progress: { done: 2, total: 4, unit: 'rounds' } },
    ),
  };
}

const fork = (from: string, patch: Record<string, unknown>): ForkInput =>
  ForkInput.parse({ name: 'fork', fork: { of: 'base-run', from, patch } });
const reward = (rewardModelWeight: number) => ({ stages: { reinforcement: { reward: { rewardModelWeight } } } });
const told = (of: ForkSource, input: ForkInput): string[] =>
  (forked(of, input).mistakes ?? []).map(({ path, message }) => `${path}: ${message}`);

describe('a fork at a stage', () => {
  it('takes the stages before it as they are, and patches the rest', () => {
    const { data } = forked(source(), fork('rewardModel', { stages: { rewardModel: { epochs: 3 } } }));
    expect(data?.experiment).toMatchObject({ name: 'fork', stages: { rewardModel: { epochs: 3 } } });
    expect(Object.keys(data!.results)).toEqual(['synthesis', 'filtering', 'sampling', 'preferences']);
    expect(data!.results.sampling).toMatchObject({ reused: true, by: 'base-run', ref: ref('questions', 'sampling') });
    expect(data!.origin.differences).toEqual([{ field: 'stages.rewardModel.epochs', was: 1, is: 3 }]);
  });

  it('of an experiment that is parked there needs no more', () => {
    expect(told(source('evaluation'), fork('evaluation', { stages: { evaluation: { samples: 9 } } }))).toEqual([]);
  });

  it('may take another model where the first stage that reads it runs again', () => {
    const models = { policy: { kind: 'hub', id: 'a/b', revision: 'main' } };
    expect(told(source(), fork('sampling', { models }))).toEqual([]);
    expect(told(source(), fork('reinforcement', { models }))).toEqual([
      "fork.patch.models.policy: decides sampling, which is before reinforcement; fork from 'sampling' to change it",
    ]);
  });

  it('may take another policy from RL on where another model samples and another one is the backbone', () => {
    const hub = (id: string) => ({ kind: 'hub', id, revision: 'main' });
    const of = source();
    const models = { ...of.experiment.models, sampler: hub('a/b'), rewardModel: hub('a/b') };
    const sampled = { ...of, experiment: Experiment.parse({ ...of.experiment, models }) };
    expect(told(sampled, fork('reinforcement', { models: { policy: hub('c/d') } }))).toEqual([]);
    expect(told(sampled, fork('reinforcement', { models: { sampler: hub('c/d') } }))).toEqual([
      "fork.patch.models.sampler.id: decides sampling, which is before reinforcement; fork from 'sampling' to change it",
    ]);
    const given = { 'models.sampler': ref('model', 'sampler') };
    expect(pinned(sampled.experiment, given).models.sampler).toEqual({
      kind: 'artifact',
      ref: ref('model', 'sampler'),
    });
  });

  it('of an experiment of an earlier version has the defaults of fields that were added since', () => {
    const of = source();
    const { denominator: _added, ...preferences } = of.experiment.stages.preferences;
    const older = { ...of.experiment, stages: { ...of.experiment.stages, preferences } } as Experiment;
    const { data } = forked({ ...of, experiment: older }, fork('reinforcement.round.2', reward(0.5)));
    expect(data?.origin.differences.map(({ field }) => field)).toEqual([
      'stages.reinforcement.reward.rewardModelWeight',
    ]);
  });

  it('may leave RL out, which the evaluation behind it follows from', () => {
    const { data } = forked(source(), fork('evaluation', { stages: { reinforcement: null } }));
    expect(Object.keys(data!.results)).toEqual(['synthesis', 'filtering', 'sampling', 'preferences', 'rewardModel']);
    const stages = [{ name: 'evaluation' as const, state: 'done' as const }];
    expect(frontierOf(data!.origin, stages).stages[0]!.because).toEqual(['stages.reinforcement']);
    expect(told(source(), fork('reinforcement', { stages: { reinforcement: null } }))).toEqual([
      expect.stringMatching(/^fork\.from: the experiment does not run reinforcement/),
    ]);
  });
});

describe('a fork at a round', () => {
  it('changes the settings from that round on, and none before', () => {
    const { data } = forked(source(), fork('reinforcement.round.3', reward(0.5)));
    const reinforcement = data!.experiment.stages.reinforcement!;
    expect([1, 2, 3, 4].map((round) => roundSettings(reinforcement, round).reward.rewardModelWeight)).toEqual([
      0, 0, 0.5, 0.5,
    ]);
    expect(roundSettings(reinforcement, 2)).toEqual(experiment().stages.reinforcement);
    expect(data!.origin.differences).toEqual([
      { field: 'stages.reinforcement.reward.rewardModelWeight', was: 0, is: 0.5 },
    ]);
  });

  it('of a fork goes on from its changes, and holds for all later rounds', () => {
    const changes = [
      { fromRound: 2, settings: { topP: 0.9 } },
      { fromRound: 4, settings: { reward: { rewardModelWeight: 0.1 }, temperature: 0.7 } },
    ];
    const { data } = forked(source(undefined, { changes }), fork('reinforcement.round.3', reward(0.5)));
    const reinforcement = data!.experiment.stages.reinforcement!;
    const settings = [1, 2, 3, 4].map((round) => roundSettings(reinforcement, round));
    expect(settings.map(({ topP }) => topP)).toEqual([1, 0.9, 0.9, 0.9]);
    expect(settings.map((each) => each.reward.rewardModelWeight)).toEqual([0, 0, 0.5, 0.5]);
    expect(settings[3]!.temperature).toBe(0.7);
  });

  it('may add rounds to an experiment, also to one that still trains', () => {
    const more = fork('reinforcement.round.5', { stages: { reinforcement: { rounds: 8 } } });
    expect(forked(source(), more).data?.experiment.stages.reinforcement).toMatchObject({ rounds: 8 });
    expect(told(source('reinforcement'), fork('reinforcement.round.3', reward(0.5)))).toEqual([]);
  });

  it('at the first round is one of the whole stage', () => {
    const patch = { stages: { reinforcement: { seed: 7 } } };
    expect(forked(source(), fork('reinforcement.round.1', patch)).data?.experiment.stages.reinforcement?.seed).toBe(7);
  });
});

describe('a fork that cannot be is told in one sentence', () => {
  it.each<[string, ForkSource, string, Record<string, unknown>, RegExp]>([
    [
      'an earlier stage is patched',
      source(),
      'evaluation',
      { stages: { sampling: { samples: 3 } } },
      /^fork\.patch\.stages\.sampling\.samples: decides sampling, which is before evaluation; fork from 'sampling'/,
    ],
    [
      'nothing changes',
      source(),
      'reinforcement.round.3',
      reward(0),
      /^fork\.patch: changes no result: base-run has these values already$/,
    ],
    [
      'only the way of running changes',
      source(),
      'evaluation',
      { stages: { evaluation: { execution: { window: 2 } } } },
      /^fork\.patch: changes no result/,
    ],
    [
      'a stage is not done',
      source('rewardModel'),
      'evaluation',
      { stages: { evaluation: { samples: 9 } } },
      /^fork\.from: base-run has not done rewardModel, which is parked; fork from 'rewardModel' or before it$/,
    ],
    [
      'rounds are not done',
      source('reinforcement'),
      'reinforcement.round.4',
      reward(0.5),
      /^fork\.from: base-run has done 2 rounds; fork from round 3 or before it$/,
    ],
    [
      'there are fewer rounds',
      source(),
      'reinforcement.round.9',
      { stages: { evaluation: { samples: 9 } } },
      /^fork\.from: the experiment has 4 rounds; patch stages\.reinforcement\.rounds for more$/,
    ],
    [
      'the stage does not run',
      source(),
      'fineTuning',
      { stages: { evaluation: { samples: 9 } } },
      /^fork\.from: the experiment does not run fineTuning; it runs synthesis/,
    ],
    [
      'a setting holds for all rounds',
      source(),
      'reinforcement.round.2',
      { stages: { reinforcement: { seed: 3 } } },
      /^fork\.patch\.stages\.reinforcement\.seed: holds for all rounds, and rounds before reinforcement\.round\.2/,
    ],
    [
      'the optimizer would change its shape',
      source(),
      'reinforcement.round.2',
      { stages: { reinforcement: { algorithm: { upperLayers: 2 } } } },
      /^fork\.patch\.stages\.reinforcement\.algorithm\.upperLayers: the same in all rounds/,
    ],
    [
      'a field does not exist',
      source(),
      'reinforcement.round.2',
      { stages: { reinforcement: { reward: { rewardModelWeigth: 1 } } } },
      /^fork\.patch\.stages\.reinforcement\.reward/,
    ],
    [
      'a value is wrong',
      source(),
      'evaluation',
      { stages: { evaluation: { samples: -1 } } },
      /^fork\.patch\.stages\.evaluation\.samples: /,
    ],
  ])('%s', (_, of, from, patch, sentence) => {
    const mistakes = told(of, fork(from, patch));
    expect(mistakes).toHaveLength(1);
    expect(mistakes[0]).toMatch(sentence);
  });

  it('an unknown place is refused by the input itself', () => {
    const { error } = ForkInput.safeParse({ fork: { of: 'x', from: 'reinforcment', patch: {} } });
    expect(error?.issues[0]?.message).toMatch(/must be a stage .* did you mean "reinforcement"/);
  });
});

describe('the frontier', () => {
  it('says what was reused, what was made again, and why', () => {
    const { data } = forked(source(), fork('reinforcement.round.3', reward(0.5)));
    const frontier = frontierOf(data!.origin, [
      { name: 'sampling', state: 'done', reused: true },
      {
        name: 'reinforcement',
        state: 'done',
        reused: false,
        steps: { rollouts: { reused: 3, made: 1, madeFrom: 4 }, reward: { reused: 2, made: 2, madeFrom: 3 } },
      },
      { name: 'evaluation', state: 'done', reused: false },
      { name: 'preferences', state: 'running' },
    ]);
    expect(frontier.stages.map(({ name, reused, because }) => [name, reused, because])).toEqual([
      ['sampling', true, []],
      ['reinforcement', false, ['stages.reinforcement.reward.rewardModelWeight']],
      ['evaluation', false, ['reinforcement']],
      ['preferences', undefined, []],
    ]);
    expect(frontierText(frontier).join('\n')).toContain(
      'rollouts 3 reused, 1 made from 4 on; reward 2 reused, 2 made from 3 on',
    );
  });
});

describe('a pinned experiment', () => {
  it('has references in the place of files and models', () => {
    const written = Experiment.parse({
      name: 'base',
      seeds: { kind: 'seeds', path: 'seeds.jsonl' },
      models: { policy: { kind: 'folder', path: 'model' } },
    });
    const { seeds, models } = pinned(written, { seeds: ref('seeds', 's'), 'models.policy': ref('model', 'm') });
    expect(seeds).toEqual(ref('seeds', 's'));
    expect(models).toEqual({ policy: { kind: 'artifact', ref: ref('model', 'm') } });
  });
});
