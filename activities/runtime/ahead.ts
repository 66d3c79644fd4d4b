/**
 * Sampling ahead: the worker that has trained a policy samples the next round from its own files, while it hashes them
 * and sends them to the store.
 */
import { rm } from 'node:fs/promises';
import { basename } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  MESSAGES,
  type ArtifactRef,
  type ManifestFile,
  type PolicyTrained,
  type ReinforcementConfig,
} from '../../workflows/contract/index.js';
import { folderBytes } from '../artifacts/files.js';
import { artifactDigest, objectKeys } from '../artifacts/keys.js';
import { refOf } from '../artifacts/manifests.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { cancellationSignal, log, reportProgress, signalWorkflow } from './context.js';

/** Bytes from which on a policy is told of before the store has it. Smaller ones are sent in less than a second. */
const AHEAD_BYTES = 100_000_000;
/** How often who sampled ahead looks whether the store has the policy. */
const STORED_LOOK_MS = 1000;

/** A policy that an update is sending to the store. */
interface Sending<Folders> {
  /** Of its manifest. */
  key: string;
  /** What samples from it, with its own `files`. */
  folders: Folders;
  files: string;
  /** Who needs the files: the update that sends it, and who samples from it. */
  users: number;
  /** Once it is hashed. */
  digest?: string;
}

/** What an update has trained: the key of its step, and the folders of the policy and of the optimizer's state. */
export interface Trained {
  key: string;
  output: string;
  state: string;
}

/** The policies that this process has trained and is sending to the store, by a name that the stage is told. */
export class PoliciesOnTheirWay<Folders> {
  readonly #sending = new Map<string, Sending<Folders>>();
  readonly #store: ArtifactStore;

  constructor(store: ArtifactStore) {
    this.#store = store;
  }

  /**
   * Stores the files of a policy by `send`. Where that takes a while, the stage is told of the policy before. Without an
   * answer, the next round waits for the store. `foldersOf` says what samples from a copy of the files.
   *
   * @example
   * const files = await onTheirWay.offering(config, 3, { key, output, state }, (model) => ({ model }), () =>
   *   store.putFolder(output),
   * );
   */
  async offering(
    { rounds, execution }: ReinforcementConfig,
    round: number,
    { key, output, state }: Trained,
    foldersOf: (files: string) => Folders,
    send: () => Promise<ManifestFile[]>,
  ): Promise<ManifestFile[]> {
    const { aheadBytes = AHEAD_BYTES } = execution;
    const bytes = (await folderBytes(output)) + (await folderBytes(state));
    if (aheadBytes === null || bytes < aheadBytes || round === rounds) return send();
    const files = await this.#store.spoolPath('.trained');
    await this.#store.linkFolder(output, files);
    const about: Sending<Folders> = {
      key: objectKeys.manifest('policy', key),
      folders: foldersOf(files),
      files,
      users: 1,
    };
    const name = basename(files);
    this.#sending.set(name, about);
    try {
      await signalWorkflow(MESSAGES.policyTrained, { round, name } satisfies PolicyTrained).catch((error: unknown) => {
        log().warn(`the stage was not told that round ${round} has its policy: ${String(error)}`);
      });
      const sent = await send();
      about.digest = artifactDigest('policy', sent);
      return sent;
    } finally {
      await this.#release(about);
    }
  }

  /**
   * Has `sample` use the folders of a policy that is on its way, and `keep` what that gave, once the store has the policy:
   * so nothing in the store comes from what is not there.
   *
   * @returns whether it was kept. Another process has no such policy, and samples nothing.
   */
  async sampling<T>(
    name: string,
    round: number,
    sample: (folders: Folders) => Promise<T>,
    keep: (policy: ArtifactRef, sampled: T) => Promise<unknown>,
  ): Promise<boolean> {
    const about = this.#sending.get(name);
    if (!about) return false;
    about.users += 1;
    try {
      const sampled = await sample(about.folders);
      const policy = await this.#stored(about, round);
      if (!policy) return false;
      await keep(policy, sampled);
      return true;
    } finally {
      await this.#release(about);
    }
  }

  /** Gives back the files of a policy that is being sent. Who is the last one removes them. */
  async #release(about: Sending<Folders>): Promise<void> {
    about.users -= 1;
    if (about.users > 0) return;
    this.#sending.delete(basename(about.files));
    await rm(about.files, { recursive: true, force: true });
  }

  /**
   * Waits until the store has the policy of an update, and gives it; undefined where that is not the one that was sampled
   * from. An update that fails is tried again, and a stage that ends cancels this.
   */
  async #stored(about: Sending<Folders>, round: number): Promise<ArtifactRef | undefined> {
    for (;;) {
      const manifest = await this.#store.findManifest(about.key);
      if (manifest) return manifest.digest === about.digest ? refOf(manifest) : undefined;
      if (about.users === 1 && about.digest === undefined) return undefined;
      reportProgress({ done: 0, total: 0, message: `round ${round}: sampled, the policy is on its way to the store` });
      await sleep(STORED_LOOK_MS, undefined, { signal: cancellationSignal() });
    }
  }
}
