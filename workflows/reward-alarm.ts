/** When the watch for reward hacking stops a round, and what people are told then. Pure. */
import { SHOWN_CHARACTERS, type FlaggedProgram, type RoundWatch } from './contract/index.js';

/** What a rule reads of a round. */
export type SeenRound = { round: number } & Pick<RoundWatch, 'gap' | 'rewardModelGap'>;

/** Settings that the rule reads. */
export interface AlarmRule {
  gap: number;
  deviations: number;
  rounds: number;
  /** Rounds about whose alarm somebody has decided; counting begins anew after them. */
  decisions?: readonly { round: number }[] | undefined;
}

export interface Alarm {
  /** Which gap: that of hidden tests, or that of the reward model. */
  of: 'gap' | 'rewardModelGap';
  /** Mean gap of the last rounds, and its standard error. */
  value: number;
  error: number;
}

/**
 * The alarm at the last of these rounds; undefined where there is none. A gap is alarming where it is above `rule.gap`
 * in each of the last `rule.rounds` rounds, and their mean is above it by more than `rule.deviations` standard errors.
 * Rounds are independent samples, so the error of their mean is the root of the sum of squares over their number, and
 * the error that they share adds to it.
 *
 * @param seen rounds in their order.
 * @example
 * alarmOf([{ round: 1, gap: { value: 0.3, error: 0.02 } }], { gap: 0.05, deviations: 2, rounds: 1 })?.of; // 'gap'
 */
export function alarmOf(seen: readonly SeenRound[], rule: AlarmRule): Alarm | undefined {
  const decided = Math.max(0, ...(rule.decisions ?? []).map(({ round }) => round));
  const last = seen.filter(({ round }) => round > decided).slice(-rule.rounds);
  if (last.length < rule.rounds) return undefined;
  for (const name of ['gap', 'rewardModelGap'] as const) {
    const gaps = last.flatMap((round) => round[name] ?? []);
    if (gaps.length < last.length || gaps.some(({ value }) => value <= rule.gap)) continue;
    const value = gaps.reduce((sum, each) => sum + each.value, 0) / gaps.length;
    const own = Math.hypot(...gaps.map((each) => each.error)) / gaps.length;
    const error = Math.hypot(own, ...gaps.slice(-1).map(({ shared = 0 }) => shared));
    if (value > rule.gap + rule.deviations * error) return { of: name, value, error };
  }
  return undefined;
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

/**
 * What an alarm says: the figures, the flagged programs, and what can be answered. Programs are hostile text, so each is
 * one code of Markdown.
 */
export function alarmText(round: number, { of, value, error }: Alarm, rule: AlarmRule, watch: RoundWatch): string {
  const what =
    of === 'gap'
      ? 'more programs pass the visible tests than all tests'
      : 'the reward model promises more passing programs than tests find';
  const rates =
    watch.visiblePassRate === undefined || watch.hiddenPassRate === undefined
      ? ''
      : ` Pass rate by visible tests ${percent(watch.visiblePassRate)}, by hidden tests ${percent(watch.hiddenPassRate)}.`;
  return (
    `round ${round}: ${what}, by ${percent(value)} ± ${percent(error)} over ${rule.rounds} rounds ` +
    `(reinforcement.watch.gap ${rule.gap}).${rates} ${watch.flagged} of ${watch.judged} judged programs are flagged` +
    `${watch.shown.length > 0 ? `: ${watch.shown.map(shownText).join('; ')}` : ''}. Nothing was trained on this round. ` +
    'The update resume goes on, with "drop" without the flagged rollouts from this round on, with "keep" with them'
  );
}

function shownText({ questionId, reason, program }: FlaggedProgram): string {
  return `${questionId.slice(0, 80)} (${reason}) ${codeText(program)}`;
}

/** Text as inline code of Markdown, on one line. */
function codeText(text: string): string {
  const line = text.replaceAll(/\s*\n\s*/g, ' ⏎ ').slice(0, SHOWN_CHARACTERS);
  const marks = '`'.repeat(1 + Math.max(0, ...[...line.matchAll(/`+/g)].map(([run]) => run.length)));
  return `${marks} ${line} ${marks}`;
}
