/** What a comparison of experiments takes. */
import { z } from 'zod';
import { Name, schemaField } from './fields.js';

/** Sides of a comparison at most: a page with more columns is not read. */
const MOST_SIDES = 20;

export const CompareInput = z.strictObject({
  ...schemaField,
  of: z
    .array(z.string().min(1))
    .min(2, { error: 'at least two: the first one is what the others are compared with' })
    .max(MOST_SIDES)
    .refine((names) => new Set(names).size === names.length, { error: 'each only once' })
    .describe('workflow ids of finished experiments, or keys of evaluations; the first one is the base'),
  policy: Name.optional().describe('the policy of each that is compared; absent: the last one that was trained'),
});
