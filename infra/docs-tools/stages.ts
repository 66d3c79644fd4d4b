/**
 * `npm run stages`: writes the two modules that name every stage, from the list of stages in the contract.
 *
 * A workflow is an export and an activity is an import, so each needs a line in a module. The list gives the lines.
 */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { STAGE_LIST } from '../../workflows/contract/index.js';
import { root } from '../setup/paths.mjs';

const NOTE = '// Made by `npm run stages` from the list of stages in workflows/contract/stages/index.ts.';

type Stage = (typeof STAGE_LIST)[number];

/** The room and the module of a stage: `rewardModel` lives in `reward-model`. */
const roomOf = ({ name }: Stage): string => name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
const asks = ({ steps }: Stage): boolean => 'request' in steps;

/** The shape of a stage's workflow; a stage with steps of its own has a module of its own. */
function shapeOf({ steps }: Stage): 'shardedStage' | 'trainingStage' | undefined {
  if ('seal' in steps) return 'shardedStage';
  return Object.keys(steps).join() === 'train' ? 'trainingStage' : undefined;
}

/** A value as the source of a TypeScript object. */
function literal(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(literal).join(', ')}]`;
  if (typeof value === 'string') return `'${value}'`;
  if (typeof value !== 'object' || value === null) return String(value);
  return `{ ${Object.entries(value)
    .map(([name, member]) => `${name}: ${literal(member)}`)
    .join(', ')} }`;
}

function documented(stage: Stage): string {
  const { name, does, example } = stage;
  const { inputs, config }: { inputs: object; config?: unknown } = example;
  return `/**
 * The stage \`${name}\`: ${does}.
 *
 * @throws ApplicationFailure \`InvalidExperiment\` with all mistakes of the input.
 * @example
 * \`\`\`ts
 * import { Client, Connection } from '@temporalio/client';
 * import type { ${name} } from 'acecoder-temporal/workflows';
 *
 * const client = new Client({ connection: await Connection.connect() });
 * const { ref, metrics } = await client.workflow.execute<typeof ${name}>('${name}', {
 *   taskQueue: 'acecoder',
 *   workflowId: '${roomOf(stage)}-1',
 *   args: [{
 *     inputs: {
${Object.entries(inputs)
  .map(([input, value]) => ` *       ${input}: ${literal(value)},`)
  .join('\n')}
 *     },
 *     config: ${literal(config ?? {})},
 *   }],
 * });
 * \`\`\`
 */`;
}

/** Both modules by their paths. */
export function stageModules(): Record<string, string> {
  const shaped = STAGE_LIST.filter((stage) => shapeOf(stage) !== undefined);
  const own = STAGE_LIST.filter((stage) => shapeOf(stage) === undefined);
  const asking = STAGE_LIST.filter(asks);
  return {
    'workflows/stages.ts': `${NOTE}
/** The workflows of the stages, by their names. */
import { shardedStage, trainingStage } from './lib/stage-workflows.js';

${own.map((stage) => `export { ${stage.name} } from './${roomOf(stage)}.js';`).join('\n')}

${shaped
  .map((stage) => `${documented(stage)}\nexport const ${stage.name} = ${shapeOf(stage)}('${stage.name}');`)
  .join('\n\n')}
`,
    'activities/stages.ts': `${NOTE}
/** The activities of the stages, and what they ask endpoints. */
${[...STAGE_LIST]
  .sort((a, b) => (roomOf(a) < roomOf(b) ? -1 : 1))
  .map((stage) => {
    const names = [`${stage.name}Activities`, ...(asks(stage) ? [`${stage.name}Asks`] : [])];
    return `import { ${names.join(', ')} } from './${roomOf(stage)}/activities.js';`;
  })
  .join('\n')}
import type { Services } from './runtime/services.js';

export const stageActivities = (services: Services): object[] => [
${STAGE_LIST.map(({ name }) => `  ${name}Activities(services),`).join('\n')}
];

export const stageAsks = {
${asking.map(({ name }) => `  ${name}: ${name}Asks,`).join('\n')}
};
`,
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const [path, text] of Object.entries(stageModules())) {
    writeFileSync(join(root, path), text);
    console.log(path);
  }
}
