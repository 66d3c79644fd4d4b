/**
 * Lineage: from an artifact or a row back to its seed, and on to what was built of it.
 *
 * Manifests name their inputs by key, and rows name rows, so that a trace back reads only what it tells. A trace
 * forward needs to know who names an artifact, which no artifact says. It takes the manifests to look at.
 */
import type { ZodType } from 'zod';
import {
  ArtifactRef,
  StageFailure,
  type ArtifactKind,
  type Manifest,
  type TestOutcome,
} from '../../workflows/contract/index.js';
import { eachOf } from '../artifacts/collections.js';
import { refOf } from '../artifacts/manifests.js';
import { linesOf, rowFiles } from '../artifacts/rows.js';
import type { ArtifactStore } from '../artifacts/store.js';
import { codeVersionOf } from './code-version.js';
import { KINDS, outcomesText, type Kind, type Link } from './kinds.js';

type Store = Pick<ArtifactStore, 'fetch' | 'findManifest' | 'list' | 'prunedFailure'>;

/** One step of a trace: an artifact, and a row of it. */
export interface Step {
  what: string;
  /** Key of its manifest. */
  artifact: string;
  kind: ArtifactKind;
  row?: string;
  /** Of a step forward: rows that follow from what came before. */
  rows?: number;
  /** A line about the row. */
  shows?: string;
  code: { stage: string; version: number | Record<string, number> | null; package: string; commit?: string };
  by: { workflowId: string; activity: string; at: string };
  configuration: unknown;
  notes: string[];
  next: Step[];
}

/** What a trace starts from. */
export interface Target {
  key: string;
  /** A row by its id. */
  row?: string;
  /** Members of the rows that are meant. */
  where?: Readonly<Record<string, string>> | undefined;
}

interface TraceOptions {
  /** Rows that are followed where more than one leads on. */
  rows: number;
  /** Steps that are told one below the other. */
  depth: number;
}

/** An artifact on the way forward, whose users are looked for next. */
interface Used {
  step: Step;
  manifest: Manifest;
  /** Absent: all of it. */
  rows: readonly unknown[] | undefined;
  depth: number;
}

/** Note of a step whose next steps stand elsewhere. */
export const TOLD = 'told above';

/** What a row is looked for by. */
interface Search {
  pick: (row: unknown) => boolean;
  /** One of these stands in the line of each row that is looked for. */
  needles?: readonly string[];
  most: number;
}

export class Tracer {
  readonly #manifests = new Map<string, Promise<Manifest | undefined>>();
  readonly #told = new Set<string>();

  constructor(
    private readonly store: Store,
    private readonly options: TraceOptions,
  ) {}

