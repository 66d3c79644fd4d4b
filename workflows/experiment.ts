/**
 * The experiment: stages as child workflows, one after the other, and everything a person needs to follow and steer
 * them. What happened, and what follows from it, is in `experiment-state.ts`. This file starts, waits and tells.
 *
 * Parking is here only. A stage that failed for good does not fail the experiment. It waits, visibly, for `retryStage`
 * or `abandon`. A retry finds finished work in the store, so it costs nothing that was done.
 */
import {
  allHandlersFinished,
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  ChildWorkflowFailure,
  condition,
  ContinueAsNew,
  getExternalWorkflowHandle,
  isCancellation,
  log,
  makeContinueAsNewFunc,
  setCurrentDetails,
  setHandler,
  sleep,
  startChild,
  upsertMemo,
  upsertSearchAttributes,
  workflowInfo,
} from '@temporalio/workflow';
import { WorkflowExecutionAlreadyStartedError, type SignalDefinition } from '@temporalio/common';
import {
  asksForFork,
  forked,
  ForkInput,
  givenOf,
  mistakesOf,
  pinned,
  queueName,
  STAGE,
  StageProgressMessage,
  type ArtifactRef,
  type Experiment,
  type ExperimentFigures,
  type Frontier,
  type StageName,
  type StageResult,
  type StageStatus,
  type StepDefinition,
} from './contract/index.js';
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
  type Answer,
  type Retry,
  type ExperimentEvent,
  type ExperimentState,
} from './experiment-state.js';
import { call } from './lib/activities.js';
import { z } from 'zod';
import { currentDetails, resumeAdvice, retryAdvice } from './lib/details.js';
import { lookupsOf, parseInput, refused, resolveInputs } from './lib/inputs.js';
import { resultMemo } from './lib/result-memo.js';
import {
  abandonUpdate,
  onSignal,
  type PauseMessage,
  forkSourceQuery,
  pauseSignal,
  resumeSignal,
  resumeUpdate,
  retryStageUpdate,
  stageProgressSignal,
  statusQuery,
} from './lib/messages.js';
import { double, findBy, keyword } from './lib/search-attributes.js';
import { carriedOver, historyIsLong } from './lib/stage.js';
import { onWaiting, queuesServed } from './lib/waiting.js';

export interface ExperimentResult {
  /** `report.html` and `summary.json` in the store. */
  report: ArtifactRef;
  /** The command that gets them, without a worker. */
  fetch: string;
  /** Their paths on a worker that keeps results on its disk. */
  html?: string;
  summary?: string;
  stages: { name: StageName; artifact: ArtifactRef; reused: boolean }[];
  figures: ExperimentFigures;
  /** Of a fork: what it reused, what it made again, and why. */
  frontier?: Frontier;
}

/** Carried over a continue-as-new, which happens between two stages: no stage is lost sight of. */
interface Carry {
  state: ExperimentState;
  searchAttributes: boolean;
}

/** A stage whose workflow is gone, perhaps since a reset: its end will never be told. */
class StageLost extends Error {}

/** Pauses between two looks whether a running stage still exists. Each look adds to the history. */
const FIRST_LOOK_MINUTES = 10;
const LONGEST_PAUSE_MINUTES = 6 * 60;

/**
 * Runs a whole experiment. Its input is one JSON object: see `Experiment`. `extends` names a preset, and `fork` another
 * experiment whose results up to a stage or a round are taken.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes, `Abandoned`, or the failure of a stage where
 *   `onFailure` is `fail`.
 * @example
 * ```ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { experiment } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { stages } = await client.workflow.execute<typeof experiment>('experiment', {
 *   taskQueue: 'acecoder',
 *   workflowId: 'my-first',
 *   args: [{ extends: 'quickstart', name: 'my-first', seeds: { kind: 'seeds', path: '/data/seeds.jsonl' } }],
 * });
 * ```
 */
export async function experiment(input: unknown, given?: Carry): Promise<ExperimentResult> {
  const carry = carriedOver(given);
  if (carry) return new ExperimentRun(carry.state, carry.searchAttributes).run();
  try {
    if (asksForFork(input)) return await new ExperimentRun(await stateOfFork(input)).run();
    return await new ExperimentRun(initialState(parseInput('experiment', input))).run();
  } catch (error) {
    if (error instanceof ApplicationFailure && error.type === 'InvalidExperiment') await tellRefused(input);
    throw error;
  }
}

/**
 * The state of a fork, whose first stages are those of the other experiment.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes, before anything runs.
 */
