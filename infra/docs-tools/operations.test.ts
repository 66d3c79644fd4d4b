/** The Python side of the table of operations. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { root } from '../setup/paths.mjs';
import { OPERATIONS_FILE, operationsFile } from './operations.js';

it(`${OPERATIONS_FILE} is up to date: npm run docs:operations`, () => {
  expect(readFileSync(join(root, OPERATIONS_FILE), 'utf8')).toBe(operationsFile());
});
