/** A comparison of experiments as an artifact. */
import { join } from 'node:path';
import { mistake, StageFailure, type ArtifactRef, type Mistake } from '../../workflows/contract/index.js';
import { safeName } from '../artifacts/keys.js';
import { placeFiles, publish, storeTexts } from '../artifacts/results.js';
import type { PublishedPage } from '../preview/activities.js';
import { currentProducer } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { compareSides, type Side } from './compare.js';
import { renderComparison } from './page.js';
import { readSide } from './read.js';
import { verdictText } from './text.js';

export interface ComparisonMade extends PublishedPage {
  /** One sentence for each comparison, or for why there is none. */
  verdicts: string[];
}

/** `comparison.check`, `comparison.make`. */
export function comparisonActivities({ store, settings }: Pick<Services, 'store' | 'settings'>) {
  return {
    /** Every name that cannot be compared, with the reason. */
    'comparison.check': async ({ of }: { of: readonly string[] }): Promise<Mistake[]> => {
      const mistakes: Mistake[] = [];
      for (const [at, name] of of.entries()) {
        try {
          await readSide(store, name);
        } catch (error) {
          if (!(error instanceof StageFailure) || error.type !== 'InvalidExperiment') throw error;
          mistakes.push(mistake(`of.${at}`, name, error.message));
        }
      }
      return mistakes;
    },

    /** Stores `comparison.html` and `comparison.json` as an artifact, and a copy where the worker keeps results. */
    'comparison.make': async ({
      of,
      policy,
    }: {
      of: readonly string[];
      policy?: string | undefined;
    }): Promise<ComparisonMade> => {
      const sides: Side[] = [];
      for (const name of of) sides.push(await readSide(store, name));
      const report = compare(sides, policy);
      const made = Object.fromEntries(
        sides.flatMap(({ artifacts: { evaluation } }, at): [string, ArtifactRef][] =>
          evaluation ? [[`evaluation:${at + 1}`, evaluation]] : [],
        ),
      );
      const texts = {
        'comparison.html': renderComparison(report),
        'comparison.json': `${JSON.stringify(report, null, 2)}\n`,
      };
      const producer = currentProducer();
      const artifact = await storeTexts(store, 'report', texts, made, producer);
      const published = await publish(store, settings, producer, { page: artifact, ...made }, 'comparison.html');
      const result: ComparisonMade = { ...published, verdicts: report.verdicts.map(verdictText) };
      if (!settings.localResults) return result;
      const folder = join(settings.home, 'reports', safeName(producer.workflowId));
      await placeFiles(store, (await store.manifest(published.artifact)).files, folder, 'copy');
      return { ...result, html: join(folder, 'comparison.html') };
    },
  };
}

function compare(sides: readonly Side[], policy: string | undefined) {
  try {
    return compareSides(sides, { policy });
  } catch (error) {
    if (error instanceof RangeError) throw new StageFailure('InvalidExperiment', error.message);
    throw error;
  }
}
