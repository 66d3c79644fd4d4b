/** A preview: the first seeds, and the page that shows what became of them. */
import { join } from 'node:path';
import type { z } from 'zod';
import {
  FilteredQuestionRow,
  PairRow,
  ProgramRow,
  QuestionRow,
  SeedRow,
  type ArtifactRef,
  type Produced,
  type PublishedResult,
} from '../../workflows/contract/index.js';
import { collect } from '../artifacts/collections.js';
import { safeName } from '../artifacts/keys.js';
import { importRows } from '../artifacts/produce.js';
import { placeFiles, publish, storeTexts } from '../artifacts/results.js';
import { currentProducer } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { renderPreview } from './page.js';

export interface PreviewArtifacts {
  name: string;
  seeds: ArtifactRef;
  questions: ArtifactRef;
  filtered: ArtifactRef;
  programs?: ArtifactRef;
  pairs?: ArtifactRef;
  /** The version of the teacher's prompt, where others are compared with it. */
  prompt?: string;
  /** What other versions of the prompt made of the same seeds. */
  compared?: readonly { prompt: string; questions: ArtifactRef }[];
}

/** The page in the store, with the path of its copy on the worker's disk where there is one. */
export interface PublishedPage extends PublishedResult {
  html?: string;
}

/** `preview.seeds`, `preview.page`. */
export function previewActivities({ store, settings }: Pick<Services, 'store' | 'settings'>) {
  async function rows<T>(ref: ArtifactRef | undefined, schema: z.ZodType<T>): Promise<T[]> {
    return ref ? collect(store.rowsOf(ref, schema)) : [];
  }

  return {
    'preview.seeds': async ({ seeds, first }: { seeds: ArtifactRef; first: number }): Promise<Produced> => {
      const taken: SeedRow[] = [];
      for await (const row of store.rowsOf(seeds, SeedRow)) {
        taken.push(row);
        if (taken.length === first) break;
      }
      const file = await store.putRows('rows.jsonl', SeedRow, taken);
      return importRows(store, 'seeds', [file], currentProducer());
    },

    /** Stores `preview.html` as an artifact; in the reports folder too, where the worker keeps results on its disk. */
    'preview.page': async ({ name, prompt, compared = [], ...refs }: PreviewArtifacts): Promise<PublishedPage> => {
      const others: { prompt: string; questions: QuestionRow[] }[] = [];
      for (const { prompt: version, questions } of compared)
        others.push({ prompt: version, questions: await rows(questions, QuestionRow) });
      const page = renderPreview({
        name,
        seeds: await rows(refs.seeds, SeedRow),
        questions: await rows(refs.questions, QuestionRow),
        filtered: await rows(refs.filtered, FilteredQuestionRow),
        programs: await rows(refs.programs, ProgramRow),
        pairs: await rows(refs.pairs, PairRow),
        ...(prompt === undefined ? {} : { prompt }),
        others,
      });
      const producer = currentProducer();
      const made = {
        ...refs,
        ...Object.fromEntries(compared.map(({ prompt: version, questions }) => [`questions:${version}`, questions])),
      };
      const report = await storeTexts(store, 'report', { 'preview.html': page }, made, producer);
      const published = await publish(store, settings, producer, { page: report, ...made }, 'preview.html');
      if (!settings.localResults) return published;
      const folder = join(settings.home, 'reports', safeName(producer.workflowId));
      await placeFiles(store, (await store.manifest(published.artifact)).files, folder, 'copy');
      return { ...published, html: join(folder, 'preview.html') };
    },
  };
}
