/**
 * A re-verification: a plan of the programs of which something is unknown, their cells, and the table.
 *
 * Cells are stored as batches of programs below `cells/<harness>/`. A batch is named by the range of its programs' keys
 * and by its content, so that a search reads few objects of other programs. One object for each program would be
 * millions of requests for a data set. A killed worker loses the batch that it was running.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  ArtifactRef,
  canonicalJson,
  Harness,
  ManifestFile,
  Metrics,
  ProgramRow,
  Reverification,
  ReverificationRow,
  SandboxLimits,
  STAGE,
  StageFailure,
  TestOutcome,
  type PublishedResult,
  type ReverifyInput,
} from '../../workflows/contract/index.js';
import { eachOf } from '../artifacts/collections.js';
import { objectKeys, safeName, sha256, stageKey, type Recipe } from '../artifacts/keys.js';
import { digestsOf, importRows, produce } from '../artifacts/produce.js';
import { placeFiles, publish } from '../artifacts/results.js';
import { evaluate } from '../evaluation/figures.js';
import { judgePrograms, settled, type Job } from '../execution/execution.js';
import { jobOf, SandboxRow } from '../execution/rows.js';
import { cancellationSignal, currentProducer, reportProgress } from '../runtime/context.js';
import type { Services } from '../runtime/services.js';
import { intoShards } from '../runtime/sharded-stage.js';
import { mayHold, outcomesOf, rangeOf, runsNeeded, shardDigits, shardOf, testDigest, type Run } from './cells.js';
import { harnessText, judgedItems, knownOutcomes, openSources, readChanges, type Item } from './sources.js';
import { compare, summaryText, type TableRow } from './table.js';
import { withChecker, withoutChecker } from './tests.js';

/** Raised whenever the same verdicts would give another table. */
const VERSION = 1;
/** Bytes of a document of cells, about: the store takes 5 MiB. */
const DOCUMENT_BYTES = 2_000_000;
/** Documents of cells that are read at once. */
const LANES = 16;
/** Rows between two reports of progress. */
const REPORT_EVERY = 1000;

type Settings = Omit<ReverifyInput, 'inputs' | '$schema'>;

export interface ReverifyPlanInput {
  inputs: Record<string, ArtifactRef>;
  settings: Settings;
}

export interface ReverifyPlan {
  stageKey: string;
  /** Shards in which something has to be looked up or to run. */
  work: number[];
  /** Programs, and verdicts of them that the table has. */
  programs: number;
  verdicts: number;
}

export interface ReverifyShardInput {
  stageKey: string;
  shard: number;
  execution: Settings['execution'];
  /** Programs of this shard that run all tests too. */
  compare: number;
}

export interface ReverifyShard {
  /** Cells that this run of the workflow has run. */
  cells: number;
  compared: number;
  /** Programs, of those compared, with another verdict where all tests share a process. */
  differing: string[];
}

export interface ReverifyTable extends PublishedResult {
  summary: Reverification;
  /** The input `programs` with the verdicts of today. */
  programs?: ArtifactRef;
  /** Folder on the pipeline worker, where it keeps results on its disk. */
  folder?: string;
}

const PlanDocument = z.object({
  config: z.object({ settings: z.custom<Settings>(), harness: Harness }),
  inputs: z.record(z.string(), ArtifactRef),
  shards: z.array(ManifestFile),
  work: z.array(z.number()),
  otherHarnesses: z.array(z.string()),
  programs: z.number(),
  verdicts: z.number(),
});

/** A program of which a test is unknown. */
const WorkRow = z.object({
  /** Place among all programs of the plan. */
  at: z.number(),
  id: z.string(),
  key: z.string(),
  program: z.string(),
  limits: SandboxLimits,
  tests: z.array(z.json()),
  /** The checker of the tests that leave it open how they are judged: it stands here once, and not in each test. */
  checker: z.string().optional(),
  known: z.object({ tests: z.array(z.string()), outcomes: z.array(TestOutcome) }).optional(),
});
type WorkRow = z.infer<typeof WorkRow>;

/** A row of work whose tests are whole, with what names each. */
type WholeRow = WorkRow & { digests: string[] };

