/** A comparison in words: the sentences that the page, the terminal and the details of a workflow share. Pure. */
import { TASK_PARTS, type Comparison, type EvaluationResult, type TaskPart } from '../../workflows/contract/index.js';
import type { ComparisonReport, Verdict } from './compare.js';

export const percent = (rate: number): string => `${(100 * rate).toFixed(1)} %`;
const points = (difference: number): string =>
  `${difference < 0 ? '−' : '+'}${(100 * Math.abs(difference)).toFixed(1)}`;
const pText = (p: number): string => (p < 0.001 ? p.toExponential(1) : p.toFixed(3));

/**
 * One comparison as two sentences: the verdict with its figures, and what could have been found.
 *
 * @example
 * comparisonText(comparison);
 * // 'humaneval: trained is higher than initial. 45.1 % against 36.6 % on the same 164 tasks: 14 gained, 0 lost, …'
 */
export function comparisonText(comparison: Comparison): string {
  const { benchmark, before, after, measure, tasks, notCompared, gained, lost, interval, p, adjustedP } = comparison;
  const { rateBefore, rateAfter, difference, minimalDetectable, verdict } = comparison;
  const said =
    verdict === 'noDifference'
      ? `no difference is shown between ${after} and ${before}`
      : `${after} is ${verdict} than ${before}`;
  const test = measure === 'greedy' ? 'exact McNemar test' : 'paired bootstrap';
  const detectable =
    minimalDetectable >= 1
      ? 'so few tasks show no difference at all'
      : `these tasks show a true difference of ${percent(minimalDetectable)} in 80 % of runs`;
  return (
    `${benchmark}: ${said}. ${percent(rateAfter)} against ${percent(rateBefore)} ` +
    `${measure === 'greedy' ? '(greedy)' : '(mean of the samples)'} on the same ${tasks} tasks: ` +
    `${gained} gained, ${lost} lost, ${points(difference)} points ` +
    `(95 % interval ${points(interval[0])} to ${points(interval[1])}), ${test} p = ${pText(p)}` +
    `${adjustedP === p ? '' : `, ${pText(adjustedP)} with allowance for all comparisons (Holm)`}; ${detectable}.` +
    (notCompared > 0 ? ` ${notCompared} tasks of one of them alone are not compared.` : '') +
    TASK_PARTS.map((part) => partText(part, comparison[part])).join('')
  );
}

/** The same on the clean or the suspect tasks; empty where nobody looked which ones these are. */
function partText(part: TaskPart, compared: Comparison[TaskPart]): string {
  if (compared === undefined) return '';
  if (compared === null) return ` No ${part} task is compared.`;
  const { tasks, rateBefore, rateAfter, difference, p } = compared;
  return (
    ` On the ${tasks} ${part} tasks: ${percent(rateAfter)} against ${percent(rateBefore)}, ` +
    `${points(difference)} points, p = ${pText(p)}.`
  );
}

/** A verdict, or the refusal with its reason. */
export function verdictText(verdict: Verdict): string {
  if (verdict.comparison) return comparisonText(verdict.comparison);
  return `${verdict.benchmark}: no verdict on ${verdict.side}, because ${verdict.refused}.`;
}

/** The rate of a policy on all tasks, and on the parts of them that are known. */
function figureText(result: EvaluationResult): string {
  const rate = ({ greedy, mean }: Pick<EvaluationResult, 'greedy' | 'mean'>): string => percent(greedy ?? mean ?? 0);
  const parts = TASK_PARTS.flatMap((part) => {
    const own = result[part];
    return own ? [`${part} ${rate(own)} of ${own.tasks}`] : [];
  });
  return `${result.benchmark} ${rate(result)}${parts.length > 0 ? ` (${parts.join(', ')})` : ''}`;
}

/** The whole comparison for a terminal. */
export function reportText({ sides, verdicts, differences, shared }: ComparisonReport): string {
  const lines = [
    ...sides.map(
      ({ name, policy, seconds, costUsd, figures }, at) =>
        `${at === 0 ? 'base' : `${at + 1}.  `}  ${name} (policy ${policy}, ${Math.round(seconds)} s of stages` +
        `${costUsd === null ? '' : `, ${costUsd.toFixed(2)} USD`}): ` +
        figures.map(figureText).join(', '),
    ),
    '',
    ...verdicts.map(verdictText),
    '',
    differences.length === 0 ? 'No setting differs.' : 'Settings that differ:',
    ...differences.map(
      ({ stage, setting, values }) => `  ${stage}.${setting}: ${values.map((value) => value ?? 'none').join(' | ')}`,
    ),
    shared.length === 0 ? 'No stage is shared.' : 'Shared stages, made once:',
    ...shared.map(({ stage, sides: names }) => `  ${stage}: ${names.join(', ')}`),
  ];
  return `${lines.join('\n')}\n`;
}
