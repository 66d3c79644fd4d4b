/**
 * The experiment: stages as child workflows, one after the other, and everything a person needs to follow and steer them.
 *
 * Parking lives here only. A stage that failed for good does not fail the experiment: it waits, visibly, for `retryStage`
 * or `abandon`. What is finished is found again in the store, so that a retry costs nothing that was done.
 */
import {
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  ChildWorkflowFailure,
  condition,
  getExternalWorkflowHandle,
  log,
  setCurrentDetails,
  setHandler,
  sleep,
  startChild,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import type { z } from 'zod';
import {
  defineSearchAttributeKey,
  SearchAttributeType,
  WorkflowExecutionAlreadyStartedError,
  type SignalDefinition,
} from '@temporalio/common';
import {
  Abandon,
  describeMistakes,
  merge,
  mistakesOf,
  RetryStage,
  StageConfigs,
  STAGES,
  teacherEstimate,
  type ArtifactRef,
  type EvaluationResult,
  type Experiment,
  type ExperimentStatus,
  type StageName,
  type StageResult,
  type StageStatus,
} from './contract/index.js';
import { call } from './lib/activities.js';
import { currentDetails, shellWord } from './lib/details.js';
import { recordedIn } from './lib/endpoint.js';
import { parseInput, resolveInputs } from './lib/inputs.js';
import {
  abandonUpdate,
  pauseSignal,
  resumeSignal,
  retryStageUpdate,
  stageProgressSignal,
  statusQuery,
} from './lib/messages.js';
import { benchmarksOf, enginesOf } from './lib/stage.js';

export interface ExperimentResult {
  html: string;
  summary: string;
  stages: { name: StageName; artifact: ArtifactRef; reused: boolean }[];
}

const ATTRIBUTES = {
  experiment: defineSearchAttributeKey('AceCoderExperiment', SearchAttributeType.KEYWORD),
  stage: defineSearchAttributeKey('AceCoderStage', SearchAttributeType.KEYWORD),
  state: defineSearchAttributeKey('AceCoderState', SearchAttributeType.KEYWORD),
  passAt1: defineSearchAttributeKey('AceCoderPassAt1', SearchAttributeType.DOUBLE),
};

/** Stages that may ask an endpoint, or have stored answers in its place. */
const ASKING = ['synthesis', 'filtering', 'sampling'] as const;

/** Names of the two policies that are compared. */
const POLICIES = { before: 'initial', after: 'trained' } as const;

/** Runs a whole experiment. Its input is one JSON object: see `Experiment`; `extends` names a preset. */
export async function experiment(input: unknown): Promise<ExperimentResult> {
  return new ExperimentRun(parseInput('experiment', input)).run();
}

class ExperimentRun {
  readonly #id = workflowInfo().workflowId;
  readonly #stages: Record<StageName, StageStatus>;
  /** Stages that an operator asked to run again; an update that a reset brings back finds its stage when it parks. */
  readonly #retries = new Set<StageName>();
  #config: Experiment;
  #current: StageName | undefined;
  #paused = false;
  #abandoned: string | undefined;
  #ended: 'cancelled' | 'failed' | undefined;
  #report: { html: string; summary: string } | undefined;
  #running: CancellationScope | undefined;
  /** Whether the current stage's child is there to take signals. */
  #started = false;
  /** Everything that abandoning ends. */
  readonly #work = new CancellationScope();
  #searchAttributes = false;
  #seeds: ArtifactRef | undefined;

  constructor(config: Experiment) {
    this.#config = config;
    this.#stages = Object.fromEntries(STAGES.map((name) => [name, { name, state: 'waiting' }])) as Record<
      StageName,
      StageStatus
    >;
    setHandler(statusQuery, () => this.#status(), { description: 'State, progress and artifacts of every stage.' });
    setHandler(retryStageUpdate, (request) => this.#retryStage(request), {
      validator: (request: unknown) => {
        this.#patched(request);
      },
      description: 'Run a stage again, optionally with a patch: {stage, execution?, semantics?, allowRepeat?}.',
    });
    setHandler(abandonUpdate, (request) => this.#abandon(request), {
      validator: (request: unknown) => {
        this.#abandonable(request);
      },
      description: 'Give the experiment up: {reason}.',
    });
    setHandler(pauseSignal, () => this.#setPaused(true), {
      description: 'Stop starting work; a training stops at a checkpoint.',
    });
    setHandler(resumeSignal, () => this.#setPaused(false), { description: 'Go on after a pause.' });
    setHandler(stageProgressSignal, ({ stage, progress }) => {
      this.#stages[stage].progress = progress;
      this.#show();
    });
  }

  async run(): Promise<ExperimentResult> {
    try {
      const result = await this.#work.run(() => this.#stagesInOrder());
      this.#current = undefined;
      this.#show();
      await condition(allHandlersFinished);
      return result;
    } catch (error) {
      if (this.#abandoned === undefined) {
        this.#ended = CancellationScope.current().consideredCancelled ? 'cancelled' : 'failed';
        this.#leave(this.#ended);
        this.#show();
        throw error;
      }
      await condition(allHandlersFinished);
      throw ApplicationFailure.nonRetryable(`abandoned: ${this.#abandoned}`, 'Abandoned');
    }
  }

  async #stagesInOrder(): Promise<ExperimentResult> {
    this.#show();
    const { seeds: seedsInput, models, stages: settings } = this.#config;
    const recorded = nested(
      ASKING.map((stage) => {
        const { at, files } = recordedIn[stage](settings[stage] as never);
        return { at: `stages.${stage}.${at}`, files };
      }),
    );
    const {
      seeds,
      models: { policy, rewardModel: backbone = policy },
    } = await resolveInputs(
      'experiment',
      { seeds: seedsInput, models, ...recorded },
      {
        at: '',
        deviceClass: settings.sampling.execution.deviceClass,
        benchmarks: {
          ...benchmarksOf(settings.synthesis, 'stages.synthesis.'),
          ...benchmarksOf(settings.evaluation, 'stages.evaluation.'),
        },
        engines: Object.fromEntries(
          STAGES.flatMap((stage) => Object.entries(enginesOf(settings[stage], `stages.${stage}.`))),
        ),
      },
    );
    const { searchAttributes } = await call(
      'experiment.record',
      { summary: 'record the configuration' },
      { experiment: this.#config },
    );
    this.#searchAttributes = searchAttributes;
    this.#seeds = seeds;
    this.#show();

    const questions = await this.#stage('synthesis', { seeds });
    const filtered = await this.#stage('filtering', { questions: questions.ref });
    const programs = await this.#stage('sampling', { questions: filtered.ref, policy });
    const pairs = await this.#stage('preferences', { programs: programs.ref });
    const rewardModel = await this.#stage('rewardModel', { pairs: pairs.ref, backbone });
    const trained = await this.#stage('reinforcement', {
      questions: filtered.ref,
      policy,
      rewardModel: rewardModel.ref,
      ...(this.#config.stages.reinforcement.questions === 'hard' ? { programs: programs.ref } : {}),
    });
    const evaluated = await this.#stage('evaluation', {
      policies: { [POLICIES.before]: policy, [POLICIES.after]: trained.ref },
      rewardModel: rewardModel.ref,
      questions: filtered.ref,
    });
    this.#setPassAt1(evaluated);
    const stages = STAGES.map((name) => this.#stages[name]);
    this.#report = await call(
      'experiment.report',
      { summary: 'write the report' },
      {
        experiment: this.#config,
        stages,
        rounds: trained.rounds ?? [],
        policy,
      },
    );
    return {
      ...this.#report,
      stages: stages.map(({ name, artifact, reused }) => ({ name, artifact: artifact!, reused: reused ?? false })),
    };
  }

  /** Runs a stage until it is done; a stage that failed for good parks. */
  async #stage(name: StageName, inputs: Record<string, unknown>): Promise<StageResult> {
    const status = this.#stages[name];
    this.#current = name;
    for (;;) {
      if (this.#paused) {
        Object.assign(status, { state: 'paused', failure: undefined });
        this.#show();
        await condition(() => !this.#paused);
      }
      const started = Date.now();
      Object.assign(status, {
        state: 'running',
        startedAt: new Date(started).toISOString(),
        resetEventId: workflowInfo().historyLength + 1,
        failure: undefined,
      });
      this.#show();
      try {
        const result = await this.#child(name, inputs);
        Object.assign(status, {
          state: 'done',
          seconds: (status.seconds ?? 0) + (Date.now() - started) / 1000,
          reused: result.reused,
          by: result.by,
          artifact: result.ref,
          metrics: result.metrics,
        });
        this.#retries.delete(name);
        this.#show();
        return result;
      } catch (error) {
        status.seconds = (status.seconds ?? 0) + (Date.now() - started) / 1000;
        if (CancellationScope.current().consideredCancelled) throw error;
        await this.#park(status, error);
      }
    }
  }

  async #child(name: StageName, inputs: Record<string, unknown>): Promise<StageResult> {
    const workflowId = `${this.#id}/${name}`;
    for (;;) {
      const scope = new CancellationScope();
      this.#running = scope;
      try {
        return await scope.run(async () => {
          const child = await startChild(name, {
            workflowId,
            args: [{ inputs, config: this.#config.stages[name] }],
            staticSummary: `${name} of ${this.#config.name}`,
          });
          this.#started = true;
          // A pause that came before there was a child to take it.
          if (this.#paused) await this.#tell(name, pauseSignal);
          return child.result() as Promise<StageResult>;
        });
      } catch (error) {
        if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
        // After a reset the earlier run's child is neither ended nor ours: it is cancelled, and the stage starts again.
        log.info('a child of an earlier run is still running; it is cancelled first', { workflowId });
        await getExternalWorkflowHandle(workflowId)
          .cancel()
          .catch(() => undefined);
        await sleep('2 seconds', { summary: `the ${name} of an earlier run ends` });
      } finally {
        this.#running = undefined;
        this.#started = false;
      }
    }
  }

  async #park(status: StageStatus, error: unknown): Promise<void> {
    const failure = failureOf(error, status.name, this.#id, this.#config);
    if (!this.#retries.has(status.name)) {
      status.failure = failure;
      if (this.#config.onFailure === 'fail')
        throw ApplicationFailure.create({
          type: failure.type,
          message: `${status.name}: ${failure.message}`,
          nonRetryable: true,
        });
      status.state = 'parked';
      this.#show();
      await condition(() => this.#retries.has(status.name));
    }
    this.#retries.delete(status.name);
  }

  /** The configuration with a retry's patch. @throws ApplicationFailure that refuses the update, with every mistake. */
  #patched(request: unknown): { config: Experiment; text: string } {
    const { stage, execution, semantics, allowRepeat } = checked(RetryStage, request);
    if (this.#stages[stage].state === 'done')
      throw refusal(
        `stage ${stage} is done; reset the experiment to event ${this.#stages[stage].resetEventId} to run it again`,
      );
    if (semantics && !allowRepeat) {
      throw refusal(
        `a change of ${Object.keys(semantics).join(', ')} changes what ${stage} makes, and with it every later stage; send "allowRepeat": true to repeat ${repeated(stage).join(', ')}`,
      );
    }
    const current = this.#config.stages[stage];
    const input = { ...(merge(current, semantics) as object), execution: merge(current.execution, execution) };
    const parsed = StageConfigs[stage].safeParse(input);
    if (!parsed.success) throw refusal(describeMistakes(mistakesOf(parsed.error, input, StageConfigs[stage])));
    return {
      config: { ...this.#config, stages: { ...this.#config.stages, [stage]: parsed.data } },
      text: semantics
        ? `${stage} runs again; repeated: ${repeated(stage).join(', ')}`
        : `${stage} runs again; finished work is taken from the store`,
    };
  }

  #retryStage(request: RetryStage): string {
    const { config, text } = this.#patched(request);
    this.#config = config;
    const { stage } = request;
    if (this.#stages[stage].state === 'waiting') return `${stage} has not started; the patch applies when it does`;
    this.#retries.add(stage);
    if (this.#current === stage) this.#running?.cancel();
    return text;
  }

  #abandonable(request: unknown): void {
    checked(Abandon, request);
    if (this.#report) throw refusal('the experiment is done');
  }

  #abandon(request: Abandon): string {
    this.#abandoned = request.reason;
    this.#leave('abandoned');
    this.#work.cancel();
    this.#show();
    return `abandoned: ${request.reason}`;
  }

  /** The stage that was in work when the experiment ended tells how. */
  #leave(state: 'abandoned' | 'cancelled' | 'failed'): void {
    const status = this.#current && this.#stages[this.#current];
    if (status && status.state !== 'done') status.state = state;
  }

  async #setPaused(paused: boolean): Promise<void> {
    this.#paused = paused;
    const status = this.#current && this.#stages[this.#current];
    if (status && (status.state === 'running' || status.state === 'paused'))
      status.state = paused ? 'paused' : 'running';
    this.#show();
    if (status && this.#started) await this.#tell(status.name, paused ? pauseSignal : resumeSignal);
  }

  async #tell(stage: StageName, signal: SignalDefinition): Promise<void> {
    await getExternalWorkflowHandle(`${this.#id}/${stage}`)
      .signal(signal)
      .catch((error: unknown) => {
        log.warn('the stage did not take the signal', { stage, error });
      });
  }

  #status(): ExperimentStatus {
    const stages = STAGES.map((name) => this.#stages[name]);
    const state =
      this.#abandoned !== undefined
        ? 'abandoned'
        : (this.#ended ??
          (this.#report
            ? 'done'
            : stages.some((stage) => stage.state === 'parked')
              ? 'parked'
              : this.#paused
                ? 'paused'
                : 'running'));
    const { kind: teacher } = this.#config.stages.synthesis.teacher;
    return {
      experiment: this.#config.name,
      state,
      stages,
      teacher,
      cost: this.#cost(),
      ...(this.#report ? { report: this.#report } : {}),
    };
  }

  #cost(): ExperimentStatus['cost'] {
    const {
      teacher,
      execution: {
        endpoint: { prices },
      },
    } = this.#config.stages.synthesis;
    const usd = ASKING.reduce(
      (sum, stage) =>
        sum + Number(this.#stages[stage].metrics?.['costUsd'] ?? this.#stages[stage].progress?.costUsd ?? 0),
      0,
    );
    const budgets = ASKING.flatMap((stage) => this.#config.stages[stage].execution.budgetUsd ?? []);
    const budget = budgets.length === 0 ? {} : { budgetUsd: budgets.reduce((sum, each) => sum + each, 0) };
    if (teacher.kind !== 'openai') return { usd, ...budget };
    const { rows = 0, bytes } = this.#seeds ?? { bytes: 0 };
    return {
      usd,
      ...budget,
      ...(rows === 0 ? {} : { estimatedUsd: teacherEstimate(teacher, prices, rows, bytes / rows).dollars }),
    };
  }

  /** Brings everything that people look at up to date. */
  #show(): void {
    const status = this.#status();
    setCurrentDetails(currentDetails(status, this.#id));
    if (!this.#searchAttributes) return;
    upsertSearchAttributes([
      { key: ATTRIBUTES.experiment, value: this.#config.name },
      { key: ATTRIBUTES.state, value: status.state },
      { key: ATTRIBUTES.stage, value: this.#current ?? null },
    ]);
  }

  #setPassAt1({ metrics }: StageResult): void {
    const results = metrics['results'] as unknown as EvaluationResult[];
    const final = results.find(({ policy }) => policy === POLICIES.after);
    const passAt1 = final?.mean ?? final?.greedy;
    if (this.#searchAttributes && passAt1 !== undefined && passAt1 !== null)
      upsertSearchAttributes([{ key: ATTRIBUTES.passAt1, value: passAt1 }]);
  }
}

/** Why a child failed, as a class, a message and the sentence to type next. */
function failureOf(
  error: unknown,
  stage: StageName,
  workflowId: string,
  { stages }: Experiment,
): NonNullable<StageStatus['failure']> {
  let cause: unknown = error;
  while (cause instanceof Error && !(cause instanceof ApplicationFailure) && cause.cause !== undefined)
    cause = cause.cause;
  const type =
    cause instanceof ApplicationFailure
      ? (cause.type ?? 'Error')
      : error instanceof ChildWorkflowFailure
        ? 'ChildWorkflowFailure'
        : 'Error';
  const message =
    cause instanceof CancelledFailure
      ? `somebody cancelled ${workflowId}/${stage}`
      : cause instanceof Error
        ? cause.message
        : String(cause);
  const execution =
    type === 'OutOfMemory'
      ? { microBatch: 1 }
      : type === 'BudgetExceeded'
        ? { budgetUsd: 2 * ((stages[stage].execution as { budgetUsd?: number }).budgetUsd ?? 0) }
        : undefined;
  const patch = execution === undefined ? '' : `, "execution": ${JSON.stringify(execution)}`;
  return {
    type,
    message,
    advice: `temporal workflow update execute --workflow-id ${shellWord(workflowId)} --name retryStage --input '{"stage": "${stage}"${patch}}'`,
  };
}

/** Files by the paths of the objects that hold them, as one object: what is looked up and imported together. */
function nested(parts: { at: string; files: Record<string, unknown> }[]): Record<string, object> {
  const all: Record<string, unknown> = {};
  for (const { at, files } of parts) {
    if (Object.keys(files).length === 0) continue;
    let place = all;
    for (const name of at.split('.').filter(Boolean)) place = (place[name] ??= {}) as Record<string, unknown>;
    Object.assign(place, files);
  }
  return all as Record<string, object>;
}

function repeated(stage: StageName): StageName[] {
  return STAGES.slice(STAGES.indexOf(stage));
}

function refusal(message: string): ApplicationFailure {
  return ApplicationFailure.nonRetryable(message, 'InvalidRequest');
}

function checked<T>(schema: z.ZodType<T>, input: unknown): T {
  const parsed = schema.safeParse(input);
  if (!parsed.success) throw refusal(describeMistakes(mistakesOf(parsed.error, input, schema)));
  return parsed.data;
}
