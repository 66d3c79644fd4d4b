/**
 * The state of an experiment: what happened goes in as events, and the workflow asks what to do next.
 *
 * Pure: no Temporal, no clock. `experiment` is the only caller.
 */
import type { z } from 'zod';
import {
  Abandon,
  chainInputs,
  describeMistakes,
  EvaluationResult,
  figuresOf,
  frontierOf,
  passAt1Of,
  Experiment,
  merge,
  mistakesOf,
  POLICIES,
  Resume,
  RetryStage,
  StageConfigs,
  stagesOf,
  teacherEstimate,
  TEACHERS,
  type ArtifactRef,
  type ChainInputs,
  type ExperimentFigures,
  type ExperimentStatus,
  type Forked,
  type ForkOrigin,
  type Given,
  type StageConfig,
  type StageName,
  type StageProgress,
  type StageResult,
  type StageStatus,
} from './contract/index.js';

/** Stages that may ask an endpoint, or have stored answers in its place. */
const ASKING = ['synthesis', 'filtering', 'sampling'] as const;

export interface ExperimentState {
  /** The configuration with the patches of all retries so far. */
  readonly config: Experiment;
  /** The stages that run, in order. */
  readonly stages: readonly StageStatus[];
  /** What the stages that are done returned. */
  readonly results: Readonly<Partial<Record<StageName, StageResult>>>;
  /** References behind the experiment's inputs, once they are known. */
  readonly given: Readonly<Partial<Record<Given, ArtifactRef>>>;
  /** The stage in work. */
  readonly current?: StageName | undefined;
  readonly paused: boolean;
  /** Stages that an operator asked to run again before they parked. Their next failure does not park them. */
  readonly retries: readonly StageName[];
  readonly abandoned?: string;
  readonly ended?: 'cancelled' | 'failed';
  readonly report?: NonNullable<ExperimentStatus['report']>;
  /** What the experiment itself waits for: work of its own that no worker takes. */
  readonly waitsFor?: string | undefined;
  /** Queues that its stages will need and that no worker served at the start. */
  readonly unserved?: { queues: readonly string[]; served: readonly string[] };
  /** Of a fork. */
  readonly fork?: ForkOrigin;
}

export type ExperimentEvent =
  | { type: 'inputsKnown'; given: Partial<Record<Given, ArtifactRef>> }
  | { type: 'queuesSeen'; unserved: string[]; served: string[] }
  | { type: 'waits'; waitsFor: string | undefined }
  /** The experiment goes on as a new run. Events of the earlier one are in its history. */
  | { type: 'continued'; runId: string }
  /** The experiment turns to a stage, which starts unless the experiment is paused. */
  | { type: 'stageEntered'; stage: StageName }
  /** `at` is in milliseconds since 1970, here and below. */
  | { type: 'stageStarted'; stage: StageName; at: number; resetEventId: number }
  | { type: 'stageProgressed'; stage: StageName; progress: StageProgress }
  | { type: 'stageDone'; stage: StageName; at: number; result: StageResult }
  | { type: 'stageFailed'; stage: StageName; at: number; failure: NonNullable<StageStatus['failure']> }
  /** The stage ended because the experiment is cancelled or abandoned. */
  | { type: 'stageInterrupted'; stage: StageName; at: number }
  | { type: 'paused' }
  | { type: 'resumed' }
  /** An operator's retry that {@link retryOf} accepted, with the configuration that it gave. */
  | { type: 'retried'; stage: StageName; config: Experiment }
  | { type: 'abandoned'; reason: string }
  | { type: 'ended'; how: 'cancelled' | 'failed' }
  | { type: 'reported'; report: NonNullable<ExperimentStatus['report']> };

/** The state before anything happened. */
export function initialState(config: Experiment): ExperimentState {
  return {
    config,
    stages: stagesOf(config.stages).map((name) => ({ name, state: 'waiting' })),
    results: {},
    given: {},
    paused: false,
    retries: [],
  };
}

/** The state of a fork before anything happened: the stages before it are done. */
export function forkedState({ experiment, origin, results }: Forked): ExperimentState {
  const state = initialState(experiment);
  return {
    ...state,
    results,
    fork: origin,
    stages: state.stages.map((stage) => {
      const result = results[stage.name];
      return result ? { ...stage, state: 'done', ...shownOf(result) } : stage;
    }),
  };
}

