/** Pause, park, retry, abandon, reset and the ends of an experiment, without a server. */
import { describe, expect, it } from 'vitest';
import { Experiment, STAGES, type ArtifactRef, type StageName, type StageResult } from './contract/index.js';
import {
  abandonOf,
  after,
  figures,
  finalFailure,
  forkedState,
  initialState,
  inputsOf,
  isParked,
  nextStage,
  resumeOf,
  trainedPassAt1,
  retryOf,
  statusOf,
  type ExperimentEvent,
  type ExperimentState,
} from './experiment-state.js';

const FAILURE = { type: 'OutOfMemory', message: 'no memory is left', advice: 'type this' };

const configOf = (over: object = {}): Experiment =>
  Experiment.parse({
    name: 'mine',
    seeds: { kind: 'seeds', path: 'seeds.jsonl' },
    models: { policy: { kind: 'folder', path: 'model' } },
    ...over,
  });

const ref = (name: string, rows?: number): ArtifactRef => ({
  kind: 'questions',
  key: `artifacts/questions/${name}.json`,
  digest: 'd'.repeat(64),
  bytes: 1000,
  ...(rows === undefined ? {} : { rows }),
});

const resultOf = (stage: StageName, metrics: StageResult['metrics'] = {}): StageResult => ({
  ref: ref(stage),
  reused: false,
  metrics,
});

const run = (state: ExperimentState, ...events: ExperimentEvent[]): ExperimentState => events.reduce(after, state);

/** Events of a stage that takes ten seconds. */
const done = (stage: StageName, metrics: StageResult['metrics'] = {}): ExperimentEvent[] => [
  { type: 'stageEntered', stage },
  { type: 'stageStarted', stage, at: 0, resetEventId: 5 },
  { type: 'stageDone', stage, at: 10_000, result: resultOf(stage, metrics) },
];
const started = (stage: StageName): ExperimentEvent[] => done(stage).slice(0, 2);
const failed = (stage: StageName, at = 10_000): ExperimentEvent => ({
  type: 'stageFailed',
  stage,
  at,
  failure: FAILURE,
});

const fresh = (over: object = {}): ExperimentState =>
  run(initialState(configOf(over)), {
    type: 'inputsKnown',
    given: { seeds: ref('seeds', 10), 'models.policy': ref('policy') },
  });
/** An experiment in the middle of its reward model. */
const training = (over: object = {}): ExperimentState =>
  run(
    fresh(over),
    ...(['synthesis', 'filtering', 'sampling', 'preferences'] as const).flatMap((stage) => done(stage)),
    ...started('rewardModel'),
  );
const stateOf = (state: ExperimentState, stage: StageName): string =>
  state.stages.find(({ name }) => name === stage)!.state;

/** A retry as the workflow makes it: refused, or applied. */
function retried(state: ExperimentState, request: unknown): { state: ExperimentState; text: string } {
  const { accepted, refused } = retryOf(state, request);
  if (!accepted) throw new Error(refused);
  const { stage, config, text } = accepted;
  return { state: after(state, { type: 'retried', stage, config }), text };
}

