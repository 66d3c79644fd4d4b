/** The Markdown that Temporal UI shows as current details of an experiment. Pure. */
import { dollarsText, figuresOf, type ExperimentStatus, type StageName, type StageStatus } from '../contract/index.js';

/** What the teacher is paid. */
function teacherCost({ teacher, cost: { usd, budgetUsd, estimatedUsd } }: ExperimentStatus): string {
  if (teacher === 'offline') return '0 USD (the offline teacher calls no paid service)';
  if (teacher === 'recorded') return '0 USD (stored replies)';
  const estimated = estimatedUsd === undefined ? [] : [`estimated ${dollarsText(estimatedUsd)}`];
  const notes = [...(budgetUsd === undefined ? [] : [`at most ${dollarsText(budgetUsd)}`]), ...estimated];
  return `${dollarsText(usd)} USD for the teacher's replies${notes.length > 0 ? ` (${notes.join(', ')})` : ''}`;
}

/** A failure's message in the details, at most; the whole one stands in the `status` query. */
const MESSAGE_CHARACTERS = 2000;

/**
 * What the experiment is doing, how far it is, what it made and from whom it was taken over, what it cost, and what to
 * type next. Less than the 20,000 bytes that the server takes.
 */
export function currentDetails(status: ExperimentStatus, workflowId: string): string {
  const { experiment, state, stages, report } = status;
  const done = stages.filter((stage) => stage.state === 'done').length;
  return [
    `**${experiment}**: ${state}, ${done} of ${stages.length} stages done`,
    ...stages.flatMap((stage) => nowText(stage, workflowId)),
    ...(report ? [`Report: \`${report.html}\``] : []),
    table(
      ['stage', 'state', 'so far'],
      stages.map((stage) => [stage.name, `\`${stage.reused ? 'reused' : stage.state}\``, soFar(stage)]),
    ),
    `Cost so far: ${teacherCost(status)}, ${Math.round(stages.reduce((sum, { seconds }) => sum + (seconds ?? 0), 0))} s of stages.`,
    ...steering(status, workflowId),
    ...list(
      'Artifacts:',
      stages.flatMap(({ name, artifact }) => (artifact ? [`${name}: \`${artifact.key}\``] : [])),
    ),
  ].join('\n\n');
}

/** A word of a shell command: as it is, or quoted where a shell would read more into it. */
export function shellWord(text: string): string {
  return /^[\w./:@%+=-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/**
 * The command that runs a parked stage again. It changes how the stage runs where the failure says what helps.
 *
 * @example
 * retryAdvice('my-run', 'rewardModel', { microBatch: 1 })
 */
export function retryAdvice(workflowId: string, stage: StageName, execution?: Record<string, number>): string {
  const patch = execution ? `, "execution": ${JSON.stringify(execution)}` : '';
  const input = `{"stage": "${stage}"${patch}}`;
  return `temporal workflow update execute --workflow-id ${shellWord(workflowId)} --name retryStage --input '${input}'`;
}

/** The stage that needs looking at, in sentences. */
function nowText(stage: StageStatus, workflowId: string): string[] {
  const { name, state, startedAt, failure } = stage;
  if (state === 'running')
    return [
      `**${name}** is running since ${startedAt?.slice(0, 19).replace('T', ' ')} UTC${progressText(stage) && `: ${progressText(stage)}`}`,
    ];
  if (state === 'paused')
    return [
      `**${name}** is paused. To go on:`,
      code(`temporal workflow signal --workflow-id ${shellWord(workflowId)} --name resume`),
    ];
  const why = failure && `${failure.type}: ${failure.message.slice(0, MESSAGE_CHARACTERS)}`;
  if (state === 'failed' && why) return [`**${name} failed**: ${why}`];
  if (state !== 'parked') return [];
  return [
    `**${name} is parked**: ${why}`,
    'To run it again:',
    code(failure!.advice),
    'In the same input `"execution": {...}` changes how it runs and repeats nothing; `"semantics": {...}, "allowRepeat": true` changes what it makes. To give up:',
    code(
      `temporal workflow update execute --workflow-id ${shellWord(workflowId)} --name abandon --input '{"reason": "..."}'`,
    ),
  ];
}

/** The commands that pause, and that go back to a stage. */
function steering({ state, stages }: ExperimentStatus, workflowId: string): string[] {
  const id = shellWord(workflowId);
  // A reset brings back the updates that came after its point, and an abandonment would end the new run at once.
  const excluded = state === 'abandoned' ? ' --reapply-exclude Update' : '';
  const resets = stages
    .filter(({ resetEventId }) => resetEventId !== undefined)
    .map(
      ({ name, resetEventId }) =>
        `${name}: \`temporal workflow reset --workflow-id ${id} --event-id ${resetEventId}${excluded} --reason ${name}\``,
    );
  return [
    ...(state === 'running' ? ['To pause:', code(`temporal workflow signal --workflow-id ${id} --name pause`)] : []),
    ...list('To run a stage and those after it again:', resets),
  ];
}

/** Time and figures of a stage that is done, and whose they are; progress of one that is not. */
function soFar(stage: StageStatus): string {
  const { state, seconds, by, metrics = {} } = stage;
  if (state !== 'done') return progressText(stage);
  return [`${Math.round(seconds ?? 0)} s`, ...(by === undefined ? [] : [`from ${by}`]), figuresOf(metrics, 4)]
    .filter(Boolean)
    .join(', ');
}

function progressText({ progress }: StageStatus): string {
  return progress ? `${progress.done} of ${progress.total} ${progress.unit}` : '';
}

/** In Temporal UI cells have no padding; the code style of the state is what parts the columns. */
function table(heads: string[], rows: string[][]): string {
  const line = (cells: string[]): string => `| ${cells.join(' | ')} |`;
  return [line(heads), `|${heads.map(() => '---').join('|')}|`, ...rows.map(line)].join('\n');
}

function list(title: string, items: string[]): string[] {
  return items.length > 0 ? [`${title}\n\n${items.map((item) => `- ${item}`).join('\n')}`] : [];
}

/** Inline, because Temporal UI breaks its lines and cuts those of a block off. */
function code(command: string): string {
  return `\`${command}\``;
}
