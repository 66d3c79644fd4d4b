/**
 * The data card of an exported data set, in the form of the Hugging Face hub, out of the manifests of what it was made
 * of.
 */
import { figuresOf, type ArtifactRef, type Manifest } from '../../workflows/contract/index.js';

/** Markdown with a YAML head: what the rows are, how many, out of which artifacts, by which configuration and code. */
export function dataCard(
  { name, format, rows }: { name: string; format: string; rows: number },
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
    'task_categories: [text-generation]',
    'tags: [code]',
    'configs:',
    '- config_name: default',
    '  data_files: data.parquet',
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
