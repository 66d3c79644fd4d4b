/** `summary.json`: the schema takes a complete one, nothing less, and no figure outside its range. */
import { describe, expect, it } from 'vitest';
import { STAGES, Summary, type ArtifactKind, type ArtifactRef } from '../../workflows/contract/index.js';

function artifact(kind: ArtifactKind): ArtifactRef {
  return { kind, key: `artifacts/${kind}/${'0'.repeat(64)}.json`, digest: '1'.repeat(64), rows: 12, bytes: 3456 };
}

function complete(): Summary {
  return {
    experiment: 'my-run',
    state: 'done',
    stages: STAGES.map((name) => ({
      name,
      state: 'done',
      seconds: 1.5,
      reused: false,
      artifact: artifact('questions'),
    })),
    data: {
      questions: 40,
      testCases: 800,
      keptTestCases: 640,
      programs: 240,
      pairs: 90,
      dropped: [
        {
          stage: 'filtering',
          what: 'question',
          reason: 'tooFewTestCases',
          count: 2,
          artifact: artifact('filteredQuestions'),
        },
      ],
      filterQuality: { injected: 100, dropped: 160, droppedInjected: 100 },
    },
    recipe: [{ stage: 'reinforcement', setting: 'algorithm.beta', value: 0.01, artifact: artifact('policy') }],
    passRateHistogram: [
      { from: 0, to: 0.1, programs: 120 },
      { from: 0.9, to: 1, programs: 120 },
    ],
    rewardModel: {
      pairs: 90,
      heldOutAccuracy: 0.7,
      heldOutPairs: 20,
      heldOutQuestions: 6,
      interval95: [0.48, 0.85],
      baselineAccuracy: null,
      calibration: [{ predicted: 0.65, observed: 0.7, count: 20 }],
      curve: [{ step: 1, loss: 0.69 }],
    },
    reinforcement: {
      rounds: [
        {
          round: 1,
          reward: 0.4,
          kl: 0.01,
          entropy: 1.2,
          clipFraction: 0,
          nonZeroAdvantages: 28,
          rollouts: 32,
          trained: 30,
          dropped: { unjudged: 2 },
          artifact: artifact('policy'),
          steps: [
            { step: 'sampling', from: 0, to: 6 },
            { step: 'training', from: 8, to: 14 },
          ],
        },
      ],
      deviceWaiting: 2 / 14,
    },
    evaluation: [
      {
        benchmark: 'heldOut',
        policy: 'trained',
        tasks: 12,
        samples: 4,
        greedy: 0.5,
        greedyInterval: [0.25, 0.75],
        mean: 0.4,
        passAtK: { 1: 0.4, 4: 0.7 },
        bestOfN: { 4: 0.6 },
        oracle: 0.7,
      },
    ],
    cost: { teacher: 'offline', currency: 'USD', amount: 0 },
    models: [{ name: 'policy', artifact: artifact('policy'), folder: 'reports/my-run/models/policy' }],
    assertions: [{ text: 'preference pairs exist', ok: true }],
  };
}

/** The complete summary after `change`, as it comes out of a JSON file. */
function changed(change: (summary: Summary) => void): unknown {
  const summary = complete();
  change(summary);
  return JSON.parse(JSON.stringify(summary));
}

describe('Summary', () => {
  it('takes a complete one and gives it back as it is', () => {
    expect(Summary.parse(JSON.parse(JSON.stringify(complete())))).toEqual(complete());
  });

  it('takes figures that do not exist as null', () => {
    const summary = changed(({ rewardModel, evaluation: [first] }) => {
      Object.assign(rewardModel, { heldOutAccuracy: null, interval95: null, calibration: [] });
      Object.assign(first!, { greedy: null, greedyInterval: null, mean: null, oracle: null, passAtK: {}, bestOfN: {} });
    });
    expect(Summary.safeParse(summary).success).toBe(true);
  });

  it.each(Object.keys(complete()))('needs %s', (name) => {
    const { [name as keyof Summary]: _left, ...rest } = complete();
    expect(Summary.safeParse(rest).error?.issues.map(({ path }) => path.join('.'))).toContain(name);
  });

  it.each<[string, (summary: Summary) => void]>([
    [
      'a rate above 1',
      ({ evaluation }) => {
        evaluation[0]!.greedy = 1.01;
      },
    ],
    [
      'a pass@k below 0',
      ({ evaluation }) => {
        evaluation[0]!.passAtK['1'] = -0.1;
      },
    ],
    [
      'a count that is no whole number',
      ({ data }) => {
        data.pairs = 1.5;
      },
    ],
    [
      'a negative time',
      ({ stages }) => {
        stages[0]!.seconds = -1;
      },
    ],
    [
      'an unknown stage',
      ({ stages }) => {
        (stages[0] as { name: string }).name = 'sample';
      },
    ],
    [
      'an artifact without a digest',
      ({ models }) => {
        models[0]!.artifact.digest = 'x';
      },
    ],
    [
      'a field of another name',
      (summary) => {
        Object.assign(summary, { costs: 1 });
      },
    ],
  ])('refuses %s', (_name, change) => {
    expect(Summary.safeParse(changed(change)).success).toBe(false);
  });
});
