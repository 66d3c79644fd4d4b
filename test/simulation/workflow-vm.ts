/**
 * The workflow VM of the TypeScript SDK, driven by hand: activations go in, commands come out, and no server is there.
 *
 * The VM is no public interface, so its version is pinned.
 */
import { createHash } from 'node:crypto';
import { createRequire } from 'node:module';
import { fileURLToPath } from 'node:url';
import { runInContext } from 'node:vm';
import { TypedSearchAttributes } from '@temporalio/common';
import proto from '@temporalio/proto';
import { bundleWorkflowCode, DefaultLogger } from '@temporalio/worker';
import { parseWorkflowCode } from '@temporalio/worker/lib/worker.js';
import type { Workflow } from '@temporalio/worker/lib/workflow/interface.js';
import { ReusableVMWorkflowCreator } from '@temporalio/worker/lib/workflow/reusable-vm.js';
import { globalHandlers } from '@temporalio/worker/lib/workflow/vm-shared.js';
import type { WorkflowInfo } from '@temporalio/workflow';
import { createUnsafeRandomSource } from '@temporalio/workflow/lib/random-helpers.js';
import { workflowsPath } from '../../workers/plugins/acecoder-plugin.js';

export type Job = proto.coresdk.workflow_activation.IWorkflowActivationJob;
export type Command = proto.coresdk.workflow_commands.IWorkflowCommand;

/** The SDK whose workflow VM this file knows. */
const SDK_VERSION = '1.24.0';
const NAMESPACE = 'default';

/** Text of the bundle that is replaced: a planted bug. `search` must stand there exactly once. */
export interface Replacement {
  search: string;
  replace: string;
}

/** What a workflow task tells a workflow. */
export interface Activation {
  /** Milliseconds since 1970. */
  now: number;
  jobs: readonly Job[];
  historyLength: number;
  historySizeBytes: number;
  continueAsNewSuggested: boolean;
}

/** Who a run is. */
export interface Identity {
  workflowId: string;
  runId: string;
  workflowType: string;
  taskQueue: string;
  firstRunId: string;
  continuedFromRunId?: string;
  /** The run whose random numbers it has: after a reset, another one than itself. */
  seedRunId?: string;
  parent?: { workflowId: string; runId: string };
}

/** A replay gave other commands than the run itself, or a workflow task failed. */
export class ReplayDiffers extends Error {}
export class TaskFailed extends Error {}

/** What the bundler calls the function that loads {@link SHARED_MODULES}, and its name in the simulation. */
const PRELOAD = 'exports.preloadModules = function preloadModules()';
const SHARE = 'exports.shareModules = function shareModules()';
/** Schemas and tables without state. Loading them takes longer than most workflows do. */
const SHARED_MODULES = [fileURLToPath(new URL('../../workflows/contract/index.ts', import.meta.url))];

/** Makes runs that share the modules of the contract, without the watchdog thread that the SDK starts at each call. */
class SimulationCreator extends ReusableVMWorkflowCreator {
  /** Loads modules for all runs. The SDK would freeze what it preloads, and schemas fill themselves when first used. */
  share(): void {
    runInContext('__TEMPORAL__.shareModules()', this.context);
    Reflect.set(this, 'isolateExecutionTimeoutMs', undefined);
  }
}

/** Compiled workflow code, from which runs are made. */
export class WorkflowCode {
  private constructor(private readonly creator: SimulationCreator) {}

  /**
   * @param code the bundle, from {@link bundledWorkflows}
   * @throws Error where the installed SDK is another than the pinned one.
   */
  static async load(code: string, replacements: readonly Replacement[] = []): Promise<WorkflowCode> {
    checkSdk();
    const changed = [{ search: PRELOAD, replace: SHARE }, ...replacements].reduce(replaceOnce, code);
    const creator = await SimulationCreator.create(parseWorkflowCode(changed), 60_000, new Set());
    creator.share();
    // Stack traces of promises are for the `__stack_trace` query. They cost more than the workflows.
    globalHandlers.uninstall();
    globalHandlers.promiseHookInstalled = false;
    return new WorkflowCode(creator);
  }

