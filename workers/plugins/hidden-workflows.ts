/**
 * Refuses a bundle in which an application's workflow hides one of ours of the same name. In a module a local export
 * wins silently over `export *`, so experiments would start the other workflow.
 */
import { dirname, sep } from 'node:path';
import type { BundleOptions } from '@temporalio/worker';

type WebpackConfiguration = Parameters<NonNullable<BundleOptions['webpackConfigHook']>>[0];
type WebpackPlugin = Extract<NonNullable<WebpackConfiguration['plugins']>[number], (...args: never[]) => unknown>;

/** Bundle options that fail the build when one of the workflows `names` comes from outside the folder of `ownPath`. */
export function refuseHiddenWorkflows(
  options: BundleOptions,
  names: readonly string[],
  ownPath: string,
): BundleOptions {
  const check: WebpackPlugin = (compiler) => {
    compiler.hooks.compilation.tap('AceCoderPlugin', (compilation) => {
      compilation.hooks.seal.tap('AceCoderPlugin', () => {
        const graph = compilation.moduleGraph;
        const isEntry = ({ dependency }: { dependency: unknown }): boolean =>
          (dependency as { request?: string } | null)?.request === options.workflowsPath;
        const entry = [...compilation.modules]
          .flatMap((module) => [...graph.getOutgoingConnections(module)])
          .find(isEntry)?.module;
        if (!entry) return;
        for (const name of names) {
          const info = graph.getExportInfo(entry, name);
          if (info.provided !== true) continue;
          // An export of the entry itself has no target.
          const file = (info.getTarget(graph)?.module ?? entry).nameForCondition();
          if (file?.startsWith(dirname(ownPath) + sep)) continue;
          compilation.errors.push(
            new compiler.webpack.WebpackError(
              `The workflow '${name}' of acecoder-temporal is hidden by one of the same name in ${file}: ` +
                'rename that one.',
            ),
          );
        }
      });
    });
  };
  return {
    ...options,
    webpackConfigHook: (config) => {
      const hooked = options.webpackConfigHook?.(config) ?? config;
      return { ...hooked, plugins: [...(hooked.plugins ?? []), check] };
    },
  };
}
