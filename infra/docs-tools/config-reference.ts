/** `npm run docs:config`: writes docs/reference/configuration and docs/reference/schemas from the contract. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import {
  ExperimentFile,
  Fork,
  PRESETS,
  STAGES,
  WorkflowInputs,
  unwrapped,
  type StageName,
  type WorkflowName,
} from '../../workflows/contract/index.js';
import { root } from '../setup/paths.mjs';

/**
 * What an editor completes for each workflow: an experiment file may leave out what its preset gives, or what the
 * experiment has that it forks.
 */
const FILES: Record<WorkflowName, z.ZodType> = {
  ...WorkflowInputs,
  experiment: ExperimentFile.extend({
    fork: Fork.optional().describe(
      'another experiment that is gone on with; only `name` stands next to it, and may be left out',
    ),
  }),
};

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** One field of a configuration, as a row of the reference. */
interface Field {
  path: string;
  type: string;
  default: string;
  meaning: string;
}

/** Folders of the generated files in the repository. */
const PAGES = 'docs/reference/configuration';
const SCHEMAS = 'docs/reference/schemas';

/** Path of a workflow's JSON Schema in the repository. */
export function schemaPath(workflow: string): string {
  return `${SCHEMAS}/${workflow}.schema.json`;
}

/** The generated files by their paths in the repository. */
export function referenceFiles(): Record<string, string> {
  const workflows = Object.entries(FILES) as [WorkflowName, z.ZodType][];
  return Object.fromEntries([
    ...workflows.map(([workflow, schema]) => [
      schemaPath(workflow),
      `${JSON.stringify(jsonSchema(workflow, schema), null, 2)}\n`,
    ]),
    ...workflows.map(([workflow]) => [`${PAGES}/${workflow}.md`, page(workflow)]),
    [`${PAGES}/index.md`, index(workflows.map(([workflow]) => workflow))],
  ]) as Record<string, string>;
}

function jsonSchema(workflow: string, schema: z.ZodType): JsonSchema {
  const generated = z.toJSONSchema(schema, { io: 'input', reused: 'inline' });
  return { ...generated, title: `input of the workflow ${workflow}` };
}

/** Rows for the fields of a schema, depth first; an alternative of a union shows as `path (kind)`. */
export function fieldsOf(schema: JsonSchema, path = ''): Field[] {
  const alternatives = (schema.anyOf ?? schema.oneOf ?? []).filter(
    (each): each is JsonSchema => typeof each === 'object' && each.type === 'object',
  );
  const items = typeof schema.items === 'object' && !Array.isArray(schema.items) ? schema.items : undefined;
  const values = typeof schema.additionalProperties === 'object' ? schema.additionalProperties : undefined;
  return [
    ...Object.entries(schema.properties ?? {}).flatMap(([name, property]) => {
      const child = property as JsonSchema;
      const at = path === '' ? name : `${path}.${name}`;
      return [row(at, child, schema.required?.includes(name) ?? false), ...fieldsOf(child, at)];
    }),
    ...alternatives.flatMap((each) =>
      fieldsOf(each, alternatives.length > 1 ? `${path} (${kindOf(each)})`.trimStart() : path),
    ),
    ...(items ? fieldsOf(items, `${path}[]`) : []),
    ...(values ? fieldsOf(values, `${path}.<name>`) : []),
  ];
}

/** What tells an alternative from the others: its kind, and where two share it the field that the other lacks. */
function kindOf({ properties }: JsonSchema): string {
  const kind = properties?.['kind'] as JsonSchema | undefined;
  const names = kind?.const !== undefined ? [kind.const] : (kind?.enum ?? []);
  const format = properties?.['format'] as JsonSchema | undefined;
  // Inputs that are told apart by their format have no kind.
  if (names.length === 0 && format?.const !== undefined) return JSON.stringify(format.const);
  const form =
    properties && 'digest' in properties
      ? ' reference'
      : properties && 'format' in properties
        ? ' table'
        : properties && 'path' in properties && !names.includes('folder')
          ? ' file'
          : '';
  return `${names.join(', ')}${form}`;
}

function row(path: string, schema: JsonSchema, required: boolean): Field {
  const given =
    schema.default === undefined || isEmptyObject(schema.default) ? '' : `\`${JSON.stringify(schema.default)}\``;
  return { path, type: typeOf(schema), default: required ? '**needed**' : given, meaning: schema.description ?? '' };
}

function isEmptyObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.keys(value).length === 0;
}

function typeOf(schema: JsonSchema): string {
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(' \\| ');
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives) return [...new Set(alternatives.map((each) => typeOf(each)))].join(' \\| ');
  if (schema.type === 'array') return `list of ${typeOf(schema.items as JsonSchema)}`;
  const limits = [
    schema.minimum !== undefined && schema.minimum !== Number.MIN_SAFE_INTEGER ? `≥ ${schema.minimum}` : '',
    schema.exclusiveMinimum !== undefined ? `> ${schema.exclusiveMinimum}` : '',
    schema.maximum !== undefined && schema.maximum !== Number.MAX_SAFE_INTEGER ? `≤ ${schema.maximum}` : '',
  ].filter((each) => each !== '');
  return [schema.type ?? 'any', ...limits].join(' ');
}

const table = (fields: readonly Field[]): string =>
  [
    '| field | type | default | meaning |',
    '|---|---|---|---|',
    ...fields.map((field) => `| \`${field.path}\` | ${field.type} | ${field.default} | ${field.meaning} |`),
  ].join('\n');

/** What every page begins with, in sentences on lines of their own. */
const MARK = '<!-- Written by `npm run docs:config` from workflows/contract. -->';

function isStage(workflow: WorkflowName): workflow is StageName {
  return (STAGES as readonly string[]).includes(workflow);
}

/** The page of one workflow. */
function page(workflow: WorkflowName): string {
  const head = [
    `# ${workflow}`,
    MARK,
    `Input of the workflow \`${workflow}\`.\nWhat is not listed is refused.\n` +
      `Editors use its [JSON Schema](../schemas/${workflow}.schema.json).`,
  ];
  const schema = jsonSchema(workflow, unwrapped(FILES[workflow]));
  const body = workflow === 'experiment' ? experimentPage(schema) : isStage(workflow) ? stagePage(schema) : undefined;
  return `${[...head, ...(body ?? ['## Fields', table(fieldsOf(schema))])].join('\n\n')}\n`;
}

function experimentPage(schema: JsonSchema): string[] {
  const { stages: _stages, ...top } = schema.properties!;
  const presets = Object.entries(PRESETS).map(([name, { about }]) => `| \`${name}\` | ${about} |`);
  return [
    '## Fields',
    '`extends` names a [preset](#presets), whose values hold where the file gives none.\n' +
      'Objects merge member by member.\nLists, and objects of another `kind`, replace.',
    table(fieldsOf({ ...schema, properties: top })),
    '## Presets',
    ['| preset | what it is |', '|---|---|', ...presets].join('\n'),
    '## stages',
    'Settings of each stage, under its name:',
    STAGES.map((stage) => `- \`stages.${stage}\`: [${stage}](${stage}.md#settings)`).join('\n'),
  ];
}

function stagePage(schema: JsonSchema): string[] {
  const { config, ...properties } = schema.properties!;
  return [
    '## Settings',
    'Under `config` where the stage is started alone, and under `stages.<stage>` of an experiment.',
    table(fieldsOf(config as JsonSchema)),
    '## Inputs of the stage alone',
    'A stage that is started alone takes `{"inputs": {...}, "config": {...}}`.',
    table(fieldsOf({ ...schema, properties })),
  ];
}

/** The map of the pages. */
function index(workflows: readonly WorkflowName[]): string {
  const list = (names: readonly WorkflowName[]): string => names.map((name) => `- [${name}](${name}.md)`).join('\n');
  return (
    [
      '# Configuration',
      MARK,
      'Every field of every input, from the schemas that check them.\nWhat is not listed is refused.\n' +
        'A file names its JSON Schema by `"$schema"`, for editors; the workflows ignore it.\n' +
        'What wrong inputs print: [bad input](../bad-input.md).',
      '## The experiment and its stages',
      list(workflows.filter((workflow) => workflow === 'experiment' || isStage(workflow))),
      '## Other workflows',
      list(workflows.filter((workflow) => workflow !== 'experiment' && !isStage(workflow))),
    ].join('\n\n') + '\n'
  );
}

if (process.argv[1] === import.meta.filename) {
  const files = referenceFiles();
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  console.log(Object.keys(files).join('\n'));
}
