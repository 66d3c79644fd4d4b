/**
 * The data card of an exported data set, in the form of the Hugging Face hub, out of the manifests of what it was made
 * of.
 */
import { figuresOf, type ArtifactRef, type Manifest } from '../../workflows/contract/index.js';

/** A column as the head of a card says it. */
type Feature = { name: string; dtype: string } | { name: string; sequence: string } | { name: string; list: Feature[] };

const texts = (...names: string[]): Feature[] => names.map((name) => ({ name, dtype: 'string' }));

/** Columns of the published data sets, in the order of their cards. The Parquet file has the same. */
const FEATURES: Readonly<Record<string, Feature[]>> = {
  aceCodePair300K: texts('instruction', 'input', 'chosen', 'rejected', 'id'),
  aceCode87K: [
    ...texts('id', 'source', 'question'),
    { name: 'test_cases', sequence: 'string' },
    {
      name: 'inferences',
      list: [
        ...texts('completion'),
        { name: 'completion_id', dtype: 'int64' },
        ...texts('model_name'),
        { name: 'pass_rate', dtype: 'float64' },
      ],
    },
    { name: 'context_messages', list: texts('content', 'role') },
  ],
};

/** Columns as lines of YAML. */
function featureLines(features: readonly Feature[], indent: string): string[] {
  return features.flatMap((feature) => [
    `${indent}- name: ${feature.name}`,
    ...('list' in feature
      ? [`${indent}  list:`, ...featureLines(feature.list, `${indent}  `)]
      : [`${indent}  ${'dtype' in feature ? `dtype: ${feature.dtype}` : `sequence: ${feature.sequence}`}`]),
  ]);
}

/**
 * Markdown with a YAML head by the conventions of the hub: what the rows are, how many, where they stand, and out of
 * which artifacts, by which configuration and code they were made.
 *
 * @param about `bytes` is the size of `file`.
 */
export function dataCard(
  { name, format, rows, bytes, file }: { name: string; format: string; rows: number; bytes: number; file: string },
  inputs: Record<string, ArtifactRef>,
  manifests: Record<string, Manifest>,
): string {
  const columns =
    format === 'aceCodePair300K'
      ? 'AceCodePair-300K (instruction, input, chosen, rejected, id)'
      : 'AceCode-87K (id, source, question, test_cases, inferences, context_messages)';
  return [
    '---',
    `pretty_name: ${JSON.stringify(name)}`,
    'task_categories:',
    '- text-generation',
    'tags:',
    '- code',
    'dataset_info:',
    '  features:',
    ...featureLines(FEATURES[format] ?? [], '  '),
    '  splits:',
    '  - name: train',
    `    num_examples: ${rows}`,
    `  download_size: ${bytes}`,
    'configs:',
    '- config_name: default',
    '  data_files:',
    '  - split: train',
    `    path: ${file.replace(/-\d{5}-of-\d{5}\.parquet$/, '-*')}`,
    '---',
    `# ${name}`,
    '',
    `${rows} rows with the columns of ${columns}, made by acecoder-temporal after AceCoder (arXiv 2502.01718). ` +
      `The licence is that of the seeds, and of what the models that wrote it allow.`,
    '',
    ...Object.entries(inputs).flatMap(([role, ref]) => {
      const { stage, metrics, config, producer, inputs: before, createdAt } = manifests[role]!;
      return [
        `## ${role}`,
        '',
        `- artifact \`${ref.key}\`, digest \`${ref.digest}\`, of stage \`${stage}\`, ${createdAt.slice(0, 10)}`,
        `- made by ${producer.package}${producer.commit ? ` at commit ${producer.commit}` : ''}, workflow ` +
          `\`${producer.workflowId}\``,
        ...(figuresOf(metrics, 12) ? [`- ${figuresOf(metrics, 12)}`] : []),
        ...Object.entries(before).map(
          ([from, digest]) =>
            `- made from ${from} \`${typeof digest === 'string' ? digest : (digest as { digest: string }).digest}\``,
        ),
        '',
        '```json',
        JSON.stringify(config, null, 2),
        '```',
        '',
      ];
    }),
  ].join('\n');
}
