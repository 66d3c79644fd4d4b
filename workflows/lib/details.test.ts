/** What Temporal UI shows of an experiment: where it stands, and when it is parked why and what to type next. */
import { describe, expect, it } from 'vitest';
import { STAGES, type ArtifactRef, type ExperimentStatus, type StageStatus } from '../contract/index.js';
import { currentDetails, retryAdvice } from './details.js';

const ARTIFACT: ArtifactRef = {
  kind: 'questions',
  key: 'artifacts/questions/abc.json',
  digest: 'd'.repeat(64),
  bytes: 10,
};

/** The stages of an experiment without optional ones. */
const USUAL = STAGES.filter((stage) => !['hardening', 'rewardModelCard', 'fineTuning'].includes(stage));

function statusOf(
  state: ExperimentStatus['state'],
  changes: Partial<Record<(typeof STAGES)[number], Partial<StageStatus>>> = {},
): ExperimentStatus {
  return {
    experiment: 'my-run',
    state,
    teacher: 'offline',
    cost: { usd: 0 },
    stages: USUAL.map((name) => ({ name, state: 'waiting', ...changes[name] })),
  };
}

/** Cells of the stage's row in the table. */
function rowOf(details: string, stage: string): string[] {
  const line = details.split('\n').find((text) => text.startsWith(`| ${stage} |`));
  return line!
    .slice(1, -1)
    .split('|')
    .map((cell) => cell.trim());
}

