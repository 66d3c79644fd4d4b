/** The Markdown that Temporal UI shows as current details of an experiment. Pure. */
import {
  dollarsText,
  figuresOf,
  frontierText,
  resultText,
  shellWord,
  TEACHERS,
  type ExperimentStatus,
  type StageName,
  type StageStatus,
} from '../contract/index.js';

/** What the teacher is paid. */
function teacherCost({ teacher, cost: { usd, budgetUsd, estimatedUsd } }: ExperimentStatus): string {
  const { paid, cost: what } = TEACHERS.named(teacher);
  if (!paid) return `0 USD (${what})`;
  const estimated = estimatedUsd === undefined ? [] : [`estimated ${dollarsText(estimatedUsd)}`];
  const notes = [...(budgetUsd === undefined ? [] : [`at most ${dollarsText(budgetUsd)}`]), ...estimated];
  return `${dollarsText(usd)} USD for ${what}${notes.length > 0 ? ` (${notes.join(', ')})` : ''}`;
}

/** Characters of a failure's message in the details. The `status` query has all of it. */
const MESSAGE_CHARACTERS = 2000;
/** Characters of a line about a fork. Its result has all of it. */
const FRONTIER_CHARACTERS = 400;
/** Characters of a workflow id that each command of the details repeats. */
const ID_CHARACTERS = 200;

/**
 * What the experiment does, made and cost, how far it is, and what to type next. The text is shorter than the 20,000
 * bytes that the server takes.
 */
export function currentDetails(status: ExperimentStatus, workflowId: string): string {
  const { experiment, state, stages, report } = status;
  const word = shellWord(workflowId);
  // The commands of all stages would be too long with it.
  const id = word.length > ID_CHARACTERS ? '"$ID"' : word;
  const done = stages.filter((stage) => stage.state === 'done').length;
  return [
    `**${experiment}**: ${state}, ${done} of ${stages.length} stages done`,
    ...(id === word ? [] : ['The commands below take the workflow id from a variable:', code(`ID=${word}`)]),
    ...(status.frontier ? frontierText(status.frontier).map((line) => line.slice(0, FRONTIER_CHARACTERS)) : []),
    ...(status.waitsFor === undefined ? [] : [`It ${status.waitsFor}.`]),
    ...stages.flatMap((stage) => nowText(stage, id)),
    ...unservedText(status),
    ...(report
      ? [resultText('Report', report, workflowId, report.html)]
      : [`To see it as a page while it runs: ${code(`npm run report -- ${id} --watch`)}`]),
    table(
      ['stage', 'state', 'so far'],
      stages.map((stage) => [stage.name, `\`${stage.reused ? 'reused' : stage.state}\``, soFar(stage)]),
    ),
    `Cost so far: ${teacherCost(status)}, ${Math.round(secondsOf(stages))} s of stages.`,
    ...steering(status, id),
    ...list(
      'Artifacts:',
      stages.flatMap(({ name, artifact }) => (artifact ? [`${name}: \`${artifact.key}\``] : [])),
    ),
  ].join('\n\n');
}

/** Time of all stages, in seconds. */
function secondsOf(stages: readonly StageStatus[]): number {
  return stages.reduce((sum, { seconds }) => sum + (seconds ?? 0), 0);
}

/**
 * The command that runs a parked stage again. It changes how the stage runs, or what it asks, where the failure says
 * what helps.
 *
 * @example
 * retryAdvice('my-run', 'rewardModel', { execution: { microBatch: 1 } })
 */
export function retryAdvice(
  workflowId: string,
  stage: StageName,
  { execution, semantics }: { execution?: Record<string, number>; semantics?: object } = {},
): string {
  const patch =
    (execution ? `, "execution": ${JSON.stringify(execution)}` : '') +
    (semantics ? `, "semantics": ${JSON.stringify(semantics)}, "allowRepeat": true` : '');
  return `${update(shellWord(workflowId), 'retryStage')} '{"stage": "${stage}"${patch}}'`;
}

/** The command that goes on after an alarm of the watch for reward hacking, without what it flags. */
export function resumeAdvice(workflowId: string): string {
  return `${update(shellWord(workflowId), 'resume')} '{"flagged": "drop"}'`;
}

/** The command that sends an update, up to its input. `id` is a word of the shell. */
function update(id: string, name: string): string {
  return `temporal workflow update execute --workflow-id ${id} --name ${name} --input`;
}