  start(identity: Identity, now: number): Promise<Workflow> {
    const { workflowId, runId, seedRunId = runId, workflowType, taskQueue, firstRunId, parent } = identity;
    const { continuedFromRunId } = identity;
    const info: WorkflowInfo = {
      workflowId,
      runId,
      workflowType,
      searchAttributes: {},
      typedSearchAttributes: new TypedSearchAttributes(),
      ...(parent ? { parent: { ...parent, namespace: NAMESPACE } } : {}),
      taskQueue,
      namespace: NAMESPACE,
      firstExecutionRunId: firstRunId,
      originalExecutionRunId: runId,
      ...(continuedFromRunId === undefined ? {} : { continuedFromExecutionRunId: continuedFromRunId }),
      startTime: new Date(now),
      runStartTime: new Date(now),
      taskTimeoutMs: 10_000,
      attempt: 1,
      historyLength: 3,
      historySize: 0,
      continueAsNewSuggested: false,
      targetWorkerDeploymentVersionChanged: false,
      unsafe: {
        now: () => now,
        isReplaying: false,
        isReplayingHistoryEvents: false,
        random: createUnsafeRandomSource(() => 0.5),
      },
    };
    return this.creator.createWorkflow({
      info,
      randomnessSeed: [...createHash('sha256').update(seedRunId).digest().subarray(0, 8)],
      now,
      showStackTraceSources: false,
    });
  }

  async close(): Promise<void> {
    await this.creator.destroy();
  }
}

interface Past {
  activation: Activation;
  flags: number[];
  commands: string;
  /** Markers of patches that it wrote: a replay is told of them first. */
  patches: string[];
}

function withPatches(activation: Activation, patches: readonly string[]): Activation {
  const told = patches.map((patchId): Job => ({ notifyHasPatch: { patchId } }));
  return { ...activation, jobs: [...told, ...activation.jobs] };
}

/** One run in the VM, with what it was told so far, so that it can be evicted and replayed at any moment. */
export class WorkflowRun {
  #workflow: Workflow | undefined;
  /** Flags of the SDK that the run has used. A replay must know them, or it takes other ways than the run. */
  readonly #flags = new Set<number>();
  readonly #past: Past[] = [];
  replays = 0;

  constructor(
    private readonly code: WorkflowCode,
    private readonly identity: Identity,
    private readonly startedAt: number,
  ) {}

  /** Activations so far. */
  get length(): number {
    return this.#past.length;
  }

