/** What Temporal UI shows of an experiment: where it stands, and when it is parked why and what to type next. */
import { describe, expect, it } from 'vitest';
import { STAGES, type ArtifactRef, type ExperimentStatus, type StageStatus } from '../../workflows/contract/index.js';
import { currentDetails } from '../../workflows/lib/details.js';

const ARTIFACT: ArtifactRef = { kind: 'questions', key: 'artifacts/questions/abc.json', digest: 'd'.repeat(64), bytes: 10 };

function statusOf(state: ExperimentStatus['state'], changes: Partial<Record<(typeof STAGES)[number], Partial<StageStatus>>> = {}): ExperimentStatus {
  return { experiment: 'my-run', state, stages: STAGES.map((name) => ({ name, state: 'waiting', ...changes[name] })) };
}

/** Cells of the stage's row in the table. */
function rowOf(details: string, stage: string): string[] {
  const line = details.split('\n').find((text) => text.startsWith(`| ${stage} |`));
  return line!.slice(1, -1).split('|').map((cell) => cell.trim());
}

describe('currentDetails', () => {
  it('of a running experiment has a row for each stage, with state, progress and artifact', () => {
    const details = currentDetails(statusOf('running', {
      synthesis: { state: 'done', seconds: 12.4, reused: true, artifact: ARTIFACT, resetEventId: 11 },
      filtering: { state: 'running', progress: { done: 3, total: 12, unit: 'shards' }, resetEventId: 27 },
    }), 'wf-1');
    expect(details.split('\n')[0]).toBe('**my-run**: running');
    expect(details.split('\n').filter((line) => line.startsWith('| ')).map((line) => line.split('|')[1]!.trim())).toEqual(['stage', ...STAGES]);
    expect(rowOf(details, 'synthesis')).toEqual([
      'synthesis', 'done, reused (12 s)', '', '`artifacts/questions/abc.json`', '`temporal workflow reset --workflow-id wf-1 --event-id 11 --reason "..."`',
    ]);
    expect(rowOf(details, 'filtering').slice(0, 4)).toEqual(['filtering', 'running', '3 of 12 shards', '']);
    expect(rowOf(details, 'filtering')[4]).toContain('--event-id 27');
    expect(rowOf(details, 'evaluation')).toEqual(['evaluation', 'waiting', '', '', '']);
    expect(details).not.toContain('parked');
    expect(details).not.toContain('Report');
  });

  const failure = { type: 'OutOfMemory', message: 'batch of 8 does not fit', advice: 'temporal workflow update execute --name retryStage' };

  it('of a parked experiment says why, and the sentences to type next', () => {
    const details = currentDetails(statusOf('parked', { rewardModel: { state: 'parked', failure, resetEventId: 40 } }), 'wf-1');
    expect(details.split('\n')[0]).toBe('**my-run**: parked');
    expect(details).toContain('**rewardModel is parked**: OutOfMemory: batch of 8 does not fit');
    expect(details).toContain(`To run it again:\n\n\`\`\`\n${failure.advice}\n\`\`\``);
    expect(details).toContain(`temporal workflow update execute --workflow-id wf-1 --name abandon --input '{"reason": "..."}'`);
    expect(details.indexOf('is parked')).toBeLessThan(details.indexOf('| stage |'));
  });

  it('does not show a failure that was retried', () => {
    const details = currentDetails(statusOf('running', { rewardModel: { state: 'running', failure } }), 'wf-1');
    expect(details).not.toContain('OutOfMemory');
  });

  it('of a finished experiment says where the report is', () => {
    const done = Object.fromEntries(STAGES.map((name) => [name, { state: 'done' as const, seconds: 1, artifact: ARTIFACT, resetEventId: 9 }]));
    const details = currentDetails({ ...statusOf('done', done), report: { html: '/r/report.html', summary: '/r/summary.json' } }, 'wf-1');
    expect(details.split('\n')[0]).toBe('**my-run**: done');
    expect(details).toContain('Report: `/r/report.html`');
    for (const stage of STAGES) expect(rowOf(details, stage)[1]).toBe('done (1 s)');
  });

  it("stays within the server's 20,000 bytes, however long the workflow id and a failure's message are", () => {
    const long = { ...failure, message: 'x'.repeat(1_000_000) };
    const stages = Object.fromEntries(STAGES.map((name) => [name, { state: 'done' as const, artifact: { ...ARTIFACT, key: `artifacts/filteredQuestions/${'f'.repeat(64)}.json` }, resetEventId: 123_456 }]));
    const details = currentDetails(statusOf('parked', { ...stages, evaluation: { state: 'parked', failure: long, resetEventId: 9 } }), 'w'.repeat(1000));
    expect(Buffer.byteLength(details)).toBeLessThan(20_000);
    expect(details).toContain('| evaluation | parked |');
  });
});