/** What a stage's status tells of its result. */
function shownOf({ reused, by, ref, metrics, steps }: StageResult): Partial<StageStatus> {
  return {
    reused,
    ...(by === undefined ? {} : { by }),
    artifact: ref,
    metrics,
    ...(steps === undefined ? {} : { steps }),
  };
}

/** The state after an event. An event about a stage that does not run changes nothing. */
export function after(state: ExperimentState, event: ExperimentEvent): ExperimentState {
  switch (event.type) {
    case 'inputsKnown':
      return { ...state, given: event.given };
    case 'queuesSeen':
      return event.unserved.length === 0
        ? state
        : { ...state, unserved: { queues: event.unserved, served: event.served } };
    case 'waits':
      return { ...state, waitsFor: event.waitsFor };
    case 'continued':
      return {
        ...state,
        stages: state.stages.map((stage) =>
          stage.resetEventId === undefined ? stage : { ...stage, resetRunId: stage.resetRunId ?? event.runId },
        ),
      };
    case 'stageEntered':
      return {
        ...(state.paused ? withStage(state, event.stage, { state: 'paused', failure: undefined }) : state),
        current: event.stage,
      };
    case 'stageStarted':
      return withoutRetry(
        withStage(state, event.stage, {
          state: 'running',
          startedAt: new Date(event.at).toISOString(),
          resetEventId: event.resetEventId,
          resetRunId: undefined,
          failure: undefined,
        }),
        event.stage,
      );
    case 'stageProgressed':
      return withStage(state, event.stage, { progress: event.progress });
    case 'stageDone': {
      const done = withStage(withSeconds(state, event), event.stage, { state: 'done', ...shownOf(event.result) });
      return withoutRetry({ ...done, results: { ...done.results, [event.stage]: event.result } }, event.stage);
    }
    case 'stageFailed': {
      const stopped = withSeconds(state, event);
      if (state.retries.includes(event.stage)) return withoutRetry(stopped, event.stage);
      const { failure } = event;
      return withStage(
        stopped,
        event.stage,
        state.config.onFailure === 'fail' ? { failure } : { failure, state: 'parked' },
      );
    }
    case 'stageInterrupted':
      return withSeconds(state, event);
    case 'paused':
      return withCurrent({ ...state, paused: true }, ({ state: was }) => (was === 'running' ? 'paused' : was));
    case 'resumed':
      return withCurrent({ ...state, paused: false }, ({ state: was }) => (was === 'paused' ? 'running' : was));
    case 'retried': {
      const { stage, config } = event;
      const patched = { ...state, config };
      // A stage that has not started has nothing to run again.
      return stageOf(state, stage)?.state === 'waiting' || state.retries.includes(stage)
        ? patched
        : { ...patched, retries: [...state.retries, stage] };
    }
    case 'abandoned':
      return withCurrent({ ...state, abandoned: event.reason }, leftAs('abandoned'));
    case 'ended':
      return withCurrent({ ...state, ended: event.how }, leftAs(event.how));
    case 'reported':
      return { ...state, report: event.report, current: undefined };
  }
}

/** The stage to run next: the first that is not done. Undefined when all are. */
export function nextStage({ stages }: ExperimentState): StageName | undefined {
  return stages.find(({ state }) => state !== 'done')?.name;
}

/** Whether a stage waits for an operator: it failed for good, and nobody has asked to run it again. */
export function isParked({ stages, retries }: ExperimentState, stage: StageName): boolean {
  return stages.some(({ name, state }) => name === stage && state === 'parked') && !retries.includes(stage);
}

/** The failure that ends the experiment, where failures are not to park it. */
export function finalFailure({ config, stages }: ExperimentState, stage: StageName): StageStatus['failure'] {
  return config.onFailure === 'fail' ? stages.find(({ name }) => name === stage)?.failure : undefined;
}

/**
 * The inputs of a stage.
 *
 * @throws Error where one of them does not exist yet.
 */
export function inputsOf({ config, given, results }: ExperimentState, stage: StageName): ChainInputs<ArtifactRef> {
  const outputs = Object.fromEntries(Object.entries(results).map(([name, { ref }]) => [name, ref]));
  const settings = config.stages[stage];
  if (!settings) throw new Error(`the experiment does not run ${stage}`);
  return chainInputs(stage, settings, { given, outputs });
}

