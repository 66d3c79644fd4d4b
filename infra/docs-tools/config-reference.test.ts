/** The reference of the configuration: as the schemas are, with a meaning for every field. */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fieldsOf, referenceFiles, schemaPath } from './config-reference.js';
import { root } from '../setup/paths.mjs';
import { merge } from '../../workflows/contract/presets.js';
import type { LabSettings } from '../../test/lab/run.js';
import { checkInput, StageConfigs, STAGES, type WorkflowName } from '../../workflows/contract/index.js';

const files = referenceFiles();
const schemaOf = (workflow: string): Parameters<typeof fieldsOf>[0] =>
  JSON.parse(files[schemaPath(workflow)]!) as never;

describe('the reference', () => {
  it.each(Object.keys(files))('%s is up to date: npm run docs:config', (path) => {
    expect(readFileSync(join(root, path), 'utf8')).toBe(files[path]);
  });

  it.each(['experiment', ...STAGES, 'datasetRefresh', 'garbageCollection'])(
    'gives every field of %s a type and a meaning',
    (workflow) => {
      const fields = fieldsOf(schemaOf(workflow));
      expect(fields.length).toBeGreaterThan(1);
      expect(fields.filter(({ type, meaning }) => meaning === '' || type === 'any').map(({ path }) => path)).toEqual(
        [],
      );
    },
  );

  it('says type, limit, default and unit', () => {
    const fields = fieldsOf(schemaOf('experiment'));
    expect(fields).toContainEqual({
      path: 'stages.rewardModel.execution.checkpointSeconds',
      type: 'number > 0',
      default: '`30`',
      meaning: 'time between checkpoints of a training, in seconds',
    });
    expect(fields).toContainEqual(
      expect.objectContaining({ path: 'stages.filtering.heldOutShare', type: 'number ≥ 0 ≤ 1', default: '`0.25`' }),
    );
    expect(fields).toContainEqual(expect.objectContaining({ path: 'name', default: '**needed**' }));
    expect(fields).toContainEqual(expect.objectContaining({ path: 'models.policy (hub).revision' }));
  });
});

describe('the example experiments', () => {
  const folder = join(root, 'infra/experiments');
  // The laboratory's file holds settings of stages and is no experiment.
  const examples = readdirSync(folder).filter((name) => name.endsWith('.json') && name !== 'lab.json');

  it('are there', () => {
    expect(examples.sort()).toEqual([
      '8-gpus.json',
      'api-key-5-dollars.json',
      'evaluation.json',
      'local-teacher.json',
      'nightly.json',
      'one-24gb-gpu.json',
      'package-seeds.json',
      'paper-table-3.json',
      'paper-table-4.json',
      'paper-table-7.json',
      'paper-table-8.json',
      'published-pairs.json',
      'quickstart.json',
      'recorded.json',
      'strong-model.json',
    ]);
  });

  it('are joined by the laboratory, whose stages are accepted', () => {
    const lab = JSON.parse(readFileSync(join(folder, 'lab.json'), 'utf8')) as LabSettings;
    for (const recipe of [{}, ...Object.values(lab.recipes)]) {
      for (const stage of STAGES) {
        const config = merge(lab.stages[stage] ?? {}, (recipe as Record<string, unknown>)[stage] ?? {});
        expect(StageConfigs[stage].safeParse(config).error?.issues ?? [], stage).toEqual([]);
      }
    }
  });

  it.each(examples)('%s is accepted by the workflow whose schema it names', (name) => {
    const input = JSON.parse(readFileSync(join(folder, name), 'utf8')) as { $schema: string };
    expect(existsSync(join(folder, input.$schema)), input.$schema).toBe(true);
    expect(dirname(join(folder, input.$schema))).toBe(join(root, dirname(schemaPath('experiment'))));
    const workflow = /(\w+)\.schema\.json$/.exec(input.$schema)![1] as WorkflowName;
    expect(checkInput(workflow, input).mistakes ?? []).toEqual([]);
  });
});
