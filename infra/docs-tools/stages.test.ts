/** The modules that name every stage follow from the list of stages. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkInput, STAGE_LIST } from '../../workflows/contract/index.js';
import { root } from '../setup/paths.mjs';
import { stageModules } from './stages.js';

describe('the list of stages', () => {
  it.each(Object.entries(stageModules()))('is what %s is made of: npm run stages', (path, text) => {
    expect(readFileSync(join(root, path), 'utf8')).toBe(text);
  });

  it.each(STAGE_LIST.map(({ name, example }) => [name, example] as const))(
    'has a valid example of %s',
    (name, example) => {
      expect(checkInput(name, example).mistakes).toBeUndefined();
    },
  );
});