async function stateOfFork(input: unknown): Promise<ExperimentState> {
  const { data, error } = ForkInput.safeParse(input);
  if (error) throw refused('experiment', mistakesOf(error, input, ForkInput));
  const { of } = data.fork;
  setCurrentDetails(`looks up ${of.slice(0, 200)}, which it forks`);
  const { source, mistakes } = await call('experiment.source', { summary: 'look up the forked experiment' }, { of });
  if (mistakes) throw refused('experiment', mistakes);
  const fork = forked(source, data);
  if (fork.mistakes) throw refused('experiment', fork.mistakes);
  return forkedState(fork.data);
}

/** Lets a refused experiment be found by its state, as others are. */
async function tellRefused(input: unknown): Promise<void> {
  const { data } = z.looseObject({ name: z.string().max(200) }).safeParse(input);
  await findBy({ AceCoderExperiment: data?.name ?? null, AceCoderState: 'failed' });
}

class ExperimentRun {
  readonly #id = workflowInfo().workflowId;
  #state: ExperimentState;
  #running: CancellationScope | undefined;
  /** The figures in the memo, as text. */
  #remembered = '';
  /** Whether the current stage's child exists and takes signals. */
  #started = false;
  /** Whether the current stage has not been told of the newest pause or resumption, and whether it is told now. */
  #pauseUntold = false;
  #telling = false;
  /** The number of the newest pause or resumption that was told. A stage may take two in any order. */
  #number = 0;
  /** How often somebody had a reason to look whether the stage still exists. */
  #looks = 0;
  /** Everything that abandoning ends. */
  readonly #work = new CancellationScope();

