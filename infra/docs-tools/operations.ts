/** `npm run docs:operations`: writes workers/operations.py, the table of operations as Python types. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { NO_METRICS, OPERATIONS, PROCESSES, type Operations } from '../../activities/runtime/operations.js';
import { root } from '../setup/paths.mjs';

/** Sources of classes and aliases by name. */
type Declarations = Map<string, string>;

type JsonSchema = z.core.JSONSchema.JSONSchema;

/** The generated file. */
export const OPERATIONS_FILE = 'workers/operations.py';

const HEADER = `"""The operations between Node and Python, as types. Generated from activities/runtime/operations.ts by
\`npm run docs:operations\`: change that table and not this file.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NotRequired, TypedDict

from serve import Call, Operation`;

/**
 * Python source with a \`TypedDict\` for the params, the progress metrics and the result of each operation, and for
 * each
 * process a function that takes all of its operations and returns them by name.
 *
 * @throws Error for a schema that has no Python type here.
 */
export function operationsFile(): string {
  const classes: Declarations = new Map();
  for (const [name, { params, progress, result }] of Object.entries<Operations[string]>(OPERATIONS)) {
    const prefix = capitalised(name);
    declare(classes, `${prefix}Params`, params, 'input');
    if (progress !== NO_METRICS) declare(classes, `${prefix}Progress`, progress, 'output', true);
    declare(classes, `${prefix}Result`, result, 'output');
  }
  const processes = Object.entries(PROCESSES).map(([process, operations]) => processFunction(process, operations));
  // Aliases are evaluated where they stand; what classes name is not.
  const isAlias = (source: string): boolean => !source.startsWith('class ');
  const sources = [...classes.values()];
  const ordered = [...sources.filter((source) => !isAlias(source)), sources.filter(isAlias).join('\n')];
  return `${[HEADER, ...ordered, ...processes].join('\n\n\n')}\n`;
}

function declare(classes: Declarations, name: string, schema: z.ZodType, io: 'input' | 'output', partial = false) {
  const document: JsonSchema = z.toJSONSchema(schema, { io, reused: 'inline' });
  for (const [id, definition] of Object.entries(document.$defs ?? {}))
    if (!classes.has(id)) typeOf(definition, id, classes, id);
  typeOf(document, name, classes, name, partial);
}

/** The Python type of a schema. Objects become classes of their own, named by their place or by their id. */
function typeOf(schema: JsonSchema, place: string, classes: Declarations, name?: string, partial = false): string {
  if (schema.$ref) return schema.$ref.replace('#/$defs/', '');
  const alternatives = schema.anyOf ?? schema.oneOf;
  if (alternatives) {
    const union = alternatives.map((each, at) => typeOf(each, `${place}${at}`, classes)).join(' | ');
    if (name) classes.set(name, `${name} = ${union}`);
    return name ?? union;
  }
  if (schema.enum) {
    const values = schema.enum.map((value) => JSON.stringify(value));
    if (!name) return `Literal[${values.join(', ')}]`;
    classes.set(name, [`${name} = Literal[`, ...values.map((value) => `    ${value},`), ']'].join('\n'));
    return name;
  }
  if (schema.const !== undefined) return `Literal[${JSON.stringify(schema.const)}]`;
  if (Array.isArray(schema.type)) {
    const types: string[] = schema.type.map((type: string) =>
      typeOf({ ...schema, type } as JsonSchema, place, classes),
    );
    return types.join(' | ');
  }
  switch (schema.type) {
    case 'string':
      return 'str';
    case 'integer':
      return 'int';
    case 'number':
      return 'float';
    case 'boolean':
      return 'bool';
    case 'null':
      return 'None';
    case 'array': {
      const item = typeOf(schema.items as JsonSchema, `${place}Item`, classes);
      return schema.readOnly ? `Sequence[${item}]` : `list[${item}]`;
    }
    case 'object':
      if (!schema.properties) {
        return `dict[str, ${typeOf(schema.additionalProperties as JsonSchema, `${place}Value`, classes)}]`;
      }
      classes.set(place, typedDict(place, schema, classes, partial));
      return place;
    default:
      throw new Error(`${place} has no Python type: ${JSON.stringify(schema)}`);
  }
}

function typedDict(name: string, schema: JsonSchema, classes: Declarations, partial: boolean): string {
  const required = new Set(schema.required);
  const fields = Object.entries(schema.properties ?? {}).flatMap(([field, value]) => {
    const definition = value as JsonSchema;
    const type = typeOf(definition, `${name.replace(/(Params|Result)$/, '')}${capitalised(field)}`, classes);
    const line = `    ${field}: ${required.has(field) || partial ? type : `NotRequired[${type}]`}`;
    return definition.description ? [line, `    """${capitalised(definition.description)}."""`] : [line];
  });
  // Filled after its fields, so that a class comes behind those that it names.
  classes.delete(name);
  const header = `class ${name}(TypedDict${partial && fields.length > 0 ? ', total=False' : ''}):`;
  return [header, ...(fields.length > 0 ? fields : ['    pass'])].join('\n');
}

function processFunction(process: string, operations: Operations): string {
  const names = Object.keys(operations);
  return [
    `def ${process}_operations(`,
    '    *,',
    ...names.map((name) => {
      const prefix = capitalised(name);
      return `    ${name}: Callable[[${prefix}Params, Call], ${prefix}Result],`;
    }),
    ') -> dict[str, Operation]:',
    `    """The operations of the process \`${process}\`, by name."""`,
    `    return {`,
    ...names.map((name) => `        "${name}": ${name},`),
    '    }',
  ].join('\n');
}

function capitalised(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

if (process.argv[1] === import.meta.filename) {
  writeFileSync(join(root, OPERATIONS_FILE), operationsFile());
  console.log(OPERATIONS_FILE);
}
