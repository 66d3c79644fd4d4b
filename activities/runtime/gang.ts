/**
 * A worker's part in a training on several hosts. The member's model runtime is a process of its own, which lives for
 * one attempt: how an attempt ends, a lost member among it, never matters to the next one. Only the leader makes the
 * artifact.
 */
import { networkInterfaces, type NetworkInterfaceInfo } from 'node:os';
import {
  follows,
  GangMember,
  MESSAGES,
  StageFailure,
  type ArtifactRef,
  type GangLeader,
  type Produced,
  type Producer,
} from '../../workflows/contract/index.js';
import { produce, type Product } from '../artifacts/produce.js';
import { stageKey, type Recipe } from '../artifacts/keys.js';
import { newestForAll, type Trainer } from './checkpoints.js';
import { askOwnWorkflow, cancellationSignal, moved, reportProgress, signalWorkflow } from './context.js';
import type { Services } from './services.js';

/** Time in which a member loads its libraries, and in which a slow one gets the model. */
const START_SECONDS = 600;
/** How often a member that waits says that it is not stuck. */
const MOVED_MS = 10_000;

/**
 * As `produce`, of a training that may be one of a gang. `make` trains with what it is given. Members that follow make
 * nothing, and have no result.
 */
export async function produceByGang(
  services: Services,
  given: GangMember | undefined,
  { recipe, inputs, producer }: { recipe: Recipe; inputs: Record<string, ArtifactRef>; producer: Producer },
  make: (trainer: Trainer, key: string) => Promise<Product | undefined>,
): Promise<Produced | undefined> {
  const key = stageKey(recipe);
  if (follows(given)) {
    await trainingIn(services, given, key, (trainer) => make(trainer, key));
    return undefined;
  }
  return produce(services.store, recipe, inputs, producer, async () => {
    const product = await trainingIn(services, given, key, (trainer) => make(trainer, key));
    if (!product) throw new Error(`a training of ${recipe.stage} that follows nobody has made nothing`);
    return product;
  });
}

/** Trains under a key with the worker's model runtime, or with that of a member where it is one of a gang. */
export async function trainingIn<T>(
  services: Services,
  given: GangMember | undefined,
  key: string,
  work: (trainer: Trainer) => Promise<T>,
): Promise<T> {
  const { store, models } = services;
  return given ? inGang(services, GangMember.parse(given), key, work) : work({ store, models });
}

/** Runs `work` with the model runtime of a member, and ends that afterwards. */
async function inGang<T>(
  services: Services,
  gang: GangMember,
  key: string,
  work: (trainer: Trainer) => Promise<T>,
): Promise<T> {
  const { store, models, settings } = services;
  const { token, member, members, waitSeconds } = gang;
  const own = ownAddress(settings.gangAddress);
  const step = follows(gang) ? gang.leader?.step : await newestForAll(store, key);
  if (models.isRunning) await models.call('releaseModels', {});
  let listening: (address: string) => void = () => undefined;
  const address = new Promise<string>((resolve) => {
    listening = resolve;
  });
  const runtime = services.gangRuntime({
    gang: { token, member, members, ...own, ...(gang.leader ? { leader: gang.leader.address } : {}) },
    startSeconds: waitSeconds + START_SECONDS,
    onListening: listening,
  });
  const signal = cancellationSignal();
  const timer = setInterval(() => moved(), MOVED_MS);
  const close = (): void => void runtime.close();
  try {
    // A process that is not ready yet hears of no cancellation.
    signal.addEventListener('abort', close, { once: true });
    const ready = runtime.versions().finally(() => {
      clearInterval(timer);
      signal.removeEventListener('abort', close);
    });
    ready.catch(() => undefined);
    if (!follows(gang)) {
      reportProgress({ done: step ?? 0, total: 0, message: `waiting for ${members - 1} other hosts` });
      const leader = { address: await Promise.race([address, ready.then(() => address)]), ...(step ? { step } : {}) };
      await signalWorkflow(MESSAGES.gangLeader, { token, leader } satisfies GangLeader);
    }
    const requireCurrent = async (): Promise<void> => {
      if ((await askOwnWorkflow(MESSAGES.gang)) !== token)
        throw new StageFailure('RuntimeLost', 'another attempt has taken the place of this one');
    };
    return await work({ store, models: runtime, gang: { follows: follows(gang), step, requireCurrent } });
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw error;
  } finally {
    clearInterval(timer);
    signal.removeEventListener('abort', close);
    await runtime.close();
  }
}

/**
 * The address at which other hosts reach this one, with its network interface.
 *
 * @throws StageFailure `InvalidExperiment` where no interface has the address that was asked for.
 * @example
 * ownAddress('10.0.0.7'); // { host: '10.0.0.7', interface: 'eth0' }
 */
export function ownAddress(
  asked: string | undefined,
  all: NodeJS.Dict<NetworkInterfaceInfo[]> = networkInterfaces(),
): { host: string; interface: string } {
  const found = Object.entries(all).flatMap(([name, addresses = []]) =>
    addresses
      .filter(({ address, family, internal }) =>
        asked === undefined ? family === 'IPv4' && !internal : address === asked,
      )
      .map(({ address }) => ({ host: address, interface: name })),
  );
  const own = found[0] ?? (asked === undefined ? { host: '127.0.0.1', interface: 'lo' } : undefined);
  if (!own)
    throw new StageFailure(
      'InvalidExperiment',
      `ACECODER_GANG_ADDRESS is ${asked}, and no network interface of this host has that address`,
    );
  return own;
}