describe('stages', () => {
  it('run in order, each fed by those before it', () => {
    let state = fresh();
    const order: StageName[] = [];
    for (let stage = nextStage(state); stage !== undefined; stage = nextStage(state)) {
      order.push(stage);
      if (stage === 'evaluation')
        expect(inputsOf(state, stage)).toEqual({
          policies: { initial: ref('policy'), trained: ref('reinforcement') },
          rewardModel: ref('rewardModel'),
          questions: ref('filtering'),
        });
      state = run(state, ...done(stage));
    }
    expect(order).toEqual(STAGES.filter((stage) => !['hardening', 'rewardModelCard', 'fineTuning'].includes(stage)));
    expect(statusOf(state).state, 'before the report').toBe('running');
    const report = { html: 'r.html', summary: 's.json' };
    state = run(state, { type: 'reported', report });
    expect(statusOf(state)).toMatchObject({ state: 'done', report });
    expect(state.current).toBeUndefined();
  });

  it('say when they started, what they made, and how long all of their attempts took', () => {
    const state = run(
      training(),
      { type: 'stageFailed', stage: 'rewardModel', at: 4000, failure: FAILURE },
      { type: 'stageStarted', stage: 'rewardModel', at: 60_000, resetEventId: 9 },
      { type: 'stageDone', stage: 'rewardModel', at: 61_500, result: { ...resultOf('rewardModel'), by: 'other' } },
    );
    expect(state.stages.find(({ name }) => name === 'rewardModel')).toMatchObject({
      state: 'done',
      startedAt: '1970-01-01T00:01:00.000Z',
      seconds: 5.5,
      resetEventId: 9,
      reused: false,
      by: 'other',
      artifact: ref('rewardModel'),
    });
  });

  it('tell their progress, and one that does not run tells nothing', () => {
    const progress = { done: 1, total: 4, unit: 'shards' };
    const state = run(fresh(), { type: 'stageProgressed', stage: 'synthesis', progress });
    expect(statusOf(state).stages[0]).toMatchObject({ progress });
    const unknown: ExperimentEvent = JSON.parse('{"type": "stageProgressed", "stage": "__proto__"}') as ExperimentEvent;
    expect(statusOf(run(state, unknown))).toEqual(statusOf(state));
  });

  it('give the pass@1 of the trained policy', () => {
    const results = Object.entries({ initial: 0.25, trained: 0.5 }).map(([policy, mean]) => ({
      ...{ benchmark: 'heldOut', policy, tasks: 4, samples: 4, greedy: 0.25, greedyInterval: null },
      ...{ mean, passAtK: {}, bestOfN: {}, oracle: null },
    }));
    const evaluated = (metrics: StageResult['metrics']) => trainedPassAt1(run(fresh(), ...done('evaluation', metrics)));
    expect(trainedPassAt1(fresh())).toBeUndefined();
    expect(evaluated({ results })).toBe(0.5);
    expect(evaluated({ results: results.slice(0, 1) })).toBeUndefined();
  });
});

describe('a pause', () => {
  it('holds the stage in work, and a resume lets it go on', () => {
    const paused = run(training(), { type: 'paused' });
    expect(statusOf(paused).state).toBe('paused');
    expect(stateOf(paused, 'rewardModel')).toBe('paused');
    expect(stateOf(paused, 'reinforcement')).toBe('waiting');
    const resumed = run(paused, { type: 'resumed' });
    expect(statusOf(resumed)).toEqual(statusOf(training()));
  });

  it('between stages holds the next one', () => {
    const between = run(fresh(), ...done('synthesis'), { type: 'paused' });
    expect(stateOf(between, 'synthesis'), 'what is done stays so').toBe('done');
    const entered = run(between, { type: 'stageEntered', stage: 'filtering' });
    expect(stateOf(entered, 'filtering')).toBe('paused');
    const resumed = run(entered, { type: 'resumed' }, ...started('filtering').slice(1));
    expect(stateOf(resumed, 'filtering')).toBe('running');
  });

  it('of a parked experiment leaves it parked', () => {
    const state = run(training(), failed('rewardModel'), { type: 'paused' });
    expect(statusOf(state).state).toBe('parked');
    expect(stateOf(state, 'rewardModel')).toBe('parked');
    const again = run(retried(state, { stage: 'rewardModel' }).state, { type: 'stageEntered', stage: 'rewardModel' });
    expect(statusOf(again).state).toBe('paused');
    expect(again.stages.find(({ name }) => name === 'rewardModel')!.failure).toBeUndefined();
  });
});

