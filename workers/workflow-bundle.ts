/**
 * The bundle of this package's workflows. All worker processes of a home share one, because building it takes seconds
 * of CPU time. Its name is a hash of its sources, so nobody has to delete it by hand.
 */
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join, parse } from 'node:path';
import { bundleWorkflowCode, Runtime, type BundleOptions, type WorkflowBundle } from '@temporalio/worker';
import { sha256 } from '../activities/artifacts/keys.js';
import { fileDigest, filesOf } from '../activities/artifacts/files.js';
import { AceCoderPlugin, workflowsPath } from './plugins/acecoder-plugin.js';
import type { OwnedServices } from './plugins/services.js';

/** Packages whose code is in the bundle, or builds it. */
const PACKAGES = ['@temporalio/common', '@temporalio/worker', '@temporalio/workflow', 'zod'];

/** What a bundle may hold next to the workflows, by paths. */
type Extra = Pick<BundleOptions, 'workflowInterceptorModules' | 'failureConverterPath'>;

/**
 * The bundle from the folder `parent`, or a new one, which replaces older ones there. Bundles with something extra have
 * folders of their own, because worker processes of a home may differ in that.
 */
export async function workflowBundle(
  parent: string,
  services: OwnedServices,
  extra: Extra = {},
): Promise<WorkflowBundle> {
  const paths = [...(extra.workflowInterceptorModules ?? []), extra.failureConverterPath ?? []].flat();
  const folder = join(parent, paths.map((path) => parse(path).name).join('-'));
  const name = `${await digestOfSources(paths)}.js`;
  const built = await readFile(join(folder, name), 'utf8').catch(() => undefined);
  if (built !== undefined) return { code: built };
  const { code } = await bundleWorkflowCode({
    workflowsPath: workflowsPath.all,
    plugins: [new AceCoderPlugin({ services })],
    ...extra,
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

async function digestOfSources(extra: readonly string[]): Promise<string> {
  const folder = dirname(workflowsPath.all);
  const sources = await filesOf(folder);
  const { resolve } = createRequire(import.meta.url);
  const paths = [
    ...sources.map((name) => join(folder, name)),
    ...PACKAGES.map((name) => resolve(`${name}/package.json`)),
    ...extra,
  ];
  return sha256(JSON.stringify([sources, await Promise.all(paths.map(fileDigest))]));
}
