/**
 * What every stage workflow shares: input checked at the top, status, pause, and progress told to the experiment.
 */
import {
  ApplicationFailure, CancellationScope, condition, getExternalWorkflowHandle, isCancellation, setCurrentDetails, setHandler, workflowInfo,
} from '@temporalio/workflow';
import {
  describeMistakes, mistakesOf, StageInputs, type ArtifactInput, type ArtifactKind, type ArtifactRef, type StageInput, type StageName, type StageProgress, type StageResult,
} from '../contract/index.js';
import { call } from './activities.js';
import { pauseSignal, resumeSignal, stageProgressSignal, stageStatusQuery } from './messages.js';

/** Progress messages of one stage run at the most: each is an event in two histories. */
const PROGRESS_MESSAGES = 20;

export class StageRun {
  #paused = false;
  #progress: StageProgress | undefined;
  #told = -1;

  constructor(readonly stage: StageName) {
    setHandler(stageStatusQuery, () => ({ state: this.#paused ? ('paused' as const) : ('running' as const), progress: this.#progress }), {
      description: 'State and progress of the stage.',
    });
    setHandler(pauseSignal, () => { this.#paused = true; this.#show(); });
    setHandler(resumeSignal, () => { this.#paused = false; this.#show(); });
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
      const running = scope.run(work).finally(() => { finished = true; });
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
    this.#progress = progress;
    this.#show();
    const { parent } = workflowInfo();
    const part = progress.total === 0 ? 0 : Math.floor((progress.done / progress.total) * PROGRESS_MESSAGES);
    if (!parent || part === this.#told) return;
    this.#told = part;
    // The experiment may be gone (terminated, reset): its stage finishes all the same.
    await getExternalWorkflowHandle(parent.workflowId).signal(stageProgressSignal, { stage: this.stage, progress }).catch((error: unknown) => {
      if (isCancellation(error)) throw error;
    });
  }

  /** Shows what the stage made, and whose work it was. */
  finish(result: StageResult): StageResult {
    setCurrentDetails(`**${this.stage}**: done${result.reused ? `, reused from ${result.by ?? 'the store'}` : ''}\n\n\`${result.ref.key}\``);
    return result;
  }

  #show(): void {
    const { done, total, unit, message } = this.#progress ?? { done: 0, total: 0, unit: 'shards', message: undefined };
    setCurrentDetails(`**${this.stage}**${this.#paused ? ' (paused)' : ''}: ${done} of ${total || '?'} ${unit}${message ? `, ${message}` : ''}`);
  }
}

/** The validated input of a stage. @throws ApplicationFailure `InvalidExperiment` with all mistakes. */
export function parseStageInput<S extends StageName>(stage: S, input: unknown): StageInput<S> {
  const parsed = StageInputs[stage].safeParse(input);
  if (parsed.success) return parsed.data as StageInput<S>;
  const mistakes = mistakesOf(parsed.error, input);
  throw ApplicationFailure.create({
    type: 'InvalidExperiment', nonRetryable: true, message: `the input of ${stage} has ${mistakes.length} mistake(s)\n${describeMistakes(mistakes)}`, details: [mistakes],
  });
}

/** The reference behind an input: imported first where it is a path. */
export async function importInput(input: ArtifactInput, kind: ArtifactKind): Promise<ArtifactRef> {
  if ('digest' in input && input.kind === kind) return input;
  const { ref } = await call('artifacts.import', { role: 'pipeline', summary: `import ${kind}` }, { input, kind });
  return ref;
}
