/** `npm run docs:config`: writes docs/configuration.md and the JSON Schemas beside it, from the schemas of the contract. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import {
  ExperimentFile,
  PRESETS,
  STAGES,
  WorkflowInputs,
  unwrapped,
  type WorkflowName,
} from '../../workflows/contract/index.js';
import { root } from '../setup/paths.mjs';

/** What an editor completes for each workflow: an experiment file may leave out what its preset gives. */
const FILES: Record<WorkflowName, z.ZodType> = { ...WorkflowInputs, experiment: ExperimentFile };

type JsonSchema = z.core.JSONSchema.BaseSchema;

/** One field of a configuration, as a row of the reference. */
interface Field {
  path: string;
  type: string;
  default: string;
  meaning: string;
}

/** The generated files by their paths in the repository. */
export function referenceFiles(): Record<string, string> {
  const schemas = Object.entries(FILES).map(
    ([workflow, schema]) =>
      [`docs/${workflow}.schema.json`, `${JSON.stringify(jsonSchema(workflow, schema), null, 2)}\n`] as const,
  );
  return { 'docs/configuration.md': page(), ...Object.fromEntries(schemas) };
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
    ...alternatives.flatMap((each) => fieldsOf(each, alternatives.length > 1 ? `${path} (${kindOf(each)})` : path)),
    ...(items ? fieldsOf(items, `${path}[]`) : []),
    ...(values ? fieldsOf(values, `${path}.<name>`) : []),
  ];
}

/** What tells an alternative from the others: its kind, and where two share it the field that the other lacks. */
function kindOf({ properties }: JsonSchema): string {
  const kind = properties?.['kind'] as JsonSchema | undefined;
  const names = kind?.const !== undefined ? [kind.const] : (kind?.enum ?? []);
  const form =
    properties && 'digest' in properties
      ? ' reference'
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

function page(): string {
  const experiment = jsonSchema('experiment', FILES.experiment);
  const stageFields = (stage: string): Field[] => {
    const stages = (experiment.properties!['stages'] as JsonSchema).properties![stage] as JsonSchema;
    return fieldsOf(stages);
  };
  const { stages: _stages, ...top } = experiment.properties!;
  const alone = (workflow: WorkflowName): Field[] => {
    const { config: _config, ...properties } = jsonSchema(workflow, FILES[workflow]).properties!;
    return fieldsOf({ ...jsonSchema(workflow, FILES[workflow]), properties });
  };
  const isStage = (workflow: string): boolean => (STAGES as readonly string[]).includes(workflow);
  const others = (Object.keys(FILES) as WorkflowName[]).filter(
    (workflow) => workflow !== 'experiment' && !isStage(workflow),
  );
  return (
    [
      '# Configuration',
      '<!-- Written by `npm run docs:config` from workflows/contract. -->',
      'Every field of every input, from the schemas that check them. What is not listed is refused. JSON Schemas for editors stand beside this page; a file names its own with ' +
        '`"$schema"`, which the workflows ignore. What bad inputs print: [bad-input.md](bad-input.md).',
      '## Experiment',
      `Type \`experiment\`, [experiment.schema.json](experiment.schema.json). \`extends\` names a preset (${Object.keys(
        PRESETS,
      )
        .map((name) => `\`${name}\``)
        .join(', ')}) whose values stand where the file gives none: objects ` +
        'merge member by member, lists and objects of another `kind` replace.',
      table(fieldsOf({ ...experiment, properties: top })),
      ...STAGES.flatMap((stage) => [`### stages.${stage}`, table(stageFields(stage))]),
      '## A stage alone',
      'A stage takes `{"inputs": {...}, "config": {...}}`; `config` is what stands under `stages.<stage>` of an experiment.',
      ...STAGES.flatMap((stage) => [
        `### ${stage}`,
        `[${stage}.schema.json](${stage}.schema.json)`,
        table(alone(stage)),
      ]),
      '## Other workflows',
      ...others.flatMap((workflow) => [
        `### ${workflow}`,
        `[${workflow}.schema.json](${workflow}.schema.json)`,
        table(fieldsOf(jsonSchema(workflow, unwrapped(FILES[workflow])))),
      ]),
    ].join('\n\n') + '\n'
  );
}

if (process.argv[1] === import.meta.filename) {
  mkdirSync(join(root, 'docs'), { recursive: true });
  const files = referenceFiles();
  for (const [path, text] of Object.entries(files)) writeFileSync(join(root, path), text);
  console.log(Object.keys(files).join('\n'));
}
