/** A preview: the first seeds, and the page that shows what became of them. */
import { mkdir, rename, writeFile } from 'node:fs/promises';
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
} from '../../workflows/contract/index.js';
import { collect } from '../artifacts/collections.js';
import { safeName } from '../artifacts/keys.js';
import { importRows } from '../artifacts/produce.js';
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

    /** Writes `preview.html` into the reports folder of the worker's home. */
    'preview.page': async ({ name, ...refs }: PreviewArtifacts): Promise<{ html: string }> => {
      const folder = join(settings.home, 'reports', safeName(currentProducer().workflowId));
      const path = join(folder, 'preview.html');
      await mkdir(folder, { recursive: true });
      await writeFile(
        `${path}.part`,
        renderPreview({
          name,
          seeds: await rows(refs.seeds, SeedRow),
          questions: await rows(refs.questions, QuestionRow),
          filtered: await rows(refs.filtered, FilteredQuestionRow),
          programs: await rows(refs.programs, ProgramRow),
          pairs: await rows(refs.pairs, PairRow),
        }),
      );
      await rename(`${path}.part`, path);
      return { html: path };
    },
  };
}