/** An operator's request, or the sentence that refuses it with every mistake. */
export type Answer<T> = { accepted: T; refused?: undefined } | { refused: string; accepted?: undefined };

/** A retry that was accepted: the stage, the configuration with its patch, and what the operator is told. */
export interface Retry {
  stage: StageName;
  config: Experiment;
  text: string;
}

/**
 * What a `retryStage` request does.
 *
 * @example
 * retryOf(state, { stage: 'rewardModel', execution: { microBatch: 1 } }).accepted?.text
 */
export function retryOf(state: ExperimentState, request: unknown): Answer<Retry> {
  const { accepted, refused } = parsed(RetryStage, request);
  if (!accepted) return { refused };
  const { stage, execution, semantics, allowRepeat } = accepted;
  const status = stageOf(state, stage);
  if (!status) return { refused: `the experiment does not run ${stage}` };
  if (status.state === 'done')
    return {
      refused:
        status.resetEventId === undefined
          ? `stage ${stage} is that of ${state.fork?.of ?? status.by}; fork from '${stage}' to run it again`
          : `stage ${stage} is done; reset the experiment to event ${status.resetEventId} to run it again`,
    };
  const again = repeated(state, stage).join(', ');
  if (semantics && !allowRepeat)
    return {
      refused:
        `a change of ${Object.keys(semantics).join(', ')} changes what ${stage} makes, and with it every later ` +
        `stage; send "allowRepeat": true to repeat ${again}`,
    };
  const current = state.config.stages[stage];
  if (!current) return { refused: `the experiment does not run ${stage}` };
  const schema: z.ZodType<StageConfig[StageName]> = StageConfigs[stage];
  const settings = parsed(schema, merge(current, { ...semantics, execution: merge(current.execution, execution) }));
  if (!settings.accepted) return settings;
  const text =
    status.state === 'waiting'
      ? `${stage} has not started; the patch applies when it does`
      : semantics
        ? `${stage} runs again; repeated: ${again}`
        : `${stage} runs again; finished work is taken from the store`;
  // A patch may need an input that the experiment was not given.
  const whole = { ...state.config, stages: { ...state.config.stages, [stage]: settings.accepted } };
  const config = parsed<Experiment>(Experiment, whole);
  return config.accepted ? { accepted: { stage, config: config.accepted, text } } : config;
}

/**
 * What a `resume` request does: the stage that an alarm of the watch for reward hacking has parked runs again, with the
 * decision in its settings, so that it is found again wherever they are.
 *
 * @example
 * resumeOf(state, { flagged: 'drop' }).accepted?.text
 */
export function resumeOf(state: ExperimentState, request: unknown): Answer<Retry> {
  const { accepted, refused } = parsed(Resume, request);
  if (!accepted) return { refused };
  const stage = 'reinforcement';
  const round = stageOf(state, stage)?.failure?.round;
  const watch = state.config.stages[stage]?.watch;
  if (!watch || round === undefined || !isParked(state, stage))
    return { refused: 'no round was stopped by the watch for reward hacking; the signal resume ends a pause' };
  const decisions = [...(watch.decisions ?? []), { round, ...accepted }];
  const retry = retryOf(state, { stage, semantics: { watch: { decisions } }, allowRepeat: true });
  if (!retry.accepted) return retry;
  const how = accepted.flagged === 'drop' ? 'without' : 'with';
  return { accepted: { ...retry.accepted, text: `${stage} goes on with round ${round}, ${how} flagged rollouts` } };
}

/** What an `abandon` request does: see {@link retryOf}. */
export function abandonOf({ report }: ExperimentState, request: unknown): Answer<Abandon> {
  const answer = parsed(Abandon, request);
  return answer.accepted && report ? { refused: 'the experiment is done' } : answer;
}

/** What people see of the experiment. */
export function statusOf(state: ExperimentState): ExperimentStatus {
  const { config, report } = state;
  return {
    experiment: config.name,
    state: overallState(state),
    stages: [...state.stages],
    teacher: config.stages.synthesis.teacher.kind,
    cost: costOf(state),
    ...(report ? { report } : {}),
    ...(state.waitsFor === undefined ? {} : { waitsFor: state.waitsFor }),
    ...(state.unserved && !report ? { unserved: state.unserved } : {}),
    ...(state.fork ? { frontier: frontierOf(state.fork, state.stages) } : {}),
  };
}