const JudgedRow = z.object({ at: z.number(), outcomes: z.array(TestOutcome) });
type JudgedRow = z.infer<typeof JudgedRow>;

const ShardDocument = z.object({
  file: ManifestFile,
  runId: z.string(),
  cells: z.number(),
  compared: z.number(),
  differing: z.array(z.string()),
});

const Cells = z.object({
  /** Who ran them, for counts. */
  by: z.object({ runId: z.string(), stageKey: z.string() }),
  runs: z.array(z.object({ program: z.string(), tests: z.array(z.string()), outcomes: z.array(TestOutcome) })),
});
type Cells = z.infer<typeof Cells>;

const Made = z.object({ summary: Reverification, programs: ArtifactRef.optional() });

/** Tests of one program that run in one process. */
interface CellJob {
  key: string;
  program: string;
  limits: SandboxLimits;
  tests: WorkRow['tests'];
  digests: string[];
}

/** `reverify.plan`, `reverify.judge`, `reverify.table`. */
export function reverifyActivities({ store, sandbox, settings: own }: Services) {
  /** The harness of this worker's sandbox. */
  async function harnessHere(): Promise<Harness> {
    return (await judgePrograms(sandbox, [], { limits: SandboxLimits.parse({}) })).harness;
  }

  async function planOf(key: string): Promise<z.infer<typeof PlanDocument>> {
    const planned = await store.getJson(objectKeys.plan(key));
    if (planned === undefined)
      throw new StageFailure('ArtifactCorrupt', `the plan ${objectKeys.plan(key)} is missing from the store`);
    return PlanDocument.parse(planned);
  }

  async function shardDone(key: string, shard: number): Promise<z.infer<typeof ShardDocument> | undefined> {
    const done = await store.getJson(objectKeys.shard(key, shard, 'judge'));
    return done === undefined ? undefined : ShardDocument.parse(done);
  }

  /**
   * What was ever run of the programs of a shard, by program; and how many of the cells this run of the workflow ran.
   */
  async function storedRuns(
    harness: string,
    keys: ReadonlySet<string>,
    by: Cells['by'],
  ): Promise<{ runs: Map<string, Run[]>; ownCells: number }> {
    const sorted = [...keys].sort();
    const folder = objectKeys.cells(harness);
    const names = [...(await store.keys(folder))].filter((name) => mayHold(name.slice(folder.length), sorted)).sort();
    const documents: Cells[] = [];
    await eachOf(names.length, LANES, async (at) => {
      const document = await store.getJson(names[at]!);
      // In the order of names, so that who comes first does not depend on the network.
      if (document !== undefined) documents[at] = Cells.parse(document);
    });
    const runs = new Map<string, Run[]>();
    let ownCells = 0;
    for (const document of documents.filter(Boolean)) {
      const isOwn = document.by.runId === by.runId && document.by.stageKey === by.stageKey;
      for (const { program, tests, outcomes } of document.runs) {
        if (!keys.has(program)) continue;
        runs.set(program, [...(runs.get(program) ?? []), { tests, outcomes }]);
        if (isOwn) ownCells += tests.length;
      }
    }
    return { runs, ownCells };
  }

  /** Stores what was run of sorted programs. */
  async function putCells(harness: string, by: Cells['by'], runs: Cells['runs']): Promise<void> {
    let document: Cells['runs'] = [];
    let bytes = 0;
    const flush = async (): Promise<void> => {
      const content = sha256(canonicalJson(document)).slice(0, 32);
      const range = rangeOf(document.map(({ program }) => program));
      await store.putJson(`${objectKeys.cells(harness)}${range}-${content}.json`, { by, runs: document });
      document = [];
      bytes = 0;
    };
    for (const run of runs) {
      const size = JSON.stringify(run).length;
      if (document.length > 0 && bytes + size > DOCUMENT_BYTES) await flush();
      document.push(run);
      bytes += size;
    }
    if (document.length > 0) await flush();
  }

  /** Outcomes of jobs, in their order. */
  async function judged(jobs: readonly CellJob[]): Promise<TestOutcome[][]> {
    if (jobs.length === 0) return [];
    const given = jobs.map(({ program, tests, limits }, at): Job => ({
      ...jobOf(SandboxRow.parse({ id: String(at), program, tests })),
      limits,
    }));
    const { judgements } = await judgePrograms(sandbox, given, {
      limits: jobs[0]!.limits,
      signal: cancellationSignal(),
      onProgress: (done, total) => reportProgress({ done, total, message: 'programs run' }),
    });
    return settled(judgements).map(({ outcomes }) => outcomes);
  }

  return {
    /**
     * Finds the programs of which something is unknown. What is the same as before is in no shard.
     *
     * @throws StageFailure `InvalidExperiment` with what is wrong about the inputs.
     */
    'reverify.plan': async ({ inputs, settings }: ReverifyPlanInput): Promise<ReverifyPlan> => {
      const harness = await harnessHere();
      const recipe = recipeOf(inputs, settings, harness);
      const key = stageKey(recipe);
      const planned = await store.getJson(objectKeys.plan(key));
      if (planned !== undefined) {
        const { work, programs, verdicts, otherHarnesses } = PlanDocument.parse(planned);
        refuseOthers(settings, harness, otherHarnesses);
        const made = await store.findManifest(objectKeys.manifest(recipe.kind, key));
        return { stageKey: key, work: made ? [] : work, programs, verdicts };
      }
      const changes = await readChanges(store, inputs['tests']);
      const sources = await openSources(store, { inputs, settings, harness }, changes);
      const digits = shardDigits(
        sources.reduce((sum, { rows }) => sum + rows, 0),
        settings.shardSize,
      );
      const counts = { programs: 0, verdicts: 0 };
      const others = new Set<string>();
      const work = new Set<number>();
      async function* unknown(): AsyncGenerator<WorkRow> {
        for (const source of sources) {
          for await (const item of judgedItems(source)) {
            const at = counts.programs;
            counts.programs += 1;
            counts.verdicts += item.after.tests.length;
            if (counts.programs % REPORT_EVERY === 0)
              reportProgress({ done: counts.programs, total: 0, message: 'programs looked at' });
            if (item.otherHarness !== undefined) others.add(item.otherHarness);
            if (knownOutcomes(item, settings.run)) continue;
            work.add(shardOf(item.key, digits));
            yield workOf(at, item);
          }
        }
      }
      const names = Array.from({ length: 16 ** digits }, (_, shard) => `rows-${String(shard).padStart(6, '0')}.jsonl`);
      const shards = await store.putRowsByFile(names, WorkRow, unknown(), (row) => shardOf(row.key, digits));
      const otherHarnesses = [...others].sort();
      refuseOthers(settings, harness, otherHarnesses);
      const { given, used } = changes.used;
      if (given > 0 && used === 0)
        throw new StageFailure(
          'InvalidExperiment',
          `inputs.tests: none of its ${given} questions is one that the programs answer`,
        );
      const document = {
        config: { settings, harness },
        inputs,
        shards,
        work: [...work].sort((a, b) => a - b),
        otherHarnesses,
        ...counts,
      };
      await store.putJson(objectKeys.plan(key), PlanDocument.parse(document));
      return { stageKey: key, work: document.work, ...counts };
    },

    /**
     * Runs the cells of a shard that nobody has run, and stores them batch after batch.
     *
     * @throws StageFailure `VersionMismatch` where this worker's sandbox is another one than that of the plan.
     */
    'reverify.judge': async ({
      stageKey: key,
      shard,
      execution,
      compare,
    }: ReverifyShardInput): Promise<ReverifyShard> => {
      const { runId } = currentProducer();
      const done = await shardDone(key, shard);
      if (done) {
        const { cells, compared, differing } = done;
        return { cells: done.runId === runId ? cells : 0, compared, differing };
      }
      const { config, shards } = await planOf(key);
      const here = await harnessHere();
      if (canonicalJson(here) !== canonicalJson(config.harness))
        throw new StageFailure(
          'VersionMismatch',
          `this worker's sandbox (${harnessText(here)}) is another one than that of the plan ${key.slice(0, 12)} ` +
            `(${harnessText(config.harness)}). Keep workers of one kind, or start again when all are of one`,
        );
      const harness = sha256(canonicalJson(here)).slice(0, 32);
      const by = { runId, stageKey: key };
      const { run: how } = config.settings;
      const rows: WholeRow[] = [];
      for await (const row of store.readRows([shards[shard]!], WorkRow)) rows.push(wholeOf(row));
      const { runs, ownCells } = await storedRuns(harness, new Set(rows.map((row) => row.key)), by);
      const knownOf = ({ key: program, digests, known }: (typeof rows)[number]): (TestOutcome | undefined)[] =>
        outcomesOf(digests, [...(known ? [known] : []), ...(runs.get(program) ?? [])], how);
      const jobs = new Map<string, CellJob>();
      for (const row of rows) {
        for (const places of runsNeeded(row.digests, knownOf(row), how)) {
          const { key: program, program: text, limits } = row;
          const digests = places.map((place) => row.digests[place]!);
          const tests = places.map((place) => row.tests[place]!);
          jobs.set(canonicalJson([program, digests]), { key: program, program: text, limits, tests, digests });
        }
      }
      const sorted = [...jobs.values()].sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
      let cells = ownCells;
      for (const batch of intoShards(sorted, execution.batch)) {
        const outcomes = await judged(batch);
        const made = batch.map((job, at) => ({ program: job.key, tests: job.digests, outcomes: outcomes[at]! }));
        await putCells(harness, by, made);
        for (const { program, ...run } of made) runs.set(program, [...(runs.get(program) ?? []), run]);
        cells += made.reduce((sum, { tests }) => sum + tests.length, 0);
      }
      const compared = await comparedOf(rows, knownOf, how === 'new' ? compare : 0);
      const file = await store.putRows(
        'rows.jsonl',
        JudgedRow,
        rows.map((row): JudgedRow => ({ at: row.at, outcomes: knownOf(row).map((outcome) => outcome!) })),
      );
      await store.putJson(objectKeys.shard(key, shard, 'judge'), { file, runId, cells, ...compared });
      return { cells, ...compared };
    },

    /** Stores the table, and the input `programs` with the verdicts of today. */
    'reverify.table': async ({ stageKey: key }: { stageKey: string }): Promise<ReverifyTable> => {
      const { config, inputs, shards } = await planOf(key);
      const { settings, harness } = config;
      const producer = currentProducer();
      const { ref, metrics } = await produce(store, recipeOf(inputs, settings, harness), inputs, producer, async () => {
        const changes = await readChanges(store, inputs['tests']);
        const sources = await openSources(store, { inputs, settings, harness }, changes);
        const digits = shards.length === 1 ? 0 : shards.length === 16 ? 1 : 2;
        const streams = new Map<number, AsyncGenerator<JudgedRow>>();
        let at = -1;
        const before = inputs['pairs']
          ? STAGE.preferences.config.parse((await store.manifest(inputs['pairs'])).config)
          : STAGE.preferences.config.parse({});
        const { rows, summary } = compare(sources, {
          harness,
          pairs: { before, after: settings.preferences ?? before },
          evaluate,
          outcomesOf: async (item) => {
            at += 1;
            if (at % REPORT_EVERY === 0) reportProgress({ done: at, total: 0, message: 'programs compared' });
            const known = knownOutcomes(item, settings.run);
            if (known) return known;
            const shard = shardOf(item.key, digits);
            const stream = streams.get(shard) ?? (await judgedRows(key, shard));
            streams.set(shard, stream);
            const next = await stream.next();
            if (next.done || next.value.at !== at)
              throw new StageFailure(
                'ArtifactCorrupt',
                `shard ${shard} of ${key} has no verdicts of program ${item.id}`,
              );
            return next.value.outcomes;
          },
        });
        const [table, programs] = await store.putRowsByFile<TableRow>(
          ['rows.jsonl', 'programs.jsonl'],
          z.union([ReverificationRow, ProgramRow]),
          rows,
          (row) => ('change' in row ? 0 : 1),
        );
        const summed = summary();
        const judgedPrograms = inputs['programs']
          ? await importRows(store, 'programs', [{ ...programs!, name: 'rows.jsonl' }], producer)
          : undefined;
        const files = [
          table!,
          await textFile('summary.json', `${JSON.stringify(summed, null, 2)}\n`),
          await textFile('summary.md', summaryText(summed)),
        ];
        const made = { summary: summed, ...(judgedPrograms ? { programs: judgedPrograms.ref } : {}) };
        return { files, rows: table!.rows ?? 0, metrics: Metrics.parse(made) };
      });
      const { summary, programs } = Made.parse(metrics);
      const results = { table: ref, ...(programs ? { programs } : {}) };
      const published = await publish(store, own, producer, results, 'summary.md');
      const made = { ...published, summary, ...(programs ? { programs } : {}) };
      if (!own.localResults) return made;
      const folder = join(own.home, 'reports', safeName(producer.workflowId));
      await placeFiles(store, (await store.manifest(published.artifact)).files, folder, 'copy');
      return { ...made, folder };
    },
  };

  /** Runs all tests of some programs of a shard in one process each, as stages do, and compares. */
  async function comparedOf(
    rows: readonly WholeRow[],
    knownOf: (row: WholeRow) => (TestOutcome | undefined)[],
    most: number,
  ): Promise<Omit<ReverifyShard, 'cells'>> {
    // A program of which nothing was known has run all of its tests already.
    const apart = rows.filter(({ known }) => known !== undefined).sort((a, b) => (a.key < b.key ? -1 : 1));
    const chosen = apart.slice(0, most);
    const outcomes = await judged(chosen.map(({ digests, ...row }) => ({ ...row, digests })));
    const differing = chosen.filter((row, at) =>
      knownOf(row).some((outcome, place) => outcome!.status !== outcomes[at]![place]!.status),
    );
    return { compared: chosen.length, differing: differing.map(({ id }) => id) };
  }

  async function judgedRows(key: string, shard: number): Promise<AsyncGenerator<JudgedRow>> {
    const done = await shardDone(key, shard);
    if (!done) throw new StageFailure('ArtifactCorrupt', `shard ${shard} of ${key} is missing step judge`);
    return store.readRows([done.file], JudgedRow);
  }

  async function textFile(name: string, text: string): Promise<ManifestFile> {
    const path = await store.spoolPath('.text');
    try {
      await writeFile(path, text);
      return await store.putFile(path, name);
    } finally {
      await rm(path, { force: true });
    }
  }
}

