/** What the parts of a bench with a stack of its own share. */
import type { Client } from '@temporalio/client';
import type { ArtifactStore } from '../../activities/artifacts/store.js';

export interface Surroundings {
  client: Client;
  store: ArtifactStore;
  environment: Record<string, string>;
  /** Process ids of Temporal and MinIO. */
  servers: readonly number[];
  /** Folder of the bench's own files. */
  home: string;
}