describe('a stage that failed for good', () => {
  it('parks, and says why', () => {
    const state = run(training(), failed('rewardModel'));
    expect(isParked(state, 'rewardModel')).toBe(true);
    expect(finalFailure(state, 'rewardModel')).toBeUndefined();
    expect(statusOf(state).state).toBe('parked');
    expect(state.stages.find(({ name }) => name === 'rewardModel')).toMatchObject({ failure: FAILURE, seconds: 10 });
    expect(nextStage(state)).toBe('rewardModel');
  });

  it('ends the experiment where nobody watches', () => {
    const state = run(training({ onFailure: 'fail' }), failed('rewardModel'));
    expect(isParked(state, 'rewardModel')).toBe(false);
    expect(finalFailure(state, 'rewardModel')).toEqual(FAILURE);
    const ended = run(state, { type: 'ended', how: 'failed' });
    expect(statusOf(ended).state).toBe('failed');
    expect(stateOf(ended, 'rewardModel')).toBe('failed');
  });
});

describe('a retry', () => {
  const parked = run(training(), failed('rewardModel'));

  it('runs a parked stage again, with a patch of its execution', () => {
    const { state, text } = retried(parked, { stage: 'rewardModel', execution: { microBatch: 1 } });
    expect(text).toBe('rewardModel runs again; finished work is taken from the store');
    expect(isParked(state, 'rewardModel')).toBe(false);
    expect(state.config.stages.rewardModel.execution.microBatch).toBe(1);
    expect(state.config.stages.rewardModel.learningRate).toBe(parked.config.stages.rewardModel.learningRate);
    const running = run(state, ...started('rewardModel'));
    expect(running.stages.find(({ name }) => name === 'rewardModel')).toMatchObject({
      state: 'running',
      failure: undefined,
    });
    expect(isParked(run(running, failed('rewardModel')), 'rewardModel'), 'the next failure parks').toBe(true);
  });

  it('with a patch of semantics needs the word of the operator, and repeats the later stages', () => {
    const semantics = { learningRate: 1e-4 };
    expect(retryOf(parked, { stage: 'rewardModel', semantics }).refused).toBe(
      'a change of learningRate changes what rewardModel makes, and with it every later stage; ' +
        'send "allowRepeat": true to repeat rewardModel, reinforcement, evaluation',
    );
    const { state, text } = retried(parked, { stage: 'rewardModel', semantics, allowRepeat: true });
    expect(text).toBe('rewardModel runs again; repeated: rewardModel, reinforcement, evaluation');
    expect(state.config.stages.rewardModel.learningRate).toBe(1e-4);
  });

  it('that needs an input which the experiment was not given is refused', () => {
    const request = { stage: 'sampling', semantics: { sampler: { kind: 'recorded' } }, allowRepeat: true };
    expect(retryOf(fresh(), request).refused).toBe(
      "inputs.samples: needed, because stages.sampling.sampler.kind is 'recorded' (is missing)",
    );
    const given = fresh({ inputs: { samples: { kind: 'samples', path: 's.jsonl' } } });
    expect(retryOf(given, request).accepted?.config.stages.sampling.sampler).toEqual({ kind: 'recorded' });
  });

  it.each([
    [{ stage: 'nothing' }, 'stage: must be one of "synthesis"'],
    [{ stage: 'rewardModel', execution: { microBatch: -1 } }, 'execution.microBatch: '],
    [{ stage: 'rewardModel', execution: { microBach: 1 } }, 'did you mean "microBatch"?'],
    [{ stage: 'rewardModel', semantics: { epochs: 0, batchSize: 'x' }, allowRepeat: true }, /epochs: .*\nbatchSize: /],
    [{ stage: 'sampling' }, 'stage sampling is done; reset the experiment to event 5 to run it again'],
    [null, '(top): '],
  ])('that asks for %j is refused', (request, why) => {
    expect(retryOf(parked, request).refused).toMatch(why);
  });

  it('of a stage that has not started patches it for later', () => {
    const { state, text } = retried(parked, { stage: 'evaluation', execution: { window: 2 } });
    expect(text).toBe('evaluation has not started; the patch applies when it does');
    expect(state.config.stages.evaluation.execution.window).toBe(2);
    expect(isParked(state, 'rewardModel')).toBe(true);
    const evaluating = run(state, ...started('evaluation'), failed('evaluation'));
    expect(isParked(evaluating, 'evaluation'), 'its first failure parks').toBe(true);
  });

  it('that a reset brings back before its stage parks is kept for the failure', () => {
    const { state } = retried(training(), { stage: 'rewardModel', execution: { microBatch: 2 } });
    const again = run(state, failed('rewardModel'));
    expect(isParked(again, 'rewardModel')).toBe(false);
    expect(stateOf(again, 'rewardModel')).toBe('running');
    expect(nextStage(again)).toBe('rewardModel');
    expect(again.config.stages.rewardModel.execution.microBatch).toBe(2);
    const second = run(again, ...started('rewardModel'), failed('rewardModel'));
    expect(isParked(second, 'rewardModel'), 'it counts once').toBe(true);
  });

  it('that a reset brings back is forgotten when its stage is done', () => {
    const { state } = retried(training(), { stage: 'rewardModel' });
    const finished = run(state, ...done('rewardModel').slice(2));
    expect(finished.retries).toEqual([]);
    expect(stateOf(finished, 'rewardModel')).toBe('done');
  });

  it('that comes while its stage is held by a pause does not hide the next failure', () => {
    const held = run(parked, { type: 'paused' });
    const entered = run(retried(held, { stage: 'rewardModel' }).state, { type: 'stageEntered', stage: 'rewardModel' });
    const twice = retried(entered, { stage: 'rewardModel', execution: { microBatch: 1 } }).state;
    const running = run(twice, { type: 'resumed' }, ...started('rewardModel').slice(1), failed('rewardModel'));
    expect(isParked(running, 'rewardModel')).toBe(true);
  });
});

