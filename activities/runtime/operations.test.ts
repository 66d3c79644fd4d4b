/** The table of operations, and the page that tells a second judge what to speak. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { root } from '../../infra/setup/paths.mjs';
import { VERDICTS } from '../../workflows/contract/index.js';
import { PROCESSES } from './operations.js';

type JsonSchema = z.core.JSONSchema.JSONSchema;

const page = readFileSync(join(root, 'workers/sandbox/PROTOCOL.md'), 'utf8');

/** The first column of each table below a heading, up to the next heading of that level or above. */
function tablesBelow(heading: string): string[][] {
  const level = /^#+/.exec(heading)![0].length;
  const [, below = ''] = page.split(`\n${heading}\n`);
  const section = below.split(new RegExp(`\n#{1,${level}} `))[0]!.split('\n#### ')[0]!;
  return section
    .split(/\n(?!\|)/)
    .map((block) => [...block.matchAll(/^\| `([^`]+)` \|/gm)].map(([, name]) => name!))
    .filter((names) => names.length > 0);
}

/** Paths of all fields of a schema, as the page writes them. */
function fieldsOf(schema: JsonSchema, prefix = ''): string[] {
  const inner = [...(schema.anyOf ?? schema.oneOf ?? []), ...(schema.items ? [schema.items] : [])] as JsonSchema[];
  const suffix = schema.items ? '[]' : '';
  const fields = Object.entries(schema.properties ?? {}).flatMap(([name, value]) => {
    const path = `${prefix}${prefix ? '.' : ''}${name}${schema.required?.includes(name) ? '' : '?'}`;
    return [path, ...fieldsOf(value as JsonSchema, path)];
  });
  return [...new Set([...fields, ...inner.flatMap((each) => fieldsOf(each, `${prefix}${suffix}`))])];
}

const jsonSchema = (schema: z.ZodType): JsonSchema => {
  const { $defs: _, ...document } = z.toJSONSchema(schema.clone(), { reused: 'inline', metadata: z.registry() });
  return document;
};

/** Fields that the page describes by a reference to the fields of `judge`. */
const AS_IN_JUDGE: Record<string, RegExp> = {
  judge: /^references\?\[\]/,
  limits: /^(jobs\[\]|limits\?\.)/,
  mutants: /^(jobs\[\]|limits\?\.)/,
  answers: /^(jobs\[\]|limits\?\.)/,
  evaluate: /^(jobs\[\]\.limits\?\.|limits\?\.)/,
  run: /^(jobs\[\]\.limits\?\.|limits\?\.)/,
};

describe('the judge protocol', () => {
  it('has a section for each operation of the sandbox', () => {
    const [, operations = ''] = page.split('\n## Operations\n');
    const sections = [...operations.matchAll(/^### (.+)$/gm)].map(([, name]) => name);
    expect(sections).toEqual(Object.keys(PROCESSES.sandbox));
  });

  it.each(Object.entries(PROCESSES.sandbox))('lists every field of %s and no other', (name, { params, result }) => {
    const tables = tablesBelow(`### ${name}`);
    const described = AS_IN_JUDGE[name];
    const wanted = fieldsOf(jsonSchema(params)).filter((path) => !described?.test(path));
    const given = wanted.length > 0 ? tables.shift() : [];
    expect([...given!].sort()).toEqual([...wanted].sort());
    expect([...tables.shift()!].sort()).toEqual(fieldsOf(jsonSchema(result)).sort());
    expect(tables).toEqual([]);
  });

  it('lists every verdict word', () => {
    expect(tablesBelow('#### Verdict words')).toEqual([[...VERDICTS]]);
  });
});
