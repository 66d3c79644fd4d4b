/** The failure of a stored document or row that does not fit its schema. */
import type { z } from 'zod';
import { StageFailure } from '../../workflows/contract/index.js';

/** `ArtifactCorrupt` that says where the value is and what is wrong with each of its fields. */
export function corrupt(where: string, { issues }: z.ZodError): StageFailure {
  const mistakes = issues.map(({ path, message }) => `${path.join('.')} ${message}`).join('; ');
  return new StageFailure('ArtifactCorrupt', `${where}: ${mistakes}`);
}
