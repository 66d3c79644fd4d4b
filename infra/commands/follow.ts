/** `npm run follow -- <workflow id>`: an experiment's progress in the terminal, until it ends or parks. */
import { Client, WorkflowNotFoundError } from '@temporalio/client';
import { dataConverterOf, payloadCodec } from '../../workers/payloads/codec.js';
import { fetchCommand, figuresOf, type StageStatus } from '../../workflows/contract/index.js';
import { asTyped, FLAG, runCommand, type CommandLine } from './command.js';
import { lineTeller, parkedText, watch, type Snapshot } from './progress.js';
import { connectToServer, SERVER_HELP } from '../stack/server.js';
import { onEndSignal } from '../setup/processes.mjs';

const HELP = `npm run follow -- [options] WORKFLOW_ID

Shows the stages of an experiment while it runs: a table that redraws itself in a terminal, plain lines
elsewhere. Ends when the experiment ends or parks: exit code 0 when it is done, 1 otherwise, 130 after Ctrl-C,
which leaves the experiment running. Which Temporal server it asks:
${SERVER_HELP}

  --embedded   the embedded stack, whatever else is configured
  --help       print this`;

/** The table, each line at most `columns` wide so that a redraw covers what was there. */
function tableOf(now: Snapshot, columns: number): string[] {
  const cells = (now.status?.stages ?? []).map((stage) => [
    stage.name,
    stage.reused ? `${stage.state}, reused` : stage.state,
    time(stage),
    doing(stage, now),
  ]);
  const widths = [0, 1, 2].map((column) => Math.max(0, ...cells.map((row) => row[column]!.length)));
  const head = now.status
    ? `${now.status.experiment}: ${now.status.state}`
    : `${now.execution}; no worker tells its stages${now.activity ? `; ${now.activity}` : ''}`;
  return [head, ...cells.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  '))].map(
    (line) => line.trimEnd().slice(0, columns),
  );
}

function time({ seconds, state, startedAt }: StageStatus): string {
  const running = state === 'running' && startedAt ? (Date.now() - Date.parse(startedAt)) / 1000 : 0;
  const sum = (seconds ?? 0) + running;
  return sum === 0 && state !== 'done' ? '' : `${Math.round(sum)} s`;
}

function doing({ state, progress, metrics }: StageStatus, { activity }: Snapshot): string {
  if (state === 'done') return figuresOf(metrics ?? {}, 5);
  return [progress && `${progress.done} of ${progress.total} ${progress.unit}`, state === 'running' && activity]
    .filter(Boolean)
    .join('  ');
}

/** Draws over what the last call drew. */
function redrawer(terminal: NodeJS.WriteStream): (now: Snapshot) => void {
  let drawn = 0;
  return (now) => {
    const lines = tableOf(now, terminal.columns);
    terminal.write(`${drawn ? `\x1b[${drawn}A` : ''}\x1b[J${lines.join('\n')}\n`);
    drawn = lines.length;
  };
}

const OPTIONS = {
  embedded: FLAG,
} as const;

async function run({ values, positionals }: CommandLine<typeof OPTIONS>): Promise<number> {
  const [workflowId, ...more] = positionals;
  if (workflowId === undefined || more.length > 0)
    throw new Error('Give one workflow id: npm run follow -- WORKFLOW_ID');
  const { connection, namespace } = await connectToServer(values);
  const stop = new AbortController();
  onEndSignal((signal) => stop.abort(signal));
  try {
    const client = new Client({ connection, namespace, dataConverter: dataConverterOf(payloadCodec(process.env)) });
    const see = process.stdout.isTTY ? redrawer(process.stdout) : lineTeller((line) => console.log(line));
    const last = await watch(client, workflowId, { see, lost: (why) => console.error(why), signal: stop.signal }).catch(
      (error: unknown) => {
        throw error instanceof WorkflowNotFoundError
          ? new Error(
              `There is no workflow ${workflowId} in namespace ${namespace}; ` +
                'temporal workflow list shows what there is.',
            )
          : error;
      },
    );
    if (!last) return 130;
    const parked = last.status && parkedText(last.status);
    if (parked) {
      console.error(`${parked.why}\nTo run the stage again:\n  ${parked.advice}`);
      return 1;
    }
    if (last.execution === 'COMPLETED') {
      const report = last.status?.report;
      if (!report) console.log('The workflow has finished.');
      else if (report.html !== undefined) console.log(`Report: ${report.html}`);
      else console.log(asTyped(`Report: ${report.artifact?.key} in the store; to get it: ${fetchCommand(workflowId)}`));
      return 0;
    }
    const why = await client.workflow
      .getHandle(workflowId)
      .result()
      .then(
        () => '',
        (error: Error) => (error.cause as Error | undefined)?.message ?? error.message,
      );
    console.error(`The workflow ended as ${last.execution}: ${why}`);
    return 1;
  } finally {
    await connection.close();
  }
}

runCommand({ help: HELP, options: OPTIONS, run });
