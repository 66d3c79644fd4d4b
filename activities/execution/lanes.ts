/**
 * Programs of many callers, judged by several sandboxes. Each sandbox is a lane that takes what waits, in batches: a
 * call costs the same for one program and for many. A slow program holds up its own batch and no other lane.
 */
import type { Result, SandboxOperation } from '../runtime/operations.js';
import type { PythonProcess } from '../runtime/python-service.js';
import { StageFailure, type Harness, type SandboxLimits } from '../../workflows/contract/index.js';
import { judgePrograms, type Job, type Judgement } from './execution.js';

/** A program to judge. Its reference, where it has one, is to pass the same tests on the same host. */
interface ToJudge {
  job: Job;
  reference?: Job | undefined;
}

/** A script to run. */
export interface Script {
  program: string;
  stdin: string;
  limits?: Partial<SandboxLimits> | undefined;
}

/** What judging one program came to. `brokenReference` is the first test that its own reference fails. */
export interface JudgedProgram {
  judgement: Judgement;
  harness: Harness;
  brokenReference?: number;
}

/** How a script ended, and what it wrote. */
export type ScriptRun = Result<'run'>['runs'][number];

/** Work of the two kinds; the members of one batch are of one kind. */
type Work =
  | { kind: 'judge'; of: ToJudge; done: (result: JudgedProgram) => void }
  | { kind: 'run'; of: Script; done: (result: ScriptRun) => void };

type Waiting = Work & {
  failed: (error: Error) => void;
  attempts: number;
  /** Whether it is to be sent without others, because a batch that it was in is no request. */
  alone: boolean;
  isAbandoned: boolean;
  /** Asked once nobody waits for it any more. */
  onAbandoned: () => void;
};

/** The sandbox could not judge a program; asking again may help. */
export class Unjudged extends Error {
  override name = 'Unjudged';
}

/** The sandbox refuses a program, its tests or its limits; asking again does not help. */
export class Refused extends Error {
  override name = 'Refused';
}

/** Programs of one batch: few enough that no lane is left with much work when the others have none. */
const MOST_IN_BATCH = 16;
/** Batches sent to a sandbox at once: it reads the next one while it works on the first. */
const DEPTH = 2;
const ATTEMPTS = 2;
/** Wall seconds without progress after which a sandbox is taken for hung, and what is more per CPU second allowed. */
const STALL_SECONDS = 120;
const STALL_PER_CPU_SECOND = 60;

/**
 * Lanes over sandboxes that each run one program at a time.
 *
 * @example
 * const lanes = new Lanes(sandboxes, SandboxLimits.parse({}));
 * const { judgement } = await lanes.judge({ job }, AbortSignal.timeout(60_000));
 */
export class Lanes {
  readonly #waiting: Waiting[] = [];
  readonly #batches = new Map<PythonProcess<SandboxOperation>, number>();
  #running = 0;

  constructor(
    readonly sandboxes: readonly PythonProcess<SandboxOperation>[],
    readonly limits: SandboxLimits,
  ) {}

  /** Programs that wait or run. */
  get size(): number {
    return this.#waiting.length + this.#running;
  }