  /**
   * @param recorded flags that a recorded task used; absent: the task is new
   * @throws TaskFailed where the workflow task fails.
   */
  async activate(activation: Activation, recorded?: { flags: readonly number[] }): Promise<Command[]> {
    const workflow = (this.#workflow ??= await this.#replayed());
    for (const flag of recorded?.flags ?? []) this.#flags.add(flag);
    const { commands, flags } = await this.#run(workflow, activation, recorded !== undefined, this.#flags);
    for (const flag of flags) this.#flags.add(flag);
    const patches = commands.flatMap(({ setPatchMarker }) => setPatchMarker?.patchId ?? []);
    this.#past.push({ activation, flags, commands: textOf(commands), patches });
    return commands;
  }

  /** Throws the run out of the cache. Its next activation replays everything first. */
  async evict(): Promise<void> {
    const workflow = this.#workflow;
    this.#workflow = undefined;
    await workflow?.dispose();
  }

  /** A run with the same past up to a number of activations, which its first activation replays. */
  copy(activations: number, runId: string): WorkflowRun {
    const copied = new WorkflowRun(
      this.code,
      { ...this.identity, seedRunId: this.identity.seedRunId ?? this.identity.runId, runId },
      this.startedAt,
    );
    copied.#past.push(...this.#past.slice(0, activations));
    for (const { flags } of copied.#past) for (const flag of flags) copied.#flags.add(flag);
    return copied;
  }

  /** Forgets the newest activations: the server did not take their commands. The run is evicted. */
  async forget(activations: number): Promise<void> {
    await this.evict();
    this.#past.splice(this.#past.length - activations);
  }

  async #replayed(): Promise<Workflow> {
    const workflow = await this.code.start(this.identity, this.startedAt);
    const known = new Set<number>();
    if (this.#past.length > 0) this.replays += 1;
    for (const [index, { activation, flags, commands, patches }] of this.#past.entries()) {
      for (const flag of flags) known.add(flag);
      const again = textOf((await this.#run(workflow, withPatches(activation, patches), true, known)).commands);
      if (again !== commands)
        throw new ReplayDiffers(
          `the replay of ${this.identity.workflowId} gives other commands at activation ${index + 1} of ` +
            `${this.#past.length}:\n  then ${commands.slice(0, 500)}\n  now  ${again.slice(0, 500)}`,
        );
    }
    return workflow;
  }

  async #run(
    workflow: Workflow,
    { now, jobs, historyLength, historySizeBytes, continueAsNewSuggested }: Activation,
    isReplaying: boolean,
    known: ReadonlySet<number>,
  ): Promise<{ commands: Command[]; flags: number[] }> {
    const { runId, workflowId } = this.identity;
    const completion = await workflow.activate(
      proto.coresdk.workflow_activation.WorkflowActivation.fromObject({
        runId,
        timestamp: { seconds: Math.floor(now / 1000), nanos: Math.round(now % 1000) * 1_000_000 },
        isReplaying,
        historyLength,
        historySizeBytes,
        continueAsNewSuggested,
        jobs,
        availableInternalFlags: [...known],
      }),
    );
    // Nobody reads the log of a simulated workflow.
    await workflow.getAndResetSinkCalls();
    const { successful, failed } = completion;
    if (!successful) {
      const told = jobs.map((job) => Object.keys(job).join()).join(', ');
      const { message, stackTrace, cause } = failed?.failure ?? {};
      const why = [message, stackTrace, cause?.message, cause?.cause?.message].filter(Boolean).join('; ');
      throw new TaskFailed(`a workflow task of ${workflowId} fails after ${told}: ${why}`);
    }
    return { commands: successful.commands ?? [], flags: successful.usedInternalFlags ?? [] };
  }
}

/** Whether a command was taken back before it was sent, or takes another one back: neither reaches the server. */
export function isTakenBack(command: Command, all: readonly Command[]): boolean {
  const timer = command.startTimer?.seq ?? command.cancelTimer?.seq;
  const activity = command.scheduleActivity?.seq ?? command.requestCancelActivity?.seq;
  const both = (one: (each: Command) => boolean, other: (each: Command) => boolean): boolean =>
    all.some(one) && all.some(other);
  if (typeof timer === 'number')
    return both(
      ({ startTimer }) => startTimer?.seq === timer,
      ({ cancelTimer }) => cancelTimer?.seq === timer,
    );
  if (typeof activity === 'number')
    return both(
      ({ scheduleActivity }) => scheduleActivity?.seq === activity,
      ({ requestCancelActivity }) => requestCancelActivity?.seq === activity,
    );
  return false;
}

/** The bundle of all workflows, and of modules with interceptors. */
export async function bundledWorkflows(workflowInterceptorModules: string[] = []): Promise<string> {
  checkSdk();
  const { code } = await bundleWorkflowCode({
    workflowsPath: workflowsPath.all,
    workflowInterceptorModules,
    preloadModules: SHARED_MODULES,
    logger: new DefaultLogger('ERROR'),
  });
  return code;
}

/**
 * Refuses another SDK than the one whose VM is known.
 *
 * @param version the installed one unless told
 */
export function checkSdk(
  version = (createRequire(import.meta.url)('@temporalio/worker/package.json') as { version: string }).version,
): void {
  if (version !== SDK_VERSION)
    throw new Error(
      `The simulation drives the workflow VM of @temporalio/worker ${SDK_VERSION}, and ${version} is installed: ` +
        'compare lib/workflow of both, then change SDK_VERSION in test/simulation/workflow-vm.ts.',
    );
}

function replaceOnce(code: string, { search, replace }: Replacement): string {
  const parts = code.split(search);
  if (parts.length !== 2)
    throw new Error(`The bundle has ${parts.length - 1} places with the text of a planted bug: ${search}`);
  return parts.join(replace);
}

function textOf(commands: readonly Command[]): string {
  return JSON.stringify(commands, (_name, value: unknown) =>
    value instanceof Uint8Array ? Buffer.from(value).toString('utf8') : value,
  );
}