  constructor(
    state: ExperimentState,
    private searchAttributes?: boolean,
  ) {
    this.#state = state;
    onWaiting((waitsFor) => {
      this.#apply({ type: 'waits', waitsFor });
      this.#show();
    });
    setHandler(statusQuery, () => statusOf(this.#state), {
      description: 'State, progress and artifacts of every stage.',
    });
    setHandler(
      forkSourceQuery,
      () => {
        const { config, given, stages } = this.#state;
        return { workflowId: this.#id, experiment: pinned(config, given), stages: [...stages] };
      },
      { description: 'What a fork of the experiment starts from.' },
    );
    setHandler(retryStageUpdate, (request) => this.#retryStage(accepted(retryOf(this.#state, request))), {
      validator: (request: unknown) => {
        accepted(retryOf(this.#state, request));
      },
      description: 'Run a stage again, optionally with a patch: {stage, execution?, semantics?, allowRepeat?}.',
    });
    setHandler(resumeUpdate, (request) => this.#retryStage(accepted(resumeOf(this.#state, request))), {
      validator: (request: unknown) => {
        accepted(resumeOf(this.#state, request));
      },
      description: 'Go on after an alarm of the watch for reward hacking: {flagged: "keep" or "drop"}.',
    });
    setHandler(abandonUpdate, (request) => this.#abandon(request), {
      validator: (request: unknown) => {
        accepted(abandonOf(this.#state, request));
      },
      description: 'Give the experiment up: {reason}.',
    });
    onSignal(pauseSignal, z.unknown(), () => this.#setPaused(true), {
      description: 'Stop starting work; a training stops at a checkpoint.',
    });
    onSignal(resumeSignal, z.unknown(), () => this.#setPaused(false), { description: 'Go on after a pause.' });
    onSignal(stageProgressSignal, StageProgressMessage, ({ stage, progress }) => {
      this.#apply({ type: 'stageProgressed', stage, progress });
      this.#show();
    });
  }

  async run(): Promise<ExperimentResult> {
    try {
      const result = await this.#work.run(() => this.#stagesInOrder());
      this.#show();
      await condition(allHandlersFinished);
      return result;
    } catch (error) {
      if (error instanceof ContinueAsNew) throw error;
      const { abandoned } = this.#state;
      if (abandoned === undefined) {
        const how = CancellationScope.current().consideredCancelled ? 'cancelled' : 'failed';
        this.#apply({ type: 'ended', how });
        this.#show();
        throw error;
      }
      await condition(allHandlersFinished);
      // The server refuses to end a run while news arrive, and with that task it would refuse the update's answer too.
      // So the run ends in a task of its own.
      await CancellationScope.nonCancellable(() => sleep('1 second', { summary: 'the abandonment is answered first' }));
      throw ApplicationFailure.nonRetryable(`abandoned: ${abandoned}`, 'Abandoned');
    }
  }

  async #stagesInOrder(): Promise<ExperimentResult> {
    this.#show();
    if (this.searchAttributes === undefined) await this.#begin();
    for (let stage = nextStage(this.#state); stage !== undefined; stage = nextStage(this.#state)) {
      await this.#whilePaused(stage);
      await this.#continueWhereLong();
      await this.#attempt(stage);
    }

    const passAt1 = trainedPassAt1(this.#state);
    if (this.searchAttributes && passAt1 !== undefined)
      upsertSearchAttributes([{ key: double('AceCoderPassAt1'), value: passAt1 }]);
    const { config, given } = this.#state;
    const stages = [...this.#state.stages];
    const { frontier } = statusOf(this.#state);
    const report = await call(
      'experiment.report',
      { summary: 'write the report' },
      { experiment: config, stages, policy: given['models.policy']!, given, ...(frontier ? { frontier } : {}) },
    );
    this.#apply({ type: 'reported', report });
    // A link opens the report without a key. It stands in the details alone, not in what is kept and passed on.
    const { artifact, html, summary } = report;
    return {
      report: artifact,
      fetch: resultMemo('report', artifact),
      ...(html === undefined ? {} : { html }),
      ...(summary === undefined ? {} : { summary }),
      stages: stages.map(({ name, artifact, reused }) => ({ name, artifact: artifact!, reused: reused ?? false })),
      figures: figures(this.#state),
      ...(frontier ? { frontier } : {}),
    };
  }

  /** Looks up what the experiment is given, and records it. */
  async #begin(): Promise<void> {
    const queuesSeen = queuesServed({ queues: this.#queues() }).catch((error: unknown) => {
      if (isCancellation(error)) throw error;
      log.warn('nobody could say who serves the queues', { error });
      return { unserved: [], served: [] };
    });
    const [given, queues] = await Promise.all([this.#given(), queuesSeen]);
    const { searchAttributes } = await call(
      'experiment.record',
      { summary: 'record the configuration' },
      { experiment: this.#state.config },
    );
    this.searchAttributes = searchAttributes;
    this.#apply({ type: 'inputsKnown', given });
    this.#apply({ type: 'queuesSeen', ...queues });
    this.#show();
  }

  /** Queues of the stages' steps: a device class with a typing error is seen before a stage waits for it. */
  #queues(): string[] {
    const { config, stages } = this.#state;
    const base = workflowInfo().taskQueue;
    const names = stages.flatMap(({ name }) => {
      const { deviceClass } = STAGE[name].withSettings(config.stages[name]).execution();
      return Object.values<StepDefinition>(STAGE[name].steps).map(({ queue }) =>
        queueName(queue, base, queue === 'gpu' ? deviceClass : undefined),
      );
    });
    return [...new Set(names)].filter((name) => name !== base).sort();
  }

  /** Goes on as a new run where the history is long, or where a new version of the workers is there. */
  async #continueWhereLong(): Promise<void> {
    const { runId, targetWorkerDeploymentVersionChanged: newVersion } = workflowInfo();
    if (!historyIsLong() && !newVersion) return;
    await condition(allHandlersFinished);
    this.#apply({ type: 'continued', runId });
    const goOn = makeContinueAsNewFunc<typeof experiment>(
      newVersion ? { initialVersioningBehavior: 'AUTO_UPGRADE' } : {},
    );
    await goOn(this.#state.config, { state: this.#state, searchAttributes: this.searchAttributes ?? false });
  }

  /** References behind everything that the experiment is given. */
  async #given(): Promise<ExperimentState['given']> {
    const { seeds, models, inputs = {}, stages: settings } = this.#state.config;
    const resolved = await resolveInputs(
      'experiment',
      { seeds, models, inputs },
      {
        at: '',
        deviceClass: settings.sampling.execution.deviceClass,
        ...lookupsOf(settings, (stage) => `stages.${stage}.`),
      },
    );
    return givenOf<ArtifactRef>(resolved);
  }

  /** Turns to a stage, and waits while the experiment is paused. */
  async #whilePaused(stage: StageName): Promise<void> {
    this.#apply({ type: 'stageEntered', stage });
    if (!this.#state.paused) return;
    this.#show();
    await condition(() => !this.#state.paused);
  }

  /** Runs a stage once. One that failed for good is parked until an operator wants it to run again. */
  async #attempt(stage: StageName): Promise<void> {
    const resetEventId = workflowInfo().historyLength + 1;
    this.#apply({ type: 'stageStarted', stage, at: Date.now(), resetEventId });
    this.#show();
    try {
      const result = await this.#child(stage);
      this.#apply({ type: 'stageDone', stage, at: Date.now(), result });
      this.#show();
    } catch (error) {
      if (CancellationScope.current().consideredCancelled) {
        this.#apply({ type: 'stageInterrupted', stage, at: Date.now() });
        // The stage may have failed while its cancellation was on its way. The experiment is cancelled all the same.
        throw isCancellation(error) ? error : new CancelledFailure(`${stage} failed while it was cancelled`);
      }
      const failure = failureOf(error, stage, this.#id, this.#state.config);
      this.#apply({ type: 'stageFailed', stage, at: Date.now(), failure });
      const final = finalFailure(this.#state, stage);
      if (final)
        throw ApplicationFailure.create({
          type: final.type,
          message: `${stage}: ${final.message}`,
          nonRetryable: true,
        });
      if (!isParked(this.#state, stage)) return;
      this.#show();
      await condition(() => !isParked(this.#state, stage));
    }
  }

  async #child(stage: StageName): Promise<StageResult> {
    const workflowId = `${this.#id}/${stage}`;
    for (;;) {
      const scope = new CancellationScope();
      this.#running = scope;
      const looks = this.#looks;
      try {
        return await scope.run(async () => {
          const { config } = this.#state;
          const child = await startChild(stage, {
            workflowId,
            args: [{ inputs: inputsOf(this.#state, stage), config: config.stages[stage] }],
            staticSummary: `${stage} of ${config.name}`,
            ...(this.searchAttributes
              ? {
                  typedSearchAttributes: [
                    { key: keyword('AceCoderExperiment'), value: config.name },
                    { key: keyword('AceCoderStage'), value: stage },
                  ],
                }
              : {}),
          });
          this.#started = true;
          // The pause may be older than the child that is to take it. A resumption may have come together with the news
          // that the child exists, and after a reset that news can be old: the child may be gone.
          if (this.#state.paused) this.#pauseUntold = true;
          await this.#tellPause();
          return this.#unlessLost(stage, child.result() as Promise<StageResult>, looks);
        });
      } catch (error) {
        if (error instanceof StageLost) {
          log.warn('the stage is gone and will never tell its end; it starts again', { workflowId });
          continue;
        }
        if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
        // After a reset the earlier run's child still runs, and this run cannot wait for it. It is cancelled first.
        log.info('a child of an earlier run is still running; it is cancelled first', { workflowId });
        await getExternalWorkflowHandle(workflowId)
          .cancel()
          .catch(() => undefined);
        await sleep('2 seconds', { summary: `the ${stage} of an earlier run ends` });
      } finally {
        this.#running = undefined;
        this.#started = false;
      }
    }
  }

  /**
   * The result of a stage, or {@link StageLost} where its workflow no longer exists. After a reset of a terminated
   * experiment, the server never tells the new run that its child was terminated too. `looks` is the number of reasons
   * to look before the child was started: a later one may be older than this call.
   */
  async #unlessLost(stage: StageName, result: Promise<StageResult>, looks: number): Promise<StageResult> {
    let ended = false;
    const looking = new CancellationScope();
    const settled = result.finally(() => {
      ended = true;
      looking.cancel();
    });
    settled.catch(() => undefined);
    const lost = looking.run(async (): Promise<never> => {
      let asked = looks;
      for (let minutes = FIRST_LOOK_MINUTES; ; minutes = Math.min(2 * minutes, LONGEST_PAUSE_MINUTES)) {
        await condition(() => this.#looks > asked, `${minutes} minutes`);
        asked = this.#looks;
        if (await this.#exists(stage)) continue;
        // Its end may be on its way.
        await sleep('10 seconds', { summary: `whether the end of ${stage} arrives` });
        if (!ended) throw new StageLost();
      }
    });
    const whenLookingEnds = async (error: unknown): Promise<StageResult> => {
      if (!isCancellation(error)) throw error;
      if (!ended)
        // Cancelled while it runs. A stage that is gone would never tell that it has ended.
        await CancellationScope.nonCancellable(async () => {
          if (await this.#exists(stage)) return;
          await sleep('10 seconds', { summary: `whether the end of ${stage} arrives` });
          if (!ended) throw new StageLost();
        });
      return settled;
    };
    return Promise.race([settled, lost.catch(whenLookingEnds)]);
  }

  #send(stage: StageName, signal: SignalDefinition<[PauseMessage?]>): Promise<void> {
    this.#number = Math.max(this.#number + 1, Date.now());
    return getExternalWorkflowHandle(`${this.#id}/${stage}`).signal(signal, { number: this.#number });
  }

  /** Whether the workflow of a stage takes signals. */
  async #exists(stage: StageName): Promise<boolean> {
    const signal = this.#state.paused ? pauseSignal : resumeSignal;
    return this.#send(stage, signal).then(
      () => true,
      (error: unknown) => {
        if (isCancellation(error)) throw error;
        return false;
      },
    );
  }

  #retryStage({ stage, config, text }: Retry): string {
    this.#apply({ type: 'retried', stage, config });
    if (this.#state.current === stage) this.#running?.cancel();
    return text;
  }

  #abandon(request: unknown): string {
    const { reason } = accepted(abandonOf(this.#state, request));
    this.#apply({ type: 'abandoned', reason });
    this.#work.cancel();
    this.#show();
    return `abandoned: ${reason}`;
  }

  async #setPaused(paused: boolean): Promise<void> {
    this.#apply({ type: paused ? 'paused' : 'resumed' });
    this.#show();
    this.#pauseUntold = true;
    if (this.#started) await this.#tellPause();
  }

  /** Tells the stage of pauses, one signal at a time: the server may deliver two of one workflow task in any order. */
  async #tellPause(): Promise<void> {
    if (this.#telling) return;
    this.#telling = true;
    while (this.#pauseUntold && this.#started) {
      this.#pauseUntold = false;
      const { current } = this.#state;
      if (current) await this.#tell(current, this.#state.paused ? pauseSignal : resumeSignal);
    }
    this.#telling = false;
  }

  async #tell(stage: StageName, signal: SignalDefinition<[PauseMessage?]>): Promise<void> {
    await this.#send(stage, signal).catch((error: unknown) => {
      log.warn('the stage did not take the signal', { stage, error });
      this.#looks += 1;
    });
  }

  #apply(event: ExperimentEvent): void {
    this.#state = after(this.#state, event);
  }

  /** Puts the main figures into the memo, which is shown even where no worker runs. */
  #remember(): void {
    const now = figures(this.#state);
    const text = JSON.stringify(now);
    if (text === this.#remembered) return;
    this.#remembered = text;
    upsertMemo({ acecoder: now });
  }

  /** Brings everything that people look at up to date. */
  #show(): void {
    const status = statusOf(this.#state);
    setCurrentDetails(currentDetails(status, this.#id));
    this.#remember();
    if (!this.searchAttributes) return;
    upsertSearchAttributes([
      { key: keyword('AceCoderExperiment'), value: status.experiment },
      { key: keyword('AceCoderState'), value: status.state },
      { key: keyword('AceCoderStage'), value: this.#state.current ?? null },
    ]);
  }
}

/** Why a child failed, as a class, a message and the command to type next. */
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
  const round = type === 'RewardHacked' ? roundOf(cause) : undefined;
  if (round !== undefined) return { type, message, round, advice: resumeAdvice(workflowId) };
  const gate = type === 'RewardModelRefused' ? gatePatchOf(cause) : undefined;
  if (gate) return { type, message, advice: retryAdvice(workflowId, stage, { semantics: { rewardModelGate: gate } }) };
  const execution = helpfulPatch(type, stages[stage]?.execution ?? {});
  return { type, message, advice: retryAdvice(workflowId, stage, execution && { execution }) };
}

/** The round of an alarm. */
function roundOf(cause: unknown): number | undefined {
  const [round] = (cause instanceof ApplicationFailure && cause.details) || [];
  return typeof round === 'number' ? round : undefined;
}

/** Settings of the gate that would let the reward model pass. */
function gatePatchOf(cause: unknown): object | undefined {
  const [patch] = (cause instanceof ApplicationFailure && cause.details) || [];
  return typeof patch === 'object' && patch !== null ? patch : undefined;
}

/** The execution settings with which a stage that failed in this way may succeed. */
function helpfulPatch(type: string, execution: object): Record<string, number> | undefined {
  if (type === 'OutOfMemory') {
    const tokens = 'microBatchTokens' in execution ? Number(execution.microBatchTokens) : undefined;
    return tokens === undefined ? { microBatch: 1 } : { microBatchTokens: Math.ceil(tokens / 2) };
  }
  if (type !== 'BudgetExceeded') return undefined;
  const budgetUsd = 'budgetUsd' in execution ? Number(execution.budgetUsd) : 0;
  return { budgetUsd: 2 * budgetUsd };
}

/** What was asked for. @throws ApplicationFailure that refuses it with the reason. */
function accepted<T>(answer: Answer<T>): T {
  if (answer.refused !== undefined) throw ApplicationFailure.nonRetryable(answer.refused, 'InvalidRequest');
  return answer.accepted;
}
