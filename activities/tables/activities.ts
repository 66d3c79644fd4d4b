/** Tables of others and source trees become artifacts; artifacts become tables with a public schema. */
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { z } from 'zod';
import {
  FAILURES,
  FilteredQuestionRow,
  mistake,
  PairRow,
  ProgramRow,
  SeedRow,
  StageFailure,
  TaskRow,
  type ArtifactRef,
  type ArtifactTable,
  type DatasetExportInput,
  type Manifest,
  type Mistake,
  type Produced,
  type PublishedResult,
} from '../../workflows/contract/index.js';
import { safeName } from '../artifacts/keys.js';
import { digestsOf, importRows, produce, type Product } from '../artifacts/produce.js';
import { placeFolder, publish } from '../artifacts/results.js';
import { readLines, writeRows } from '../artifacts/rows.js';
import { publishedRows } from '../benchmarks/published.js';
import { cancellationSignal, currentProducer, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { resolvePath } from '../runtime/settings.js';
import { dataCard } from './data-card.js';

const ROWS = {
  seeds: SeedRow,
  filteredQuestions: FilteredQuestionRow,
  programs: ProgramRow,
  pairs: PairRow,
  tasks: TaskRow,
} as const;

/** Rows of a benchmark, read as a user's file of the same content would be. */
async function* tasksOf(path: string, source: string): AsyncGenerator<TaskRow> {
  for await (const { line, row, fault } of publishedRows(path)) {
    if (fault !== undefined) throw new StageFailure('InvalidExperiment', `${source}: row ${line}: ${fault}`);
    yield TaskRow.parse(row);
  }
}

/** What is exported, with a reference in the place of every input. */
export type ExportInput = Omit<DatasetExportInput, 'inputs'> & { inputs: Record<string, ArtifactRef> };

export interface ExportResult extends PublishedResult {
  rows: number;
  /** Of the table. */
  bytes: number;
  /** Folder on the GPU worker, where it keeps results on its disk. */
  folder?: string;
}

/** The only file of the only split, where the hub and its client look for it. */
const TABLE_FILE = 'data/train-00000-of-00001.parquet';

/** `tables.check`, `tables.import`, `tables.export`. */
export function tableActivities({ store, models, settings }: Pick<Services, 'store' | 'models' | 'settings'>) {
  const located = (table: ArtifactTable): ArtifactTable =>
    table.path === undefined ? table : { ...table, path: resolvePath(table.path, existsSync) };
  const progress = {
    onProgress: ({ done, message }: { done: number; message: string }) => reportProgress({ done, total: 0, message }),
  };

  return {
    /** Every mistake of tables, by their paths in the input; stores nothing. */
    'tables.check': async ({ tables }: { tables: Record<string, ArtifactTable> }): Promise<Mistake[]> => {
      const mistakes: Mistake[] = [];
      for (const [path, table] of Object.entries(tables)) {
        const field = table.path !== undefined ? 'path' : table.dataset !== undefined ? 'dataset' : 'package';
        try {
          await models.call('checkTable', located(table), { signal: cancellationSignal() });
        } catch (error) {
          if (!(error instanceof StageFailure) || FAILURES[error.type] === 'retried') throw error;
          mistakes.push(mistake(`${path}.${field}`, table[field], error.message));
        }
      }
      return mistakes;
    },

    /**
     * Reads a table as rows of an artifact, which is named by its content.
     * @throws StageFailure `InvalidExperiment`.
     */
    'tables.import': async ({ table }: { table: ArtifactTable }): Promise<Produced> => {
      const versions = await models.versions();
      const output = await store.spoolPath('.jsonl');
      try {
        const { dropped, source } = await models.call(
          'importTable',
          { ...located(table), output },
          { signal: cancellationSignal(), ...progress },
        );
        const schema: z.ZodType = ROWS[table.kind as keyof typeof ROWS];
        const rows = table.kind === 'tasks' ? tasksOf(output, source) : readLines(output, schema);
        const file = await store.putRows('rows.jsonl', schema, rows);
        return await importRows(store, table.kind, [file], currentProducer(versions), {
          format: table.format,
          source,
          dropped,
        });
      } finally {
        await rm(output, { force: true });
      }
    },

    /**
     * Stores a repository of the Hugging Face hub as an artifact: the table and its card. Or finds the one that an
     * equal export stored. Where the
     * worker keeps results on its disk, they are in a folder of the name in `exports` of its home too.
     */
    'tables.export': async (input: ExportInput): Promise<ExportResult> => {
      const { inputs, format, name } = input;
      const model = 'model' in input && typeof input.model === 'string' ? input.model : null;
      const producer = currentProducer(await models.versions());
      const semantics = { format, name, ...(model === null ? {} : { model }) };
      const recipe = {
        stage: 'datasetExport',
        // 2: columns in the order of the published cards, in the folders of a repository of the hub.
        version: 2,
        kind: 'export',
        semantics,
        inputs: digestsOf(inputs),
      } as const;
      const { ref } = await produce(store, recipe, inputs, producer, () => exported(input, model));
      const published = await publish(store, settings, producer, { export: ref }, TABLE_FILE);
      const { files } = await store.manifest(published.artifact);
      const result: ExportResult = {
        ...published,
        rows: ref.rows ?? 0,
        bytes: files.find((file) => file.name === TABLE_FILE)!.bytes,
      };
      if (!settings.localResults) return result;
      const folder = join(settings.home, 'exports', safeName(name));
      await placeFolder(store, published.artifact, folder);
      return { ...result, folder };
    },
  };

  /** Writes the table and its card, and stores them. */
  async function exported({ inputs, format, name }: ExportInput, model: string | null): Promise<Product> {
    const manifests: Record<string, Manifest> = {};
    for (const [role, ref] of Object.entries(inputs)) manifests[role] = await store.manifest(ref);
    const building = await store.spoolPath('.export');
    const spooled: string[] = [];
    const spool = async (ref: ArtifactRef, schema: z.ZodType): Promise<string> => {
      const path = await store.spoolPath('.jsonl');
      spooled.push(path);
      await writeRows(path, store.rowsOf(ref, schema));
      return path;
    };
    try {
      await mkdir(join(building, dirname(TABLE_FILE)), { recursive: true });
      const rows =
        format === 'aceCodePair300K'
          ? await spool(inputs['pairs']!, PairRow)
          : await spool(inputs['questions']!, FilteredQuestionRow);
      const programs = inputs['programs'] ? await spool(inputs['programs'], ProgramRow) : null;
      const { rows: written, bytes } = await models.call(
        'exportTable',
        { format, rows, programs, model, output: join(building, TABLE_FILE) },
        { signal: cancellationSignal(), ...progress },
      );
      if (written === 0)
        throw new StageFailure(
          'NoRows',
          `the export ${name} would have no rows: ${Object.entries(inputs)
            .map(([role, ref]) => `${role} ${ref.key} has ${ref.rows ?? 'no'} rows`)
            .join(', ')}; give other inputs`,
        );
      await writeFile(
        join(building, 'README.md'),
        dataCard({ name, format, rows: written, bytes, file: TABLE_FILE }, inputs, manifests),
      );
      return { files: await store.putFolder(building), rows: written, metrics: {} };
    } finally {
      await rm(building, { recursive: true, force: true });
      for (const path of spooled) await rm(path, { force: true });
    }
  }
}