/** The stage that needs looking at, in sentences. */
function nowText(stage: StageStatus, id: string): string[] {
  const { name, state, startedAt, failure } = stage;
  if (state === 'running') {
    const since = startedAt?.slice(0, 19).replace('T', ' ');
    const progress = progressText(stage);
    const waitsFor = stage.progress?.waitsFor;
    return [
      `**${name}** is running since ${since} UTC${progress && `: ${progress}`}`,
      ...(waitsFor === undefined ? [] : [`**${name}** ${waitsFor}.`]),
    ];
  }
  if (state === 'paused')
    return [`**${name}** is paused. To go on:`, code(`temporal workflow signal --workflow-id ${id} --name resume`)];
  const why = failure && `${failure.type}: ${failure.message.slice(0, MESSAGE_CHARACTERS)}`;
  if (state === 'failed' && why) return [`**${name} failed**: ${why}`];
  if (state !== 'parked') return [];
  return [
    `**${name} is parked**: ${why}`,
    'To run it again:',
    code(failure!.advice),
    'In the same input `"execution": {...}` changes how it runs and repeats nothing; ' +
      '`"semantics": {...}, "allowRepeat": true` changes what it makes. To give up:',
    code(`${update(id, 'abandon')} '{"reason": "..."}'`),
  ];
}

/** Queues without a worker at the start. A queue that is scaled to zero has none, so it is no error. */
function unservedText({ unserved }: ExperimentStatus): string[] {
  if (!unserved) return [];
  const served = unserved.served.length > 0 ? unserved.served.join(', ') : 'none of the others';
  return [`At the start no worker served ${unserved.queues.join(', ')}; workers served ${served}.`];
}

/** Commands that pause the experiment, and that go back to a stage. */
function steering({ state, stages }: ExperimentStatus, id: string): string[] {
  // A reset applies later updates again. An abandonment would then end the new run at once.
  const excluded = state === 'abandoned' ? ' --reapply-exclude Update' : '';
  const resets = stages.flatMap(({ name, resetEventId, resetRunId }) => {
    if (resetEventId === undefined) return [];
    const run = resetRunId === undefined ? '' : ` --run-id ${resetRunId}`;
    const command = `temporal workflow reset --workflow-id ${id}${run} --event-id ${resetEventId}${excluded}`;
    return [`${name}: ${code(`${command} --reason ${name}`)}`];
  });
  return [
    ...(state === 'running' ? ['To pause:', code(`temporal workflow signal --workflow-id ${id} --name pause`)] : []),
    ...list('To run a stage and those after it again:', resets),
    ...(state === 'running' && resets.length > 0
      ? [
          'After a `terminate`, start the same input anew: finished work is found in the store. ' +
            'A reset of a terminated run finds its stage gone within 10 minutes and starts it again; ' +
            '`resume` asks at once.',
        ]
      : []),
  ];
}

/** Time, figures and origin of a stage that is done. Progress of one that is not. */
function soFar(stage: StageStatus): string {
  const { state, seconds, by, metrics = {} } = stage;
  if (state !== 'done') return progressText(stage);
  // A bar or the end of a line would end the cell.
  const origin = by === undefined ? [] : [`from ${by.slice(0, ID_CHARACTERS).replaceAll(/[|\s]+/g, ' ')}`];
  return [`${Math.round(seconds ?? 0)} s`, ...origin, figuresOf(metrics, 4)].filter(Boolean).join(', ');
}

function progressText({ progress }: StageStatus): string {
  return progress ? `${progress.done} of ${progress.total} ${progress.unit}` : '';
}

/** Cells have no padding in Temporal UI. The code style of the state separates the columns. */
function table(heads: string[], rows: string[][]): string {
  const line = (cells: string[]): string => `| ${cells.join(' | ')} |`;
  return [line(heads), `|${heads.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

function list(title: string, items: string[]): string[] {
  return items.length > 0 ? [`${title}\n\n${items.map((item) => `- ${item}`).join('\n')}`] : [];
}

/** Inline code, because Temporal UI breaks its lines, and cuts off those of a block. */
function code(command: string): string {
  // Markdown ends a code by as many backticks as began it.
  const marks = '`'.repeat(1 + Math.max(0, ...[...command.matchAll(/`+/g)].map(([run]) => run.length)));
  const space = command.includes('`') ? ' ' : '';
  return marks + space + command + space + marks;
}
