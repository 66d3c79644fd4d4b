/** What a worker that runs needs beside its server, its store and its disk, and what it tells of the namespace. */
import { statfs } from 'node:fs/promises';
import { set } from '../../activities/metrics.js';
import type { Worker } from '@temporalio/worker';
import type { QueueRole } from '../../workflows/contract/index.js';
import type { OwnedServices } from '../plugins/services.js';
import type { Conditions, TemporalServer } from '../readiness.js';

/** States of open experiments that are counted. */
const OPEN_STATES = ['running', 'paused', 'parked'];

/**
 * The conditions of a running worker process: its pollers, and the processes of its roles. They are looked at every 15
 * seconds, and the gauges of the same rhythm with them.
 */
export function workingConditions(
  roles: readonly QueueRole[],
  workers: readonly Worker[],
  services: OwnedServices,
  server: TemporalServer,
  namespace: string,
): Conditions {
  return {
    Workers: async () => {
      await tellDisk(services.settings.home);
      if (roles.includes('pipeline')) await tellExperiments(services, server, namespace);
      return workers.map(pollerObstacle).find((obstacle) => obstacle !== undefined);
    },
    ...(roles.includes('sandbox')
      ? { Sandbox: async () => (await services.sandbox.versions())['trouble'] || undefined }
      : {}),
    // The model runtime starts with the worker and again when it is lost. It takes up to minutes.
    ...(roles.includes('gpu') ? { Device: () => services.models.versions().then(() => undefined) } : {}),
  };
}

/** Why a worker takes no work; undefined where it does. */
function pollerObstacle(worker: Worker): string | undefined {
  const { options } = worker;
  const { runState, activityPollerState, workflowPollerState } = worker.getStatus();
  const states = [runState, activityPollerState, ...(options.workflowBundle ? [workflowPollerState] : [])];
  const bad = states.find((state) => state !== 'RUNNING' && state !== 'POLLING');
  return bad && `the worker of ${options.taskQueue} takes no work: ${bad}`;
}

async function tellDisk(home: string): Promise<void> {
  const { bavail, bsize } = await statfs(home);
  set('diskFree', bavail * bsize, {});
}

/** Counts open experiments by state. Without the search attributes nobody knows it. */
async function tellExperiments(services: OwnedServices, server: TemporalServer, namespace: string): Promise<void> {
  if (!(await services.searchAttributes())) return;
  for (const state of OPEN_STATES) {
    const query = `WorkflowType = 'experiment' AND ExecutionStatus = 'Running' AND AceCoderState = '${state}'`;
    const { count } = await server.connection.workflowService.countWorkflowExecutions({ namespace, query });
    set('experiments', Number(count), { state });
  }
}
