/** A trace as indented text. Pure. */
import { canonicalJson } from '../../workflows/contract/index.js';
import { TOLD, type Step } from './trace.js';

/** Characters of a configuration that are shown. `--json` has all of it. */
const SHOWN = 200;

/**
 * Three lines for each step: what it is, where it is, and how it was made.
 *
 * @example
 * console.log(traceText(steps).join('\n'));
 */
export function traceText(steps: readonly Step[], indent = '', within = ''): string[] {
  return steps.flatMap((step) => {
    const { what, artifact, row, rows, shows, notes, next } = step;
    const count = rows === undefined || rows === 1 ? '' : `${rows} rows: `;
    // A part of a row lies where the row does.
    const isKnown = artifact === within || notes.includes(TOLD);
    return [
      `${indent}${count}${what}${row === undefined ? '' : ` ${row}`}${shows ? `: ${shows}` : ''}` +
        (notes.length > 0 ? ` (${notes.join('; ')})` : ''),
      ...(isKnown ? [] : [`${indent}  ${artifact}`, `${indent}  ${madeText(step)}`]),
      ...traceText(next, `${indent}  `, artifact),
    ];
  });
}

function madeText({ code, by, configuration }: Step): string {
  const { stage, version, package: name, commit } = code;
  const versions =
    version === null
      ? 'of an unknown version'
      : typeof version === 'number'
        ? `version ${version}`
        : Object.entries(version)
            .map(([step, each]) => `${step} ${each}`)
            .join(', ');
  const settings = canonicalJson(configuration);
  return (
    `by ${stage}, ${versions}, ${name}${commit ? ` at ${commit.slice(0, 12)}` : ''}, ` +
    `in ${by.workflowId}, ${by.at.slice(0, 16).replace('T', ' ')}; ` +
    `with ${settings.length > SHOWN ? `${settings.slice(0, SHOWN - 3)}...` : settings}`
  );
}