describe('a fork', () => {
  const origin = {
    of: 'other',
    from: 'evaluation',
    differences: [{ field: 'stages.evaluation.samples', was: 8, is: 16 }],
  };
  const before = ['synthesis', 'filtering', 'sampling', 'preferences', 'rewardModel', 'reinforcement'] as const;
  const results = Object.fromEntries(
    before.map((stage) => [stage, { ...resultOf(stage, { rows: 3 }), reused: true, by: 'other' }]),
  );
  const state = (): ExperimentState =>
    run(forkedState({ experiment: configOf(), origin, results }), {
      type: 'inputsKnown',
      given: { seeds: ref('seeds', 10), 'models.policy': ref('policy') },
    });

  it('begins where the other experiment leads, with what that one made', () => {
    expect(nextStage(state())).toBe('evaluation');
    expect(inputsOf(state(), 'evaluation')).toMatchObject({
      policies: { initial: ref('policy'), trained: ref('reinforcement') },
      questions: ref('filtering'),
    });
    const [first] = statusOf(state()).stages;
    expect(first).toMatchObject({ name: 'synthesis', state: 'done', reused: true, by: 'other', metrics: { rows: 3 } });
  });

  it('tells its frontier, also in a run that goes on', () => {
    const ended = JSON.parse(JSON.stringify(run(state(), ...done('evaluation')))) as ExperimentState;
    const { frontier } = statusOf(ended);
    expect(frontier?.stages.filter(({ reused }) => reused).map(({ name }) => name)).toEqual(before);
    expect(frontier?.stages.at(-1)).toEqual({
      name: 'evaluation',
      reused: false,
      because: ['stages.evaluation.samples'],
    });
    expect(statusOf(training()).frontier).toBeUndefined();
  });

  it('runs no stage again that is of the other experiment', () => {
    expect(retryOf(state(), { stage: 'sampling', execution: { window: 1 } }).refused).toBe(
      "stage sampling is that of other; fork from 'sampling' to run it again",
    );
  });
});

