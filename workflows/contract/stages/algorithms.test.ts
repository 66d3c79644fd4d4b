/** The methods of the policy update and their settings, as the model runtime and as the configuration list them. */
import { execFileSync } from 'node:child_process';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';
import { root, venvPython } from '../../../infra/setup/paths.mjs';
import { ALGORITHMS, ReinforcementConfig } from '../index.js';

const Description = z.strictObject({ methods: z.array(z.string()), settings: z.array(z.string()) });

/** What `python -m runtime --describe` prints; it imports no torch. */
function description(): z.infer<typeof Description> {
  const printed = execFileSync(venvPython(), ['-m', 'runtime', '--describe'], {
    env: { PYTHONPATH: join(root, 'workers'), PYTHONDONTWRITEBYTECODE: '1' },
    encoding: 'utf8',
  });
  return Description.parse(JSON.parse(printed));
}

describe('the methods of the policy update', () => {
  it('are those of the model runtime, with the same settings', () => {
    const { methods, settings } = description();
    expect(ALGORITHMS).toEqual(methods);
    const algorithm = ReinforcementConfig.shape.algorithm.unwrap();
    expect(Object.keys(algorithm.shape).sort()).toEqual([...settings].sort());
  });
});
