/** Model cards of trained models, in the form of the Hugging Face hub, out of manifests. */
import { ArtifactRef, figuresOf, type ArtifactKind, type Manifest } from '../../workflows/contract/index.js';
import type { ArtifactStore } from './store.js';

/**
 * Python that loads a model folder with Hugging Face transformers and uses it once. docs/how-to/results.md shows the
 * same for a reward model, and workers/runtime/tests/test_reward_model.py runs that.
 *
 * @example
 * loadingSnippet('rewardModel', 'models/rewardModel');
 */
export function loadingSnippet(kind: ArtifactKind, folder: string): string {
  const isRewardModel = kind === 'rewardModel';
  const auto = isRewardModel ? 'AutoModelForSequenceClassification' : 'AutoModelForCausalLM';
  const template = 'tokenizer.apply_chat_template(messages';
  const use = isRewardModel
    ? [
        '# The bare question and the bare program: the folder has the template that the model was trained with.',
        'messages = [{"role": "user", "content": question}, {"role": "assistant", "content": program}]',
        `inputs = ${template}, return_tensors="pt", return_dict=True)`,
        'score = model(**inputs).logits[0, 0].item()',
      ]
    : [
        'messages = [{"role": "user", "content": question}]',
        `inputs = ${template}, add_generation_prompt=True, return_tensors="pt", return_dict=True)`,
        'output = model.generate(**inputs, max_new_tokens=256)',
        'answer = tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True)',
      ];
  return [
    `from transformers import ${auto}, AutoTokenizer`,
    '',
    `folder = ${JSON.stringify(folder)}`,
    'tokenizer = AutoTokenizer.from_pretrained(folder)',
    `model = ${auto}.from_pretrained(folder)`,
    ...use,
  ].join('\n');
}

/** What a trained model started from: each training names it among its inputs. */
const STARTS = ['backbone', 'reference', 'policy'] as const;

/**
 * The manifest of the model that no stage trained, from which a trained model comes; undefined where it is no longer in
 * the store.
 *
 * @example
 * (await startModel(store, manifest))?.config; // { kind: 'hub', id: 'Qwen/Qwen2.5-Coder-0.5B-Instruct', ... }
 */
export async function startModel(
  store: Pick<ArtifactStore, 'findManifest'>,
  manifest: Manifest,
): Promise<Manifest | undefined> {
  for (let newest: Manifest | undefined = manifest; newest;) {
    if (newest.kind === 'model') return newest;
    const { inputs }: Manifest = newest;
    const before = STARTS.map((name) => ArtifactRef.safeParse(inputs[name]).data).find(Boolean);
    newest = before && (await store.findManifest(before.key));
  }
  return undefined;
}

/**
 * Markdown with a YAML head by the conventions of the hub: what the model was trained from and on, by which settings and
 * code, what came out, and how to load it from the folder of the card.
 *
 * @param name of the model, as the title says it
 * @param start manifest of the model that it was trained from, where the store has it
 * @example
 * modelCard('my-run, policy', manifest, await startModel(store, manifest));
 */
export function modelCard(name: string, manifest: Manifest, start: Manifest | undefined): string {
  const { kind, stage, stageKey, digest, inputs, config, metrics, producer, createdAt } = manifest;
  const isRewardModel = kind === 'rewardModel';
  const source = start?.config as { kind?: string; id?: string; revision?: string } | undefined;
  const figures = figuresOf(metrics, 12);
  return [
    '---',
    'library_name: transformers',
    `pipeline_tag: ${isRewardModel ? 'text-classification' : 'text-generation'}`,
    ...(source?.kind === 'hub' ? [`base_model: ${JSON.stringify(source.id)}`] : []),
    'tags:',
    '- code',
    ...(isRewardModel ? ['- reward-model'] : []),
    '---',
    `# ${name}`,
    '',
    `${isRewardModel ? 'A reward model' : 'A policy'} of stage \`${stage}\`, made by acecoder-temporal after AceCoder ` +
      '(arXiv 2502.01718).',
    `It starts from ${
      source?.kind === 'hub'
        ? `\`${source.id}\`, revision \`${source.revision}\``
        : start
          ? `a model with digest \`${start.digest}\``
          : 'a model that is no longer in the store'
    }.`,
    'Say which licence holds before you publish: it is that of the start model and of the data.',
    '',
    '## How to load it',
    '',
    '```python',
    loadingSnippet(kind, '.'),
    '```',
    '',
    '## How it was made',
    '',
    `- artifact \`${kind}/${stageKey}\`, digest \`${digest}\`, ${createdAt.slice(0, 10)}`,
    `- by ${producer.package}${producer.commit ? ` at commit ${producer.commit}` : ''}, workflow ` +
      `\`${producer.workflowId}\``,
    ...(figures ? [`- ${figures}`] : []),
    ...Object.entries(inputs).flatMap(([role, value]) => {
      const ref = ArtifactRef.safeParse(value).data;
      return ref ? [`- from ${role}: \`${ref.key}\`, digest \`${ref.digest}\``] : [];
    }),
    '',
    'Settings that decide what it learns:',
    '',
    '```json',
    JSON.stringify(config, null, 2),
    '```',
    '',
  ].join('\n');
}