describe('an end', () => {
  it('by abandonment gives the reason, parked or not', () => {
    const request = { reason: 'not worth it' };
    for (const before of [training(), run(training(), failed('rewardModel'))]) {
      expect(abandonOf(before, request).accepted).toEqual(request);
      const state = run(before, { type: 'abandoned', ...request }, { type: 'paused' });
      expect(statusOf(state).state).toBe('abandoned');
      expect(stateOf(state, 'rewardModel')).toBe('abandoned');
      expect(stateOf(state, 'preferences')).toBe('done');
    }
    expect(abandonOf(training(), {}).refused).toContain('reason: ');
    expect(abandonOf(run(training(), { type: 'reported', report: { html: '', summary: '' } }), request).refused).toBe(
      'the experiment is done',
    );
  });

  it('by cancellation counts the time of the stage in work', () => {
    const state = run(
      training(),
      { type: 'stageInterrupted', stage: 'rewardModel', at: 3000 },
      { type: 'ended', how: 'cancelled' },
    );
    expect(statusOf(state).state).toBe('cancelled');
    expect(state.stages.find(({ name }) => name === 'rewardModel')).toMatchObject({ state: 'cancelled', seconds: 3 });
    expect(stateOf(state, 'evaluation')).toBe('waiting');
  });

  it('before any stage names none', () => {
    const state = run(initialState(configOf()), { type: 'ended', how: 'failed' });
    expect(statusOf(state).state).toBe('failed');
    expect(state.stages.every(({ state: each }) => each === 'waiting')).toBe(true);
  });
});

describe('a new run of a long history', () => {
  it('keeps the state, and says in which run the events of earlier stages are', () => {
    const before = run(fresh(), ...done('synthesis'), { type: 'continued', runId: 'run-1' }, ...started('filtering'));
    const twice = run(before, { type: 'continued', runId: 'run-2' });
    const runOf = (stage: StageName, of: ExperimentState) => statusOf(of).stages.find(({ name }) => name === stage);
    expect(runOf('synthesis', before)).toMatchObject({ state: 'done', resetEventId: 5, resetRunId: 'run-1' });
    expect(runOf('filtering', before)?.resetRunId).toBeUndefined();
    expect(runOf('synthesis', twice)?.resetRunId).toBe('run-1');
    expect(runOf('filtering', twice)?.resetRunId).toBe('run-2');
    expect(runOf('sampling', twice)?.resetRunId).toBeUndefined();
    expect(runOf('filtering', run(twice, ...started('filtering')))?.resetRunId).toBeUndefined();
  });

  it('is carried as JSON and loses nothing', () => {
    const state = run(fresh(), ...done('synthesis', { questions: 3 }), { type: 'paused' }, failed('filtering'));
    expect(JSON.parse(JSON.stringify(state))).toEqual(state);
  });
});

describe('what the experiment waits for', () => {
  it('is told while it lasts', () => {
    const waits = run(fresh(), { type: 'waits', waitsFor: 'waits for a worker on q' });
    expect(statusOf(waits).waitsFor).toBe('waits for a worker on q');
    expect(statusOf(run(waits, { type: 'waits', waitsFor: undefined }))).not.toHaveProperty('waitsFor');
  });

  it('names queues that nobody served at the start, until it is done', () => {
    const seen = run(fresh(), { type: 'queuesSeen', unserved: ['q-trian'], served: ['q-train'] });
    expect(statusOf(seen).unserved).toEqual({ queues: ['q-trian'], served: ['q-train'] });
    expect(statusOf(run(fresh(), { type: 'queuesSeen', unserved: [], served: ['q'] }))).not.toHaveProperty('unserved');
  });
});

