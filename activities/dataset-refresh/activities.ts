/** Versions of a data set: only seeds that no earlier version has seen go through synthesis and filtering. */
import { z } from 'zod';
import { ArtifactRef, FilteredQuestionRow, SeedRow, StageFailure, type ArtifactRef as Ref } from '../../workflows/contract/index.js';
import { artifactDigest } from '../artifacts/keys.js';
import { digestsOf, produce } from '../artifacts/produce.js';
import { currentProducer } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';

/** One version of a data set; written once, so that two refreshes cannot both be the next. */
const Version = z.object({ version: z.number().int().positive(), dataset: ArtifactRef, seeds: ArtifactRef, added: z.number().int(), total: z.number().int() });
export type Version = z.infer<typeof Version>;

const versionKey = (name: string, version: number): string => `datasets/${name}/${String(version).padStart(6, '0')}.json`;

/** `datasetRefresh.plan`, `datasetRefresh.publish`. */
export function datasetRefreshActivities({ store }: Pick<Services, 'store'>) {
  async function versions(name: string): Promise<Version[]> {
    const found: Version[] = [];
    for (const { key } of await store.list(`datasets/${name}/`)) found.push(Version.parse(await store.getJson(key)));
    return found;
  }

  return {
    /** The seeds that no version has seen, as an artifact; absent when there is none. */
    'datasetRefresh.plan': async ({ name, seeds }: { name: string; seeds: Ref }): Promise<{ previous?: Version; fresh?: Ref }> => {
      const earlier = await versions(name);
      const previous = earlier.at(-1);
      const known = new Set<string>();
      for (const version of earlier) for await (const { code } of store.rowsOf(version.seeds, SeedRow)) known.add(code);
      const rows: SeedRow[] = [];
      for await (const row of store.rowsOf(seeds, SeedRow)) if (!known.has(row.code)) rows.push(row);
      if (rows.length === 0) return { ...(previous ? { previous } : {}) };
      const file = await store.putRows('rows.jsonl', SeedRow, rows);
      const { ref } = await produce(store, { stage: 'import', version: 1, kind: 'seeds', semantics: { digest: artifactDigest('seeds', [file]) }, inputs: {} }, {}, currentProducer(), async () => ({
        files: [file], rows: rows.length, metrics: {},
      }));
      return { ...(previous ? { previous } : {}), fresh: ref };
    },

    /** Writes the next version: the rows of the previous one and the new questions that it does not hold. */
    'datasetRefresh.publish': async ({ name, previous, seeds, questions }: { name: string; previous?: Version; seeds: Ref; questions: Ref }): Promise<Version> => {
      const inputs = { questions, seeds, ...(previous ? { previous: previous.dataset } : {}) };
      const { ref, metrics } = await produce(store, { stage: 'datasetRefresh', version: 1, kind: 'dataset', semantics: { name }, inputs: digestsOf(inputs) }, inputs, currentProducer(), async () => {
        const rows = new Map<string, FilteredQuestionRow>();
        if (previous) for await (const row of store.rowsOf(previous.dataset, FilteredQuestionRow)) rows.set(row.id, row);
        const before = rows.size;
        for await (const row of store.rowsOf(questions, FilteredQuestionRow)) if (!rows.has(row.id)) rows.set(row.id, row);
        return { files: [await store.putRows('rows.jsonl', FilteredQuestionRow, rows.values())], rows: rows.size, metrics: { added: rows.size - before } };
      });
      const version: Version = { version: (previous?.version ?? 0) + 1, dataset: ref, seeds, added: Number(metrics['added']), total: ref.rows ?? 0 };
      await store.putJson(versionKey(name, version.version), version);
      const published = Version.parse(await store.getJson(versionKey(name, version.version)));
      if (published.dataset.digest !== ref.digest) {
        throw new StageFailure('InvalidExperiment', `another refresh of '${name}' published version ${version.version} meanwhile; run this one again`);
      }
      return published;
    },
  };
}