describe('currentDetails', () => {
  it('of a running experiment has a row for each stage, with state, progress, time and figures', () => {
    const details = currentDetails(
      statusOf('running', {
        synthesis: {
          state: 'done',
          seconds: 12.4,
          reused: true,
          by: 'last-run/synthesis',
          artifact: ARTIFACT,
          resetEventId: 11,
          metrics: { questions: 20, share: 0.5, failures: {} },
        },
        filtering: {
          state: 'running',
          startedAt: '2026-01-02T03:04:05.678Z',
          progress: { done: 3, total: 12, unit: 'shards' },
          resetEventId: 27,
        },
      }),
      'wf-1',
    );
    expect(details.split('\n')[0]).toBe('**my-run**: running, 1 of 7 stages done');
    expect(details).toContain('**filtering** is running since 2026-01-02 03:04:05 UTC: 3 of 12 shards');
    expect(
      details
        .split('\n')
        .filter((line) => line.startsWith('| '))
        .map((line) => line.split('|')[1]!.trim()),
    ).toEqual(['stage', ...USUAL]);
    expect(rowOf(details, 'synthesis')).toEqual([
      'synthesis',
      '`reused`',
      '12 s, from last-run/synthesis, questions 20, share 0.500',
    ]);
    expect(rowOf(details, 'filtering')).toEqual(['filtering', '`running`', '3 of 12 shards']);
    expect(rowOf(details, 'evaluation')).toEqual(['evaluation', '`waiting`', '']);
    expect(details).toContain('Artifacts:\n\n- synthesis: `artifacts/questions/abc.json`');
    expect(details).toContain('Cost so far: 0 USD (the offline teacher calls no paid service), 12 s of stages.');
    expect(details).toContain('temporal workflow signal --workflow-id wf-1 --name pause');
    expect(details).not.toContain('parked');
    expect(details).not.toContain('Report');
  });

  it('of a fork says what is another, what was reused, and why the rest was made again', () => {
    const frontier: ExperimentStatus['frontier'] = {
      of: 'other',
      from: 'reinforcement.round.2',
      differences: [{ field: 'stages.reinforcement.reward.rewardModelWeight', was: 0.2, is: 0.5 }],
      stages: [
        { name: 'sampling', reused: true, because: [] },
        {
          name: 'reinforcement',
          reused: false,
          steps: { rollouts: { reused: 2, made: 0 }, update: { reused: 1, made: 1, madeFrom: 2 } },
          because: ['stages.reinforcement.reward.rewardModelWeight'],
        },
      ],
    };
    const text = currentDetails({ ...statusOf('running'), frontier }, 'fork');
    expect(text).toContain(
      'It forks other from reinforcement.round.2: stages.reinforcement.reward.rewardModelWeight 0.2 -> 0.5.',
    );
    expect(text).toContain(
      'Reused: sampling. Made again: reinforcement (stages.reinforcement.reward.rewardModelWeight).',
    );
    expect(text).toContain('reinforcement, rounds: rollouts 2 reused; update 1 reused, 1 made from 2 on.');
  });

  it('tells what a paid teacher cost, at most and by estimate', () => {
    const costLine = (status: Partial<ExperimentStatus>): string =>
      currentDetails({ ...statusOf('running'), ...status }, 'wf-1')
        .split('\n')
        .find((line) => line.startsWith('Cost so far'))!;
    expect(costLine({ teacher: 'openai', cost: { usd: 1.234, budgetUsd: 5, estimatedUsd: 0.0789 } })).toBe(
      "Cost so far: 1.23 USD for the teacher's replies (at most 5.00, estimated 0.0789), 0 s of stages.",
    );
    expect(costLine({ teacher: 'openai', cost: { usd: 0 } })).toBe(
      "Cost so far: 0 USD for the teacher's replies, 0 s of stages.",
    );
    expect(costLine({ teacher: 'recorded', cost: { usd: 0 } })).toBe(
      'Cost so far: 0 USD (stored replies), 0 s of stages.',
    );
  });

  it('has the command that goes back to each stage that has started', () => {
    const stages = {
      synthesis: { state: 'done' as const, resetEventId: 11 },
      filtering: { state: 'abandoned' as const, resetEventId: 27 },
    };
    const resets = (state: ExperimentStatus['state']): string[] =>
      [...currentDetails(statusOf(state, stages), "it's").matchAll(/`(temporal workflow reset [^`]*)`/g)].map(
        ([, command]) => command!,
      );
    const id = "'it'\\''s'";
    expect(resets('running')).toEqual([
      `temporal workflow reset --workflow-id ${id} --event-id 11 --reason synthesis`,
      `temporal workflow reset --workflow-id ${id} --event-id 27 --reason filtering`,
    ]);
    expect(resets('abandoned')[1]).toBe(
      `temporal workflow reset --workflow-id ${id} --event-id 27 --reapply-exclude Update --reason filtering`,
    );
  });

  const failure = {
    type: 'OutOfMemory',
    message: 'batch of 8 does not fit',
    advice: 'temporal workflow update execute --name retryStage',
  };

  it('of a parked experiment says why, and the sentences to type next', () => {
    const details = currentDetails(
      statusOf('parked', { rewardModel: { state: 'parked', failure, resetEventId: 40 } }),
      'wf-1',
    );
    expect(details.split('\n')[0]).toBe('**my-run**: parked, 0 of 7 stages done');
    expect(details).toContain('**rewardModel is parked**: OutOfMemory: batch of 8 does not fit');
    expect(details).toContain(`To run it again:\n\n\`${failure.advice}\`\n`);
    expect(details).toContain(
      `temporal workflow update execute --workflow-id wf-1 --name abandon --input '{"reason": "..."}'`,
    );
    expect(details.indexOf('is parked')).toBeLessThan(details.indexOf('| stage |'));
  });

  it('does not show a failure that was retried', () => {
    const details = currentDetails(statusOf('running', { rewardModel: { state: 'running', failure } }), 'wf-1');
    expect(details).not.toContain('OutOfMemory');
  });

  it('of a finished experiment says where the report is', () => {
    const done = Object.fromEntries(
      USUAL.map((name) => [name, { state: 'done' as const, seconds: 1, artifact: ARTIFACT, resetEventId: 9 }]),
    );
    const details = currentDetails(
      { ...statusOf('done', done), report: { html: '/r/report.html', summary: '/r/summary.json' } },
      'wf-1',
    );
    expect(details.split('\n')[0]).toBe('**my-run**: done, 7 of 7 stages done');
    expect(details).toContain('Report: `/r/report.html`');
    for (const stage of USUAL) expect(rowOf(details, stage)[1]).toBe('`done`');
  });

  it('repeats a long workflow id in no command, and keeps a code and a cell whole, whatever is in it', () => {
    const stages = { synthesis: { state: 'done' as const, by: 'a|b\nc', resetEventId: 11 } };
    const details = currentDetails(statusOf('running', stages), "'".repeat(1000));
    expect(details).toContain('`temporal workflow reset --workflow-id "$ID" --event-id 11 --reason synthesis`');
    expect(details.split("'\\''")).toHaveLength(1001);
    expect(rowOf(details, 'synthesis')[2]).toBe('0 s, from a b c');
    expect(currentDetails(statusOf('running'), 'a`b')).toContain(
      "`` temporal workflow signal --workflow-id 'a`b' --name pause ``",
    );
  });

  it("stays within the server's 20,000 bytes, however long the workflow id and a failure's message are", () => {
    const id = "'".repeat(1000);
    const advice = retryAdvice(id, 'evaluation', { execution: { maxRows: 8 } });
    const long = { ...failure, message: 'x'.repeat(1_000_000), advice };
    const stages = Object.fromEntries(
      USUAL.map((name) => [
        name,
        {
          state: 'done' as const,
          by: 'é'.repeat(1000),
          artifact: { ...ARTIFACT, key: `artifacts/filteredQuestions/${'f'.repeat(64)}.json` },
          resetEventId: 123_456,
        },
      ]),
    );
    const frontier: ExperimentStatus['frontier'] = {
      of: 'é'.repeat(1000),
      from: 'sampling',
      differences: [{ field: 'seeds', was: 'é'.repeat(1000), is: null }],
      stages: USUAL.map((name) => ({ name, reused: false, because: ['é'.repeat(1000)] })),
    };
    const status = statusOf('parked', { ...stages, evaluation: { state: 'parked', failure: long, resetEventId: 9 } });
    const details = currentDetails({ ...status, frontier }, id);
    expect(Buffer.byteLength(details)).toBeLessThan(20_000);
    expect(details).toContain('| evaluation | `parked` |');
  });
});