describe('the figures of the memo', () => {
  it('are those of the stages, pass@1 and the cost', () => {
    const result = { samples: 1, greedyInterval: null, mean: null, passAtK: {}, bestOfN: {}, oracle: null, tasks: 2 };
    const results = [
      { ...result, benchmark: 'humaneval', policy: 'initial', greedy: 0.25 },
      { ...result, benchmark: 'humaneval', policy: 'trained', greedy: 0.5 },
    ];
    const state = run(
      fresh(),
      ...done('synthesis', { questions: 3, costUsd: 0.5 }),
      ...done('evaluation', { results }),
    );
    expect(figures(state)).toMatchObject({
      experiment: 'mine',
      state: 'running',
      stages: { synthesis: 'questions 3, costUsd 0.500', filtering: 'waiting' },
      passAt1: { 'humaneval initial': 0.25, 'humaneval trained': 0.5 },
      costUsd: 0.5,
    });
    expect(figures(state).stages['evaluation']).toBe('pass@1 humaneval initial 0.250, humaneval trained 0.500');
  });
});

describe('the cost', () => {
  const execution = { budgetUsd: 4, endpoint: { prices: { input: 1, output: 2 } } };
  const paid = { stages: { synthesis: { teacher: { kind: 'openai', model: 'm' }, execution } } };

  it('is what the stages tell, beside budget and estimate', () => {
    const { cost, teacher } = statusOf(fresh(paid));
    expect(teacher).toBe('openai');
    expect(cost).toMatchObject({ usd: 0, budgetUsd: 4 });
    expect(cost.estimatedUsd).toBeGreaterThan(0);
    const progress = { done: 1, total: 2, unit: 'shards', costUsd: 0.5 };
    const asking = run(fresh(paid), { type: 'stageProgressed', stage: 'synthesis', progress });
    expect(statusOf(asking).cost.usd).toBe(0.5);
    const asked = run(asking, ...done('synthesis', { costUsd: 0.75 }), {
      type: 'stageProgressed',
      stage: 'filtering',
      progress,
    });
    expect(statusOf(asked).cost.usd).toBe(1.25);
  });

  it('of the offline teacher is nothing', () => {
    expect(statusOf(fresh()).cost).toEqual({ usd: 0 });
    expect(statusOf(initialState(configOf(paid))).cost, 'before the seeds are counted').toEqual({
      usd: 0,
      budgetUsd: 4,
    });
  });
});

describe('resume after an alarm of the watch', () => {
  const alarm = (round: number): ExperimentEvent => ({
    type: 'stageFailed',
    stage: 'reinforcement',
    at: 10_000,
    failure: { type: 'RewardHacked', message: 'look', advice: 'type this', round },
  });
  const before = STAGES.slice(0, STAGES.indexOf('reinforcement')).filter(
    (stage) => !['hardening', 'rewardModelCard', 'fineTuning'].includes(stage),
  );
  const watched = run(
    initialState(configOf({ stages: { reinforcement: { rounds: 9, watch: { rounds: 3 } } } })),
    ...before.flatMap((stage) => done(stage)),
    ...started('reinforcement'),
  );

  it('writes the decision into the settings and runs the stage again', () => {
    const parked = after(watched, alarm(4));
    expect(isParked(parked, 'reinforcement')).toBe(true);
    const { config, text, stage } = resumeOf(parked, { flagged: 'drop' }).accepted!;
    expect(text).toBe('reinforcement goes on with round 4, without flagged rollouts');
    expect(config.stages.reinforcement?.watch).toMatchObject({
      rounds: 3,
      decisions: [{ round: 4, flagged: 'drop' }],
    });
    const again = run(after(parked, { type: 'retried', stage, config }), ...started(stage), alarm(7));
    const { config: second } = resumeOf(again, { flagged: 'keep' }).accepted!;
    expect(second.stages.reinforcement?.watch?.decisions).toEqual([
      { round: 4, flagged: 'drop' },
      { round: 7, flagged: 'keep' },
    ]);
  });

  it('refuses what is no decision, and where nothing waits for one', () => {
    expect(resumeOf(after(watched, alarm(4)), { flagged: 'maybe' }).refused).toContain('flagged');
    expect(resumeOf(watched, { flagged: 'keep' }).refused).toContain('no round was stopped');
    expect(resumeOf(after(watched, failed('reinforcement')), { flagged: 'keep' }).refused).toContain(
      'no round was stopped',
    );
  });
});
