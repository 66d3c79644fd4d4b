/** The Markdown that Temporal UI shows as current details of an experiment. Pure. */
import type { ExperimentStatus, StageStatus } from '../contract/index.js';

/** A table of stages, and when one is parked why and what to type next. At most about 15 KiB of Markdown. */
export function currentDetails(status: ExperimentStatus, workflowId: string): string {
  const rows = status.stages.map((stage) => {
    const cells = [stage.name, stateText(stage), progressText(stage), stage.artifact ? `\`${stage.artifact.key}\`` : '', resetText(stage, workflowId)];
    return `| ${cells.join(' | ')} |`;
  });
  const parked = status.stages.filter(({ state }) => state === 'parked').map(({ name, failure }) => [
    `**${name} is parked**: ${failure!.type}: ${failure!.message.slice(0, 2000)}`,
    `To run it again:\n\n\`\`\`\n${failure!.advice}\n\`\`\``,
    `To give up:\n\n\`\`\`\ntemporal workflow update execute --workflow-id ${workflowId} --name abandon --input '{"reason": "..."}'\n\`\`\``,
  ].join('\n\n'));
  const report = status.report ? [`Report: \`${status.report.html}\``] : [];
  return [
    `**${status.experiment}**: ${status.state}`, ...parked, ...report,
    ['| stage | state | progress | artifact | to run it again |', '|---|---|---|---|---|', ...rows].join('\n'),
  ].join('\n\n');
}

function stateText({ state, reused, seconds }: StageStatus): string {
  const time = seconds === undefined ? '' : ` (${Math.round(seconds)} s)`;
  return `${state}${reused ? ', reused' : ''}${time}`;
}

function progressText({ progress }: StageStatus): string {
  return progress ? `${progress.done} of ${progress.total} ${progress.unit}` : '';
}

function resetText({ resetEventId, state }: StageStatus, workflowId: string): string {
  return resetEventId === undefined || state === 'waiting' ? '' : `\`temporal workflow reset --workflow-id ${workflowId} --event-id ${resetEventId} --reason "..."\``;
}
