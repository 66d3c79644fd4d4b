/**
 * What every stage workflow shares: input checked at the top, status, pause, and progress told to the experiment.
 */
import {
  CancellationScope,
  condition,
  getExternalWorkflowHandle,
  isCancellation,
  setCurrentDetails,
  setHandler,
  workflowInfo,
} from '@temporalio/workflow';
import {
  benchmarkFile,
  benchmarkFiles,
  dollarsText,
  STAGE,
  type ArtifactRef,
  type InputRefs,
  type StageAnswers,
  type StageInput,
  type StageName,
  type StageProgress,
  type StageResult,
} from '../contract/index.js';
import { lookupsOf, parseInput, resolveInputs, type Resolved } from './inputs.js';
import { pauseSignal, resumeSignal, stageProgressSignal, stageStatusQuery } from './messages.js';

/** Progress messages of one stage run at the most: each is an event in two histories. */
const PROGRESS_MESSAGES = 20;

export class StageRun {
  #paused = false;
  #progress: StageProgress | undefined;
  #told = -1;
  /** What the stage's replies cost so far, in US dollars; shown with its progress. */
  costUsd: number | undefined;

  constructor(readonly stage: StageName) {
    setHandler(
      stageStatusQuery,
      () => ({ state: this.#paused ? ('paused' as const) : ('running' as const), progress: this.#progress }),
      {
        description: 'State and progress of the stage.',
      },
    );
    setHandler(pauseSignal, () => {
      this.#paused = true;
      this.#show();
    });
    setHandler(resumeSignal, () => {
      this.#paused = false;
      this.#show();
    });
  }

  /** Waits while the stage is paused. */
  async gate(): Promise<void> {
    await condition(() => !this.#paused);
  }

  /**
   * Runs `work` so that a pause interrupts it: a training is asked to stop, writes a checkpoint, and goes on from it when
   * the stage is resumed.
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
      await condition(() => this.#paused || finished);
      if (!finished) scope.cancel();
      try {
        return await running;
      } catch (error) {
        if (!(isCancellation(error) && this.#paused)) throw error;
      }
    }
  }

  /** Records progress, and tells the experiment at most every twentieth of the way. */
  async progress(progress: StageProgress): Promise<void> {
    this.#progress = { ...progress, ...(this.costUsd === undefined ? {} : { costUsd: this.costUsd }) };
    this.#show();
    const part = progress.total === 0 ? 0 : Math.floor((progress.done / progress.total) * PROGRESS_MESSAGES);
    if (part === this.#told) return;
    this.#told = part;
    await this.#tell();
  }

  /** Tells the experiment how far the stage is, and what it cost, at once. */
  async tell(): Promise<void> {
    if (this.#progress && this.costUsd !== undefined) this.#progress = { ...this.#progress, costUsd: this.costUsd };
    this.#show();
    await this.#tell();
  }

  async #tell(): Promise<void> {
    const { parent } = workflowInfo();
    if (!parent) return;
    // The experiment may be gone (terminated, reset): its stage finishes all the same.
    await getExternalWorkflowHandle(parent.workflowId)
      .signal(stageProgressSignal, { stage: this.stage, progress: this.#progress! })
      .catch((error: unknown) => {
        if (isCancellation(error)) throw error;
      });
  }

  /** Shows what the stage made, and whose work it was. */
  finish(result: StageResult): StageResult {
    setCurrentDetails(
      `**${this.stage}**: done${result.reused ? `, reused from ${result.by ?? 'the store'}` : ''}\n\n\`${result.ref.key}\``,
    );
    return result;
  }

  #show(): void {
    const { done, total, unit, message, costUsd }: StageProgress = this.#progress ?? {
      done: 0,
      total: 0,
      unit: 'shards',
    };
    const cost = costUsd === undefined ? '' : `, ${dollarsText(costUsd)} US dollars`;
    setCurrentDetails(
      `**${this.stage}**${this.#paused ? ' (paused)' : ''}: ${done} of ${total || '?'} ${unit}${message ? `, ${message}` : ''}${cost}`,
    );
  }
}

/**
 * The input of a stage, with references in the place of paths and model sources, those of benchmarks in its settings
 * included. What an earlier run of the same stage carries over was looked up by that run.
 *
 * @throws ApplicationFailure `InvalidExperiment` with all mistakes.
 */
export async function stageInput<S extends StageName>(
  stage: S,
  input: unknown,
  carried = false,
): Promise<{ inputs: Resolved<StageInput<S>['inputs']>; config: StageInput<S>['config']; settings: StageAnswers }> {
  const { inputs, config: given } = parseInput(stage, input) as StageInput<S>;
  const settings = STAGE[stage].withSettings(given);
  if (carried) return { inputs: inputs as Resolved<StageInput<S>['inputs']>, config: given, settings };
  const { deviceClass } = settings.execution();
  const resolved = await resolveInputs(stage, inputs, {
    at: 'inputs.',
    ...lookupsOf({ [stage]: given }, () => 'config.'),
    deviceClass,
  });
  const config = await withBenchmarkFiles(stage, given, settings, deviceClass);
  return {
    inputs: resolved as Resolved<StageInput<S>['inputs']>,
    config,
    settings: STAGE[stage].withSettings(config),
  };
}

/** Settings in which every benchmark that comes from a file names the artifact of its rows. */
async function withBenchmarkFiles<C>(
  stage: StageName,
  config: C,
  settings: StageAnswers,
  deviceClass: string | undefined,
): Promise<C> {
  let resolved = config;
  for (const [setting, benchmarks] of Object.entries(settings.names().benchmarks ?? {})) {
    const files = benchmarkFiles(benchmarks);
    if (Object.keys(files).length === 0) continue;
    const refs = await resolveInputs(stage, files, { at: `config.${setting}.`, deviceClass });
    const list = benchmarks.map((benchmark, index) => {
      const data = refs[benchmarkFile(index)];
      return data === undefined ? benchmark : { ...benchmark, data };
    });
    resolved = { ...resolved, [setting]: list };
  }
  return resolved;
}

/** The artifacts that decide a stage's result, the rows of its benchmarks among them, by their names in the key. */
export function decidingInputs(inputs: InputRefs, settings: StageAnswers): Record<string, ArtifactRef> {
  const files = Object.values(settings.names().benchmarks ?? {}).flatMap((benchmarks) =>
    Object.entries(benchmarkFiles(benchmarks)),
  );
  const rows = files.flatMap(([name, file]): [string, ArtifactRef][] => ('digest' in file ? [[name, file]] : []));
  return { ...settings.decides(inputs), ...Object.fromEntries(rows) };
}