  /**
   * Judges a program, together with others.
   *
   * @throws Unjudged when no sandbox could judge it, and Refused when none ever will.
   * @throws The signal's reason when the caller goes away; its place is free at once.
   */
  judge(of: ToJudge, signal: AbortSignal): Promise<JudgedProgram> {
    return new Promise((done, failed) => this.#add({ kind: 'judge', of, done }, failed, signal));
  }

  /** Runs a script, together with others. Throws as {@link Lanes.judge} does. */
  run(of: Script, signal: AbortSignal): Promise<ScriptRun> {
    return new Promise((done, failed) => this.#add({ kind: 'run', of, done }, failed, signal));
  }

  #add(work: Work, failed: (error: Error) => void, signal: AbortSignal): void {
    const item: Waiting = {
      ...work,
      failed,
      attempts: 0,
      alone: false,
      isAbandoned: false,
      onAbandoned: () => undefined,
    };
    const abandon = (): void => {
      item.isAbandoned = true;
      const place = this.#waiting.indexOf(item);
      if (place >= 0) this.#waiting.splice(place, 1);
      item.onAbandoned();
      failed(signal.reason as Error);
    };
    if (signal.aborted) return abandon();
    signal.addEventListener('abort', abandon, { once: true });
    this.#waiting.push(item);
    // What arrives in the same turn of the event loop goes into the same batches.
    setImmediate(() => this.#fill());
  }

  /** Gives each lane with room a batch, the lanes with the fewest batches first. */
  #fill(): void {
    while (this.#waiting.length > 0) {
      const [lane] = [...this.sandboxes].sort((one, other) => this.#batchesOf(one) - this.#batchesOf(other));
      if (!lane || this.#batchesOf(lane) >= DEPTH) return;
      this.#send(lane, this.#take());
    }
  }

  #batchesOf(lane: PythonProcess<SandboxOperation>): number {
    return this.#batches.get(lane) ?? 0;
  }

  /** The oldest work and what of its kind waits right behind it, at most a fair share of what waits. */
  #take(): Waiting[] {
    const [first] = this.#waiting;
    const share = Math.min(MOST_IN_BATCH, Math.ceil(this.#waiting.length / (DEPTH * this.sandboxes.length)));
    const other = this.#waiting.findIndex(
      ({ kind, alone }, index) => index > 0 && (first?.alone || alone || kind !== first?.kind),
    );
    return this.#waiting.splice(0, Math.min(share, other < 0 ? share : other));
  }

  #send(lane: PythonProcess<SandboxOperation>, batch: Waiting[]): void {
    this.#batches.set(lane, this.#batchesOf(lane) + 1);
    this.#running += batch.length;
    const controller = new AbortController();
    for (const item of batch) {
      item.attempts += 1;
      // A batch that everybody has left is ended, so that it holds up nothing behind it.
      item.onAbandoned = () => {
        if (batch.every(({ isAbandoned }) => isAbandoned)) controller.abort(new Error('every caller has gone'));
      };
    }
    const cpuSeconds = Math.max(...batch.map((item) => cpuSecondsOf(item, this.limits)));
    const stall = (): NodeJS.Timeout =>
      setTimeout(
        () => controller.abort(new StageFailure('SandboxUnavailable', 'the sandbox stands still')),
        (STALL_SECONDS + STALL_PER_CPU_SECOND * cpuSeconds) * 1000,
      );
    let timer = stall();
    const onProgress = (): void => {
      clearTimeout(timer);
      timer = stall();
    };
    this.#ask(lane, batch, controller.signal, onProgress)
      .catch((error: unknown) => this.#again(batch, error as Error))
      .finally(() => {
        clearTimeout(timer);
        this.#batches.set(lane, this.#batchesOf(lane) - 1);
        this.#running -= batch.length;
        this.#fill();
      });
  }

  async #ask(
    lane: PythonProcess<SandboxOperation>,
    batch: Waiting[],
    signal: AbortSignal,
    onProgress: () => void,
  ): Promise<void> {
    const { limits } = this;
    const toJudge = batch.flatMap((item) => (item.kind === 'judge' ? [item] : []));
    if (toJudge.length > 0) {
      // The names of callers mean nothing here, and may be equal.
      const jobs = toJudge.map(({ of: { job } }, at) => ({ ...job, id: String(at) }));
      const references = toJudge.flatMap(({ of: { reference } }, at) =>
        reference ? [{ ...reference, id: String(at) }] : [],
      );
      const judged = await judgePrograms(lane, jobs, { limits, references, signal, onProgress });
      for (const [at, { of, done }] of toJudge.entries()) {
        const judgement = { ...judged.judgements[at]!, id: of.job.id };
        const broken = judged.brokenReferences.find(({ id }) => id === String(at));
        done({ judgement, harness: judged.harness, ...(broken ? { brokenReference: broken.test } : {}) });
      }
    }
    const toRun = batch.flatMap((item) => (item.kind === 'run' ? [item] : []));
    if (toRun.length > 0) {
      const jobs = toRun.map(({ of }, at) => ({ ...of, id: String(at) }));
      const { runs } = await lane.call('run', { jobs, limits }, { signal, onProgress });
      if (runs.length !== jobs.length)
        throw new StageFailure('SandboxUnavailable', `the sandbox answered ${jobs.length} runs with ${runs.length}`);
      for (const [at, { done }] of toRun.entries()) done(runs[at]!);
    }
  }

  /** What of a failed batch is sent again: once more together, or one by one where one member is no request. */
  #again(batch: readonly Waiting[], error: Error): void {
    const isRefused = error instanceof StageFailure && error.type === 'InvalidExperiment';
    const again = batch.filter((item) => {
      if (item.isAbandoned) return false;
      if (isRefused && batch.length === 1) item.failed(new Refused(error.message));
      else if (!isRefused && item.attempts >= ATTEMPTS) item.failed(new Unjudged(error.message));
      else {
        item.alone ||= isRefused;
        if (isRefused) item.attempts = 0;
        return true;
      }
      return false;
    });
    this.#waiting.unshift(...again);
  }
}

function cpuSecondsOf(item: Waiting, limits: SandboxLimits): number {
  const own: Partial<SandboxLimits> = (item.kind === 'judge' ? item.of.job.limits : item.of.limits) ?? {};
  return Math.max(
    own.cpuSecondsPerProgram ?? limits.cpuSecondsPerProgram,
    own.cpuSecondsPerTest ?? limits.cpuSecondsPerTest,
  );
}
