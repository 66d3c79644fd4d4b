/** A host to which things happen while it runs the whole chain; `npm run chaos` does it a hundred times. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { digestsOf } from '../../activities/artifacts/produce.js';
import { checkModels, checkNoneTrainedAgain, checkStored, checkTrainings, trainingsOf } from '../chaos/checks.js';
import type { FaultName } from '../chaos/faults.js';
import { Budget, runExperiment } from '../chaos/run.js';
import { Site } from '../chaos/site.js';
import { Random } from '../simulation/random.js';

import { artifactsOf, firstRun, micro } from '../fixtures/chain.js';

describe('a host to which things happen', () => {
  it('makes the same artifacts, asks and trains nothing twice, and leaves no process', async () => {
    const undisturbed = artifactsOf(await firstRun());
    const home = mkdtempSync(join(tmpdir(), 'acecoder-chaos-'));
    const site = await Site.open({ home });
    const faults: FaultName[] = ['store', 'runtime', 'storeErrors', 'server', 'worker'];
    try {
      const { finished, ...run } = await runExperiment({
        site,
        id: 'chaos',
        input: micro('chaos'),
        random: new Random(3),
        deck: { next: () => faults.shift() ?? 'worker' },
        budget: new Budget(faults.length),
        log: () => undefined,
      });
      expect(run.violations).toEqual([]);
      // A fast host may end the experiment before the last of them, and a kind that meets nothing is passed over.
      expect(run.faults.length).toBeGreaterThan(0);
      expect(digestsOf(finished!.stages)).toEqual(digestsOf(undisturbed));
      const { orphans } = await site.stopWorkers();
      expect(orphans).toEqual([]);
      const trainings = trainingsOf(site);
      expect(trainings.size).toBeGreaterThan(0);
      const checks = [
        checkTrainings(trainings),
        await checkNoneTrainedAgain(site, trainings),
        await checkModels(site, finished!),
        await checkStored(site),
      ];
      expect(checks.flatMap(({ violations }) => violations)).toEqual([]);
    } finally {
      await site.close();
      rmSync(home, { recursive: true, force: true });
    }
  });
});