  /**
   * What a target comes from, back to the seeds.
   *
   * @throws StageFailure where the store has no such artifact, or the artifact no such row.
   */
  async back(target: Target): Promise<Step[]> {
    const manifest = await this.manifest(target.key);
    const rows = await this.rowsOf(manifest, target);
    const { depth } = this.options;
    if (rows.length === 0) return [await this.#step(manifest, undefined, { depth })];
    const steps: Step[] = [];
    for (const row of rows) steps.push(await this.#step(manifest, row, { depth }));
    return steps;
  }

  /**
   * What was built from a target, among `manifests`. `test` is the number of a kept test of a question, from 1 on: of
   * programs, its verdicts are told.
   */
  async forward(target: Target & { test?: number }, manifests: Iterable<Manifest>): Promise<Step[]> {
    const manifest = await this.manifest(target.key);
    const isWhole = target.row === undefined && target.where === undefined;
    const rows = isWhole ? undefined : await this.rowsOf(manifest, target, Infinity);
    const users = new Map<string, { user: Manifest; input: string }[]>();
    // A report names every stage of its experiment, and follows from none of its rows alone.
    for (const user of [...manifests].filter((each) => each.kind !== 'report'))
      for (const [input, key] of Object.entries(inputsOf(user)))
        users.set(key, [...(users.get(key) ?? []), { user, input }]);
    const [row] = rows ?? [];
    const root = await this.#stepOf(manifest, row);
    const waiting: Used[] = [{ step: root, manifest, rows, depth: this.options.depth }];
    const expanded = new Set([root.artifact]);
    // Level by level, so that an artifact stands where the shortest way leads, which knows most of its rows.
    for (let used = waiting.shift(); used; used = waiting.shift()) {
      if (used.depth <= 1) continue;
      for (const { user, input } of users.get(used.step.artifact) ?? []) {
        const next = await this.#use(user, input, used, target.test);
        if (!next) continue;
        used.step.next.push(next.step);
        if (expanded.has(next.step.artifact)) next.step.notes.push(TOLD);
        else waiting.push(next);
        expanded.add(next.step.artifact);
      }
    }
    return [root];
  }

  /** The manifest under a key. @throws StageFailure where the store has none. */
  async manifest(key: string): Promise<Manifest> {
    const manifest = await this.#find(key);
    if (manifest) return manifest;
    throw new StageFailure('InvalidExperiment', `this store holds no artifact ${key}`);
  }

  /** All that led to artifacts, by key alone. */
  async closure(keys: readonly string[]): Promise<Map<string, Manifest>> {
    const all = new Map<string, Manifest>();
    for (let level = [...new Set(keys)]; level.length > 0;) {
      const found = await Promise.all(level.map(async (key) => [key, await this.#find(key)] as const));
      for (const [key, manifest] of found) if (manifest) all.set(key, manifest);
      const next = found.flatMap(([, manifest]) => (manifest ? Object.values(inputsOf(manifest)) : []));
      level = [...new Set(next)].filter((key) => !all.has(key));
    }
    return all;
  }

  /** Every manifest of the store: a listing, and a read for each. */
  async everything(): Promise<Map<string, Manifest>> {
    const keys = (await this.store.list('artifacts/')).map(({ key }) => key);
    const all = new Map<string, Manifest>();
    await eachOf(keys.length, READS, async (at) => {
      const manifest = await this.#find(keys[at]!);
      if (manifest) all.set(keys[at]!, manifest);
    });
    return all;
  }

  /** The rows of a target; none where its kind has no rows. @throws StageFailure where there is no such row. */
  async rowsOf(manifest: Manifest, { key, row: id, where }: Target, most = this.options.rows): Promise<unknown[]> {
    const kind = KINDS[manifest.kind];
    if (!kind.row) {
      if (id === undefined) return [];
      throw new StageFailure('InvalidExperiment', `${key} is of kind '${manifest.kind}' and has no rows`);
    }
    const members = Object.entries(where ?? {});
    const rows = await this.#scan(manifest, kind, {
      pick: (row) =>
        (id === undefined || kind.id?.(row) === id) &&
        members.every(([name, value]) => (row as Record<string, unknown>)[name] === value) &&
        (id !== undefined || where !== undefined || (kind.example?.(row) ?? true)),
      ...(id === undefined ? {} : { needles: [id] }),
      most: id === undefined ? most : 1,
    });
    if (rows.length > 0 || (id === undefined && where === undefined)) return rows;
    const what = id === undefined ? `row of ${members.map(([, value]) => value).join(', ')}` : `row ${id}`;
    throw new StageFailure('InvalidExperiment', `${key} has no ${what}`);
  }

  #find(key: string): Promise<Manifest | undefined> {
    const found = this.#manifests.get(key) ?? this.store.findManifest(key);
    this.#manifests.set(key, found);
    return found;
  }

  async #step(
    manifest: Manifest,
    row: unknown,
    { depth, brief = false, user, notes = [] }: { depth: number; brief?: boolean; user?: unknown; notes?: string[] },
  ): Promise<Step> {
    const kind = KINDS[manifest.kind];
    const step = await this.#stepOf(manifest, row);
    step.notes.unshift(...notes);
    const told = `${step.artifact} ${step.row ?? ''}`;
    if (this.#told.has(told)) return { ...step, notes: [...step.notes, TOLD] };
    this.#told.add(told);
    if (depth <= 1) return step;
    const inputs = new Map(Object.entries(inputsOf(manifest)));
    const next: Step[] = [];
    for (const link of kind.links) {
      for (const [name, key] of [...inputs].filter(([input]) => link.input.test(input))) {
        inputs.delete(name);
        if (row !== undefined && link.named && link.named(row) !== name) continue;
        if (brief && !link.brief) continue;
        // One after the other, because a step that was told is not told again.
        // What adapters were merged from is the round itself, and not a model that it began with.
        const { brief: _, ...whole } = link;
        const isRound = !brief && name === 'policy' && manifest.stage === 'reinforcement.merge';
        next.push(...(await this.#inputs(key, isRound ? whole : link, row, depth - 1)));
      }
    }
    if (row === undefined || !kind.part) return { ...step, next };
    const { what, shows } = kind.part;
    return { ...step, next: [{ ...step, what, shows: shows(row, user), notes: [], next }] };
  }

  async #inputs(key: string, link: Link<unknown>, row: unknown, depth: number): Promise<Step[]> {
    const manifest = await this.manifest(key);
    const kind = KINDS[manifest.kind];
    if (link.brief) return [await this.#step(manifest, undefined, { depth, brief: manifest.kind === 'policy' })];
    if (!kind.row) return [await this.#step(manifest, undefined, { depth })];
    const notes: string[] = [];
    let rows: unknown[] = [];
    const { of, is } = link;
    if (of && is && row !== undefined) {
      const wanted = new Set(of(row));
      const needles = link.needles?.(row) ?? [...wanted];
      const pick = (each: unknown): boolean => wanted.has(is(each));
      rows = await this.#scan(manifest, kind, { pick, needles, most: link.most ?? this.options.rows });
      if (rows.length === 0) notes.push('an input of the artifact, which decides nothing of that row: an example');
    }
    if (rows.length === 0) rows = await this.rowsOf(manifest, { key });
    if (rows.length === 0) return [await this.#step(manifest, undefined, { depth })];
    if (notes.length === 0 && !(of && row !== undefined) && (manifest.rows ?? 0) > rows.length)
      notes.push(`${rows.length} of ${manifest.rows} rows`);
    const steps: Step[] = [];
    for (const each of rows) steps.push(await this.#step(manifest, each, { depth, user: row, notes }));
    return steps;
  }

  /** How an artifact uses rows of another one; undefined where it uses none of them. */
  async #use(
    user: Manifest,
    input: string,
    { rows, depth }: Used,
    test: number | undefined,
  ): Promise<Used | undefined> {
    const kind = KINDS[user.kind];
    const link = kind.links.find((each) => each.input.test(input));
    if (!link) return undefined;
    const { of, is, named } = link;
    let matched: unknown[] | undefined;
    if (kind.row && of && is && rows) {
      const wanted = new Set(rows.map((row) => is(row)));
      const pick = (row: unknown): boolean => of(row).some((each) => wanted.has(each));
      matched = await this.#scan(user, kind, { pick, most: Infinity });
    } else if (kind.row && named)
      matched = await this.#scan(user, kind, { pick: (row) => named(row) === input, most: Infinity });
    if (matched?.length === 0) return undefined;
    const step = await this.#stepOf(user, matched?.length === 1 ? matched[0] : undefined);
    if (matched) {
      step.rows = matched.length;
      const ids = matched.slice(0, this.options.rows).map((row) => kind.id?.(row) ?? '');
      if (matched.length > 1) step.notes.push(`such as ${ids.join(', ')}`);
      const verdicts = test === undefined ? [] : matched.flatMap((row) => kind.outcomes?.(row)[test - 1] ?? []);
      if (verdicts.length > 0) step.notes.push(`test ${test}: ${verdictsText(verdicts)}`);
    }
    return { step, manifest: user, rows: matched, depth: depth - 1 };
  }

  /** A step without what comes next. */
  async #stepOf(manifest: Manifest, row: unknown): Promise<Step> {
    const kind = KINDS[manifest.kind];
    const { key } = refOf(manifest);
    const { stage, producer, createdAt, config } = manifest;
    const refs = Object.fromEntries(
      Object.entries(manifest.inputs).flatMap(([name, input]) => {
        const { data } = ArtifactRef.safeParse(input);
        return data ? [[name, data]] : [];
      }),
    );
    const pruned = manifest.kind === 'policy' ? await this.store.prunedFailure({ key }) : undefined;
    const round = roundOf(manifest);
    return {
      what: round === undefined ? kind.what : `${kind.what} of round ${round}`,
      artifact: key,
      kind: manifest.kind,
      ...(row !== undefined && kind.id ? { row: kind.id(row) } : {}),
      ...(row !== undefined && kind.shows ? { shows: kind.shows(row) } : {}),
      code: {
        stage,
        version: codeVersionOf(manifest, refs) ?? null,
        package: producer.package,
        ...(producer.commit ? { commit: producer.commit } : {}),
      },
      by: { workflowId: producer.workflowId, activity: producer.activity, at: createdAt },
      configuration: config,
      notes: pruned ? ['its files were pruned, its manifest stays'] : [],
      next: [],
    };
  }

  /** @throws StageFailure `ArtifactPruned` where the rows are gone. */
  async #scan(manifest: Manifest, { row: schema }: Kind<unknown>, { pick, needles, most }: Search): Promise<unknown[]> {
    const texts = needles?.map((needle) => JSON.stringify(needle).slice(1, -1));
    const found: unknown[] = [];
    for (const file of rowFiles(manifest)) {
      for await (const lines of linesOf(await this.#fetch(manifest, file)))
        for (const line of lines) {
          if (texts && !texts.some((text) => line.includes(text))) continue;
          const row = (schema as ZodType).parse(JSON.parse(line));
          if (!pick(row)) continue;
          found.push(row);
          if (found.length >= most) return found;
        }
    }
    return found;
  }

  async #fetch(manifest: Manifest, file: Manifest['files'][number]): Promise<string> {
    try {
      return await this.store.fetch(file);
    } catch (error) {
      throw (await this.store.prunedFailure(refOf(manifest))) ?? error;
    }
  }
}

/** Manifests of the store that are read at once. */
const READS = 64;

/** Keys of the inputs of an artifact by their names. */
function inputsOf({ inputs, metrics }: Pick<Manifest, 'inputs' | 'metrics'>): Record<string, string> {
  const refs = Object.entries(inputs).flatMap(([name, input]) => {
    const { data } = ArtifactRef.safeParse(input);
    return data ? [[name, data.key]] : [];
  });
  // The replies of an endpoint are made with the questions, and not before them.
  const replies = metrics['repliesArtifact'];
  return Object.fromEntries([...refs, ...(typeof replies === 'string' ? [['replies', replies]] : [])]) as Record<
    string,
    string
  >;
}

function verdictsText(verdicts: readonly TestOutcome[]): string {
  return outcomesText(verdicts).replace(/^\d+ tests: /, '');
}

/** The RL round of an artifact. */
function roundOf({ config }: Pick<Manifest, 'config'>): number | undefined {
  const round = typeof config === 'object' && config !== null && !Array.isArray(config) ? config['round'] : undefined;
  return typeof round === 'number' ? round : undefined;
}