function overallState({ abandoned, ended, report, stages, paused }: ExperimentState): ExperimentStatus['state'] {
  if (abandoned !== undefined) return 'abandoned';
  if (ended) return ended;
  if (report) return 'done';
  if (stages.some(({ state }) => state === 'parked')) return 'parked';
  return paused ? 'paused' : 'running';
}

/** Pass@1 of the trained policy on the first benchmark. Undefined where it was not measured. */
export function trainedPassAt1({ results }: ExperimentState): number | undefined {
  const evaluated = EvaluationResult.array().safeParse(results.evaluation?.metrics['results']);
  const trained = evaluated.data?.find(({ policy }) => policy === POLICIES.after);
  return trained?.mean ?? trained?.greedy ?? undefined;
}

/** The main figures, small enough for a memo: what people look for without opening anything. */
export function figures(state: ExperimentState): ExperimentFigures {
  const { usd } = costOf(state);
  const passAt1 = passAt1Of(state.results.evaluation?.metrics ?? {});
  return {
    experiment: state.config.name,
    state: overallState(state),
    stages: Object.fromEntries(
      state.stages.map(({ name, state: how, metrics, failure }) => [
        name,
        how === 'done'
          ? figuresOf(metrics ?? {}, 4) || 'done'
          : failure
            ? `${how}: ${failure.type}: ${failure.message.slice(0, 200)}`
            : how,
      ]),
    ),
    ...(Object.keys(passAt1).length > 0 ? { passAt1 } : {}),
    costUsd: usd,
  };
}

/** What a user pays for replies, in US dollars: so far, at most, and by estimate once the seeds are counted. */
function costOf({ config, stages, given }: ExperimentState): ExperimentStatus['cost'] {
  const usd = stages
    .filter(({ name }) => ASKING.some((asking) => asking === name))
    .reduce((sum, { metrics, progress }) => sum + Number(metrics?.['costUsd'] ?? progress?.costUsd ?? 0), 0);
  const budgets = ASKING.flatMap((stage) => config.stages[stage].execution.budgetUsd ?? []);
  const cost = {
    usd,
    ...(budgets.length === 0 ? {} : { budgetUsd: budgets.reduce((sum, each) => sum + each, 0) }),
  };
  const { teacher, execution } = config.stages.synthesis;
  const { rows = 0, bytes = 0 } = given.seeds ?? {};
  if (!TEACHERS.isPaid(teacher) || rows === 0) return cost;
  const { dollars } = teacherEstimate(teacher, execution.endpoint.prices, rows, bytes / rows);
  return { ...cost, estimatedUsd: dollars };
}

/** A stage and those after it. */
function repeated({ stages }: ExperimentState, stage: StageName): StageName[] {
  const names = stages.map(({ name }) => name);
  return names.slice(names.indexOf(stage));
}

function stageOf({ stages }: ExperimentState, stage: StageName): StageStatus | undefined {
  return stages.find(({ name }) => name === stage);
}

function withStage(state: ExperimentState, stage: StageName, change: Partial<StageStatus>): ExperimentState {
  return {
    ...state,
    stages: state.stages.map((status) => (status.name === stage ? { ...status, ...change } : status)),
  };
}

function withCurrent(state: ExperimentState, change: (status: StageStatus) => StageStatus['state']): ExperimentState {
  const status = state.current && stageOf(state, state.current);
  return status ? withStage(state, status.name, { state: change(status) }) : state;
}

/** The stage that was in work when the experiment ended tells how. */
function leftAs(how: StageStatus['state']): (status: StageStatus) => StageStatus['state'] {
  return ({ state }) => (state === 'done' ? state : how);
}

/** Adds the time since the stage last started. */
function withSeconds(state: ExperimentState, { stage, at }: { stage: StageName; at: number }): ExperimentState {
  const { startedAt, seconds = 0 } = stageOf(state, stage) ?? {};
  return startedAt === undefined
    ? state
    : withStage(state, stage, { seconds: seconds + (at - Date.parse(startedAt)) / 1000 });
}

function withoutRetry(state: ExperimentState, stage: StageName): ExperimentState {
  return { ...state, retries: state.retries.filter((name) => name !== stage) };
}

function parsed<T>(schema: z.ZodType<T>, input: unknown): Answer<T> {
  const { data, error } = schema.safeParse(input);
  return error ? { refused: describeMistakes(mistakesOf(error, input, schema)) } : { accepted: data };
}