/** What the table depends on. What only says how it is got, or what is compared beside it, is left out. */
function recipeOf(inputs: Record<string, ArtifactRef>, settings: Settings, harness: Harness): Recipe {
  const { limits, reward, preferences, run, shardSize, salt } = settings;
  return {
    stage: 'reverify',
    version: VERSION,
    kind: 'reverification',
    semantics: {
      harness,
      run,
      shardSize,
      salt,
      ...(limits ? { limits } : {}),
      ...(reward ? { reward } : {}),
      ...(preferences ? { preferences } : {}),
    },
    inputs: digestsOf(inputs),
  };
}

/** @throws StageFailure `InvalidExperiment` where verdicts of another harness are to be refused, and there are some. */
function refuseOthers({ otherHarness }: Settings, today: Harness, others: readonly string[]): void {
  if (otherHarness === 'refuse' && others.length > 0)
    throw new StageFailure(
      'InvalidExperiment',
      `otherHarness is 'refuse', and verdicts were made by another harness than that of today ` +
        `(${harnessText(today)}): ${others.join(' | ')}`,
    );
}

function wholeOf(row: WorkRow): WholeRow {
  const tests = row.tests.map((test) => withChecker(test, row.checker));
  return { ...row, tests, digests: tests.map(testDigest) };
}

function workOf(at: number, { id, key, program, limits, after, run }: Item): WorkRow {
  return {
    at,
    id,
    key,
    program,
    limits,
    tests: after.tests.map((test) => withoutChecker(test, after.checker)),
    ...(after.checker === undefined ? {} : { checker: after.checker }),
    ...(run ? { known: { tests: [...run.tests], outcomes: [...run.outcomes] } } : {}),
  };
}
