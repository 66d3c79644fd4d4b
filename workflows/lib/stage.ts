/** What every stage workflow shares: its input, status, pause, and the progress that it tells the experiment. */
import {
  ApplicationFailure,
  CancellationScope,
  condition,
  getExternalWorkflowHandle,
  isCancellation,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import {
  benchmarkFiles,
  dollarsText,
  STAGE,
  StageProgressMessage,
  type ArtifactInput,
  type ArtifactRef,
  type InputRefs,
  type StageAnswers,
  type StageInput,
  type StageName,
  type StageProgress,
  type StageResult,
} from '../contract/index.js';
import { z } from 'zod';
import { lookupsOf, parseInput, resolveInputs, type Resolved } from './inputs.js';
import { onSignal, pauseNumber, pauseSignal, resumeSignal, stageProgressSignal, stageStatusQuery } from './messages.js';
import { findBy } from './search-attributes.js';
import { onWaiting } from './waiting.js';

/** Most progress messages of one stage run, because each is an event in two histories. */
const PROGRESS_MESSAGES = 20;

/**
 * Size at which a history goes on as a new run: half of the 2 MiB that none is to pass. What is in flight adds to it.
 */
const LONG_HISTORY_BYTES = 1024 * 1024;
/** The server ends a run at 51,200 events, and suggests to go on at 4,096. */
const LONG_HISTORY_EVENTS = 10_000;

/**
 * What the run before carried over, where there was one. The second argument of a workflow is no user's to give: of a
 * run that somebody started, it is ignored.
 */
export function carriedOver<C>(carry: C | undefined): C | undefined {
  return workflowInfo().continuedFromExecutionRunId === undefined ? undefined : carry;
}

/** Whether this run should go on as a new one, as soon as nothing is in flight. */
export function historyIsLong(): boolean {
  const { historySize, historyLength, continueAsNewSuggested } = workflowInfo();
  return historySize >= LONG_HISTORY_BYTES || historyLength >= LONG_HISTORY_EVENTS || continueAsNewSuggested;
}

export class StageRun {
  #paused = false;
  /** The number of the newest pause or resumption of the experiment. */
  #newestPause = 0;
  #progress: StageProgress | undefined;
  #waitsFor: string | undefined;
  #told = -1;
  /** What the stage's replies cost so far, in US dollars. It is shown with the progress. */
  costUsd: number | undefined;

  constructor(readonly stage: StageName) {
    setHandler(
      stageStatusQuery,
      () => ({ state: this.#paused ? ('paused' as const) : ('running' as const), progress: this.#state }),
      {
        description: 'State and progress of the stage.',
      },
    );
    // A training tells its steps itself: they are progress within one activity.
    onSignal(stageProgressSignal, StageProgressMessage, (message) => {
      if (message.stage === this.stage) this.progress(message.progress).catch(() => undefined);
    });
    onSignal(pauseSignal, z.unknown(), (message) => this.#setPaused(true, message));
    onSignal(resumeSignal, z.unknown(), (message) => this.#setPaused(false, message));
    onWaiting((waitsFor) => {
      this.#waitsFor = waitsFor;
      // Told at once: the experiment's details are where people look.
      this.tell().catch(() => undefined);
    });
  }

  /** How far the stage is, in its unit of now. */
  get done(): number {
    return this.#progress?.done ?? 0;
  }

  get paused(): boolean {
    return this.#paused;
  }

  /**
   * Takes a pause or its end. Those that came before the first workflow task are handed over by kind, all pauses first.
   * The experiment numbers them, so that an older one changes nothing. A person's have no number and count at once.
   */
  #setPaused(paused: boolean, message: unknown): void {
    const number = pauseNumber(message, Date.now());
    if (number !== undefined && number < this.#newestPause) return;
    this.#newestPause = number ?? this.#newestPause;
    this.#paused = paused;
    this.#show();
  }

  /** Waits while the stage is paused. */
  async gate(): Promise<void> {
    await condition(() => !this.#paused);
  }

  /**
   * Runs `work` so that a pause interrupts it. A pause asks a training to stop, and the training writes a checkpoint.
   * It goes on from there when the stage is resumed.
   */
  async interruptible<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      await this.gate();
      const scope = new CancellationScope();
      let finished = false;
      const running = scope.run(work).finally(() => {
        finished = true;
      });
      running.catch(() => undefined);
      // A cancellation reaches the work as well, and the work is waited for: what it still asks for comes before the
      // end of the run, or the server refuses both.
      await condition(() => this.#paused || finished).catch(() => undefined);
      const interrupted = !finished;
      if (interrupted) scope.cancel();
      try {
        return await running;
      } catch (error) {
        // The pause may be over before the work has ended: both messages may come in one workflow task.
        if (!(isCancellation(error) && interrupted) || CancellationScope.current().consideredCancelled) throw error;
      }
    }
  }

  /** Records progress, and tells the experiment at most every twentieth of the way. */
  async progress(progress: StageProgress): Promise<void> {
    this.#progress = progress;
    this.#show();
    const part = progress.total === 0 ? 0 : Math.floor((progress.done / progress.total) * PROGRESS_MESSAGES);
    if (part === this.#told) return;
    this.#told = part;
    await this.#tell();
  }

  /** Tells the experiment how far the stage is, and what it cost, at once. */
  async tell(): Promise<void> {
    this.#show();
    await this.#tell();
  }

  /** How far the stage is, with what it cost so far and what it waits for. */
  get #state(): StageProgress {
    return {
      ...(this.#progress ?? { done: 0, total: 0, unit: 'shards' }),
      ...(this.costUsd === undefined ? {} : { costUsd: this.costUsd }),
      ...(this.#waitsFor === undefined ? {} : { waitsFor: this.#waitsFor.slice(0, 500) }),
    };
  }

  async #tell(): Promise<void> {
    const { parent } = workflowInfo();
    if (!parent) return;
    // The experiment may be terminated or reset. Its stage finishes all the same.
    await getExternalWorkflowHandle(parent.workflowId)
      .signal(stageProgressSignal, { stage: this.stage, progress: this.#state })
      .catch((error: unknown) => {
        if (isCancellation(error)) throw error;
      });
  }

  /**
   * Shows what the stage made, and whose work it was.
   *
   * @throws ApplicationFailure `NoRows` with the reasons where it made nothing. Its details hold the result, for a
   *   workflow that goes on without.
   */
  finish(result: StageResult): StageResult {
    const nothing = STAGE[this.stage].noRows(result.metrics);
    if (nothing !== undefined)
      throw ApplicationFailure.create({ type: 'NoRows', nonRetryable: true, message: nothing, details: [result] });
    const from = result.reused ? `, reused from ${result.by ?? 'the store'}` : '';
    const leftOut = STAGE[this.stage].leftOut(result.metrics);
    const reasons = leftOut === undefined ? '' : `Left out: ${leftOut}.\n\n`;
    setCurrentDetails(`**${this.stage}**: done${from}\n\n${reasons}\`${result.ref.key}\``);
    return result;
  }

  #show(): void {
    const { done, total, unit, message, costUsd, waitsFor } = this.#state;
    const name = `**${this.stage}**${this.#paused ? ' (paused)' : ''}`;
    const cost = costUsd === undefined ? '' : `, ${dollarsText(costUsd)} US dollars`;
    const waiting = waitsFor === undefined ? '' : `\n\nIt ${waitsFor}.`;
    setCurrentDetails(`${name}: ${done} of ${total || '?'} ${unit}${message ? `, ${message}` : ''}${cost}${waiting}`);
  }
}

/**
 * The input of a stage, with references in the place of paths and model sources. The files of benchmarks in its
 * settings are among them. An earlier run of the same stage has looked up what it carries over.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes.
 */
export async function stageInput<S extends StageName>(
  stage: S,
  input: unknown,
  carried = false,
): Promise<{ inputs: Resolved<StageInput<S>['inputs']>; config: StageInput<S>['config']; settings: StageAnswers }> {
  const { inputs, config } = parseInput(stage, input) as StageInput<S>;
  // An experiment gives its stages their attributes when it starts them.
  if (!carried && !workflowInfo().parent) await findBy({ AceCoderStage: stage });
  const resolved = carried
    ? { inputs: inputs as Resolved<StageInput<S>['inputs']>, config: {} }
    : await resolveInputs(
        stage,
        { inputs, config: benchmarkData(stage, config) },
        {
          at: '',
          ...lookupsOf({ [stage]: config }, () => 'config.'),
          deviceClass: STAGE[stage].withSettings(config).execution().deviceClass,
        },
      );
  const withData = withBenchmarkData(config, resolved.config);
  return {
    inputs: resolved.inputs as Resolved<StageInput<S>['inputs']>,
    config: withData,
    settings: STAGE[stage].withSettings(withData),
  };
}

/** Rows of benchmarks by setting and place in its list. */
type BenchmarkData<R> = Record<string, Record<string, { data: R }>>;

/** Where the rows of a stage's benchmarks come from, as its settings have them. */
function benchmarkData(stage: StageName, config: unknown): BenchmarkData<ArtifactInput> {
  const { benchmarks = {} } = STAGE[stage].withSettings(config).names();
  return Object.fromEntries(
    Object.entries(benchmarks).map(([setting, list]) => [
      setting,
      Object.fromEntries(list.flatMap((each, index) => ('data' in each ? [[index, { data: each.data }]] : []))),
    ]),
  );
}

/** Settings with references in the place of the rows of benchmarks, so that a continuation imports no path again. */
function withBenchmarkData<C extends object>(config: C, data: BenchmarkData<ArtifactRef>): C {
  const settings = Object.entries(config).map(([name, value]: [string, unknown]) => {
    const refs = data[name];
    return [
      name,
      refs && Array.isArray(value) ? value.map((each: object, index) => ({ ...each, ...refs[index] })) : value,
    ];
  });
  return Object.fromEntries(settings) as C;
}

/** The artifacts that decide a stage's result, the rows of its benchmarks among them, by their names in the key. */
export function decidingInputs(inputs: InputRefs, settings: StageAnswers): Record<string, ArtifactRef> {
  const files = Object.values(settings.names().benchmarks ?? {}).flatMap((benchmarks) =>
    Object.entries(benchmarkFiles(benchmarks)),
  );
  const rows = files.flatMap(([name, file]): [string, ArtifactRef][] => ('digest' in file ? [[name, file]] : []));
  return { ...settings.decides(inputs), ...Object.fromEntries(rows) };
}
