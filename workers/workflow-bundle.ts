/**
 * The bundle of this package's workflows. All worker processes of a home share one, because building it takes seconds
 * of CPU time. Its name is a hash of its sources, so nobody has to delete it by hand.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { basename, dirname, extname, join } from 'node:path';
import { bundleWorkflowCode, Runtime, type WorkflowBundle } from '@temporalio/worker';
import { sha256 } from '../activities/artifacts/keys.js';
import { fileDigest, filesOf } from '../activities/artifacts/files.js';
import { AceCoderPlugin, workflowsPath } from './plugins/acecoder-plugin.js';
import type { OwnedServices } from './plugins/services.js';

/** Packages whose code is in the bundle, or builds it. */
const PACKAGES = ['@temporalio/common', '@temporalio/worker', '@temporalio/workflow', 'zod'];

/**
 * The bundle from the folder `parent`, or a new one, which replaces older ones there. `interceptors` names a module of workflow
 * interceptors; bundles with it have a folder of their own.
 */
export async function workflowBundle(
  parent: string,
  services: OwnedServices,
  interceptors?: string,
): Promise<WorkflowBundle> {
  const folder = interceptors ? join(parent, basename(interceptors, extname(interceptors))) : parent;
  const name = `${await digestOfSources()}.js`;
  const built = await readFile(join(folder, name), 'utf8').catch(() => undefined);
  if (built !== undefined) return { code: built };
  const { code } = await bundleWorkflowCode({
    workflowsPath: workflowsPath.all,
    plugins: [new AceCoderPlugin({ services })],
    workflowInterceptorModules: interceptors ? [interceptors] : [],
    logger: Runtime.instance().logger,
  });
  await mkdir(folder, { recursive: true });
  const unfinished = join(folder, `${process.pid}.unfinished`);
  await writeFile(unfinished, code);
  await rename(unfinished, join(folder, name));
  for (const other of await readdir(folder))
    if (other !== name && other.endsWith('.js')) await rm(join(folder, other), { force: true });
  return { code };
}

async function digestOfSources(): Promise<string> {
  const folder = dirname(workflowsPath.all);
  const sources = await filesOf(folder);
  const { resolve } = createRequire(import.meta.url);
  const paths = [
    ...sources.map((name) => join(folder, name)),
    ...PACKAGES.map((name) => resolve(`${name}/package.json`)),
  ];
  return sha256(JSON.stringify([sources, await Promise.all(paths.map(fileDigest))]));
}
