/**
 * Versions of a data set: only seeds that no earlier version has seen go through synthesis and filtering.
 *
 * A seed that gave no question is seen too, and its reason is in the difference: its reply stands in the store, and
 * asking
 * again would find the same one. What may pass, such as a budget that is spent, fails the whole refresh, which then
 * publishes nothing.
 */
import { z } from 'zod';
import {
  ArtifactRef,
  FilteredQuestionRow,
  SeedRow,
  StageFailure,
  type ArtifactRef as Ref,
} from '../../workflows/contract/index.js';
import { collect } from '../artifacts/collections.js';
import { safeName } from '../artifacts/keys.js';
import { digestsOf, importRows, produce } from '../artifacts/produce.js';
import { currentProducer } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';

/** What a version has over the one before it. */
const Difference = z.object({
  /** Questions that are new. */
  added: z.number().int(),
  /** Questions in the place of others, whose seeds have another program under the same id. */
  changed: z.number().int(),
  /** New seeds that gave no question, by reason. */
  dropped: z.record(z.string(), z.number().int()),
  /** Means over the questions of the version before and over the new ones: what drifts shows here. */
  statistics: z.record(z.string(), z.object({ before: z.number().nullable(), added: z.number().nullable() })),
});
export type Difference = z.infer<typeof Difference>;

/** One version of a data set; written once, so that two refreshes cannot both be the next. */
const Version = z.object({
  version: z.number().int().positive(),
  dataset: ArtifactRef,
  seeds: ArtifactRef,
  added: z.number().int(),
  total: z.number().int(),
  difference: Difference,
});
export type Version = z.infer<typeof Version>;

/** What is watched for drift. */
const STATISTICS: Record<string, (row: FilteredQuestionRow) => number> = {
  testCases: ({ tests }) => tests.length,
  keptShare: ({ tests, testCases }) => (testCases === undefined ? 1 : tests.length / testCases),
  questionCharacters: ({ question }) => question.length,
  referenceCharacters: ({ reference }) => reference.length,
};

function statisticsOf(
  before: readonly FilteredQuestionRow[],
  added: readonly FilteredQuestionRow[],
): Difference['statistics'] {
  const mean = (rows: readonly FilteredQuestionRow[], of: (row: FilteredQuestionRow) => number): number | null =>
    rows.length === 0 ? null : rows.reduce((sum, row) => sum + of(row), 0) / rows.length;
  return Object.fromEntries(
    Object.entries(STATISTICS).map(([name, of]) => [name, { before: mean(before, of), added: mean(added, of) }]),
  );
}

const versionsKey = (name: string): string => `datasets/${safeName(name, { keepCase: true })}/`;
const versionKey = (name: string, version: number): string =>
  `${versionsKey(name)}${String(version).padStart(6, '0')}.json`;

/** `datasetRefresh.plan`, `datasetRefresh.publish`. */
export function datasetRefreshActivities({ store }: Pick<Services, 'store'>) {
  async function versions(name: string): Promise<Version[]> {
    const found: Version[] = [];
    for (const { key } of await store.list(versionsKey(name))) found.push(Version.parse(await store.getJson(key)));
    return found;
  }

  return {
    /** The seeds that no version has seen, as an artifact; absent when there is none. */
    'datasetRefresh.plan': async ({
      name,
      seeds,
    }: {
      name: string;
      seeds: Ref;
    }): Promise<{ previous?: Version; fresh?: Ref }> => {
      const earlier = await versions(name);
      const previous = earlier.at(-1);
      const known = new Set<string>();
      for (const version of earlier) for await (const { code } of store.rowsOf(version.seeds, SeedRow)) known.add(code);
      const rows: SeedRow[] = [];
      for await (const row of store.rowsOf(seeds, SeedRow)) if (!known.has(row.code)) rows.push(row);
      if (rows.length === 0) return { ...(previous ? { previous } : {}) };
      const file = await store.putRows('rows.jsonl', SeedRow, rows);
      const { ref } = await importRows(store, 'seeds', [file], currentProducer());
      return { ...(previous ? { previous } : {}), fresh: ref };
    },

    /**
     * Writes the next version: the rows of the previous one, and the new questions, which take the place of questions
     * of the
     * same seed id. An older version is never changed.
     */
    'datasetRefresh.publish': async ({
      name,
      previous,
      seeds,
      fresh,
      asked,
      questions,
    }: {
      name: string;
      previous?: Version;
      seeds: Ref;
      fresh: Ref;
      asked: Ref;
      questions: Ref;
    }): Promise<Version> => {
      const inputs = { questions, seeds, ...(previous ? { previous: previous.dataset } : {}) };
      const { ref, metrics } = await produce(
        store,
        { stage: 'datasetRefresh', version: 1, kind: 'dataset', semantics: { name }, inputs: digestsOf(inputs) },
        inputs,
        currentProducer(),
        async () => {
          const before = previous ? await collect(store.rowsOf(previous.dataset, FilteredQuestionRow)) : [];
          const known = new Set(before.map(({ id }) => id));
          const added: FilteredQuestionRow[] = [];
          for await (const row of store.rowsOf(questions, FilteredQuestionRow)) if (!known.has(row.id)) added.push(row);
          const replaced = new Set(added.map(({ seedId }) => seedId));
          const kept = before.filter(({ seedId }) => !replaced.has(seedId));
          const changed = before.length - kept.length;
          const [synthesis, filtering] = [await store.manifest(asked), await store.manifest(questions)];
          const dropped = {
            ...counts(synthesis.metrics['droppedSeeds']),
            ...counts(synthesis.metrics['failures']),
            ...counts(filtering.metrics['droppedQuestions']),
          };
          const difference: Difference = {
            added: added.length - changed,
            changed,
            dropped,
            statistics: statisticsOf(before, added),
          };
          return {
            files: [await store.putRows('rows.jsonl', FilteredQuestionRow, [...kept, ...added])],
            rows: kept.length + added.length,
            metrics: { difference, freshSeeds: fresh.rows ?? 0 },
          };
        },
      );
      const difference = Difference.parse(metrics['difference']);
      const version: Version = {
        version: (previous?.version ?? 0) + 1,
        dataset: ref,
        seeds,
        added: difference.added,
        total: ref.rows ?? 0,
        difference,
      };
      await store.putJson(versionKey(name, version.version), version);
      const published = Version.parse(await store.getJson(versionKey(name, version.version)));
      if (published.dataset.digest !== ref.digest) {
        throw new StageFailure(
          'InvalidExperiment',
          `another refresh of '${name}' published version ${version.version} meanwhile; run this one again`,
        );
      }
      return published;
    },
  };
}

/** The counts by reason that a stage's metrics hold; none where it counted nothing. */
function counts(value: unknown): Record<string, number> {
  return z
    .record(z.string(), z.number().int())
    .catch({})
    .parse(value ?? {});
}
