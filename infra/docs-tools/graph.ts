/** `npm run graph`: writes the graph of imports between rooms into ARCHITECTURE.md, from the code as it is. */
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { root } from '../setup/paths.mjs';

interface Cruise {
  modules: { source: string; dependencies: { resolved: string; dependencyTypes: string[] }[] }[];
}

/** The room that a module belongs to; undefined for what is not ours. */
function roomOf(path: string): string | undefined {
  const rooms =
    /^(workflows\/contract|activities\/[^/.]+|workers\/plugins|infra\/[^/.]+|workflows|activities|workers)\//;
  return rooms.exec(path)?.[1];
}

const cruise = JSON.parse(
  execFileSync(
    join(root, 'node_modules/.bin/depcruise'),
    [
      'workflows',
      'activities',
      'workers',
      'infra',
      '--config',
      '.dependency-cruiser.cjs',
      '--exclude',
      '\\.test\\.ts$|node_modules',
      '--output-type',
      'json',
    ],
    { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024, stdio: ['ignore', 'pipe', 'ignore'] },
  ),
) as Cruise;

/** Rooms of stages stand for themselves together: their imports follow one rule. */
const STAGES = new RegExp(
  `^activities/(${[
    ...['synthesis', 'filtering', 'sampling', 'preferences', 'reward-model', 'fine-tuning', 'reinforcement'],
    ...['evaluation', 'experiment', 'models', 'dataset-refresh', 'garbage-collection', 'report'],
  ].join('|')})$`,
);
const edges = new Map<string, boolean>();
for (const { source, dependencies } of cruise.modules) {
  for (const { resolved, dependencyTypes } of dependencies) {
    const [from, to] = [source, resolved].map((path) => roomOf(path)?.replace(STAGES, 'activities/<stage>')) as [
      string | undefined,
      string | undefined,
    ];
    if (!from || !to || from === to) continue;
    const key = `${from} ${to}`;
    edges.set(key, (edges.get(key) ?? true) && dependencyTypes.includes('type-only'));
  }
}
const id = (room: string): string => room.replaceAll(/[^a-z]/g, '_');
const rooms = [...new Set([...edges.keys()].flatMap((edge) => edge.split(' ')))].sort();
/** Rooms that a room imports, behind the room and its kind of arrow: a line of the graph holds all of them. */
const arrows = new Map<string, string[]>();
for (const [edge, typeOnly] of edges) {
  const [from, to] = edge.split(' ') as [string, string];
  const key = `${id(from)} ${typeOnly ? '-.->' : '-->'}`;
  arrows.set(key, [...(arrows.get(key) ?? []), id(to)]);
}
const lines = [
  'flowchart TD',
  ...rooms.map((room) => `  ${id(room)}["${room.replace('<', '&lt;').replace('>', '&gt;')}"]`),
  ...[...arrows].sort(([a], [b]) => (a < b ? -1 : 1)).map(([from, to]) => `  ${from} ${to.sort().join(' & ')}`),
];
const path = join(root, 'ARCHITECTURE.md');
const drawn = `\`\`\`mermaid\n${lines.join('\n')}\n\`\`\``;
const graph = `<!-- graph:start -->\n${drawn}\n\nDotted: types only.\n<!-- graph:end -->`;
writeFileSync(
  path,
  readFileSync(path, 'utf8').replace(/<!-- graph:start -->[\s\S]*<!-- graph:end -->/, () => graph),
);
console.log(`${rooms.length} rooms, ${edges.size} arrows`);
