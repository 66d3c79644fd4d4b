/**
 * Held-out evidence for the constants by which hardening chooses tests: rules that win on one half of the tasks are
 * measured on the other.
 */
import { judgePrograms } from '../../../activities/execution/execution.js';
import { chooseTests, testOf, type ChoosingRule, type Offer } from '../../../activities/hardening/choose.js';
import { CHOOSING, strangestOf, type Trust } from '../../../activities/hardening/harden.js';
import { propose, type AttackBudget } from '../../../activities/hardening/proposals.js';
import type { SandboxOperation } from '../../../activities/runtime/operations.js';
import type { PythonProcess } from '../../../activities/runtime/python-service.js';
import { testText } from '../../../workflows/contract/index.js';
import { LIMITS, seedOf, type Problem } from './problems.js';

type Rule = Omit<ChoosingRule, 'maximum'>;

/** What the tests of a rule did to programs. */
export interface Tally {
  wrong: number;
  killed: number;
  right: number;
  lost: number;
}

const NOTHING: Readonly<Tally> = { wrong: 0, killed: 0, right: 0, lost: 0 };

const sum = (tallies: readonly Tally[]): Tally =>
  tallies.reduce(
    (all, each) => ({
      wrong: all.wrong + each.wrong,
      killed: all.killed + each.killed,
      right: all.right + each.right,
      lost: all.lost + each.lost,
    }),
    NOTHING,
  );

/** The share of wrong programs that is killed, less that of right ones: Youden's J. */
export const gain = ({ wrong, killed, right, lost }: Tally): number =>
  killed / Math.max(1, wrong) - lost / Math.max(1, right);

/** Rules that are tried, each with one constant of the product's changed; that is the first. */
function rulesOf(trust: Trust): Rule[] {
  const own = CHOOSING[trust];
  return [
    own,
    ...[own.killsUpTo / 2, own.killsUpTo / 4, own.killsUpTo / 8].map((upTo) => ({
      ...own,
      killsUpTo: upTo,
      asksUpTo: upTo,
    })),
    ...[0, 2 * own.strangeCosts].map((strangeCosts) => ({ ...own, strangeCosts })),
    ...[1, 16].map((answersAre) => ({ ...own, answersAre })),
  ];
}

const nameOf = ({ killsUpTo, strangeCosts, answersAre }: Rule): string =>
  `up to ${killsUpTo}, strangeness costs ${strangeCosts}, answers are ${answersAre}`;

/** Each problem's tally under each rule, and the programs that fail tests of the first one. */
async function tried(
  sandbox: PythonProcess<SandboxOperation>,
  problems: readonly Problem[],
  trust: Trust,
  rules: readonly Rule[],
  { maximum, budget }: { maximum: number; budget: AttackBudget },
): Promise<{ byRule: Tally[]; failed: { id: string; right: boolean; tests: string[] }[] }[]> {
  const attacks = await propose(
    sandbox,
    problems.map(({ subject: { question, seed } }) => ({
      ...question,
      obeysContract: trust === 'contract',
      seed,
    })),
    { budget, strangest: strangestOf(trust) },
  );
  const chosen = problems.map((_, at) => {
    const attack = attacks[at]!;
    if ('reason' in attack) return { tests: [], byRule: rules.map((): string[] => []) };
    const offers = attack.candidates.map((candidate): Offer => ({ ...candidate, kills: candidate.kills.map(String) }));
    const tests = new Map<string, ReturnType<typeof testOf>>();
    const byRule = rules.map((rule) =>
      chooseTests(offers, attack.known, { ...rule, maximum }).map(({ offer }) => {
        const test = testOf(offer, attack);
        tests.set(testText(test), test);
        return testText(test);
      }),
    );
    return { tests: [...tests.values()], byRule };
  });
  const jobs = problems.flatMap(({ subject: { question }, programs }, at) =>
    [{ id: question.id, program: question.reference }, ...programs].map(({ program }, which) => ({
      id: `${question.id} / ${which}`,
      program,
      tests: chosen[at]!.tests,
      limits: { cpuSecondsPerProgram: 120 },
    })),
  );
  const { judgements } = await judgePrograms(
    sandbox,
    jobs.filter(({ tests }) => tests.length > 0),
    { limits: LIMITS },
  );
  const outcomes = new Map(judgements.map((each) => [each.id, each.outcomes]));
  return problems.map(({ subject: { question }, programs }, at) => {
    const { tests, byRule } = chosen[at]!;
    const failedBy = (which: number): Set<string> =>
      new Set(
        (outcomes.get(`${question.id} / ${which}`) ?? []).flatMap(({ status }, place) =>
          status === 'pass' ? [] : [testText(tests[place]!)],
        ),
      );
    const none = failedBy(0);
    const failed = programs.map((_, which) => failedBy(which + 1));
    const failing = (texts: readonly string[], which: number): string[] =>
      texts.filter((text) => !none.has(text) && failed[which]!.has(text));
    return {
      byRule: byRule.map((texts) =>
        sum(
          programs.map(({ right }, which) => {
            const fails = Number(failing(texts, which).length > 0);
            return right ? { ...NOTHING, right: 1, lost: fails } : { ...NOTHING, wrong: 1, killed: fails };
          }),
        ),
      ),
      failed: programs
        .map(({ id, right }, which) => ({ id, right, tests: failing(byRule[0]!, which) }))
        .filter(({ tests: each }) => each.length > 0),
    };
  });
}

/** The product's rule on all problems, and rules that win on one half of them, each on the other half. */
export async function heldOut(
  sandbox: PythonProcess<SandboxOperation>,
  problems: readonly Problem[],
  trust: Trust,
  options: { maximum: number; budget: AttackBudget },
): Promise<{ own: Tally; best: Tally; crossed: Tally }> {
  const rules = rulesOf(trust);
  const asked = problems.filter(({ programs }) => programs.length > 0);
  const tallies = await tried(sandbox, asked, trust, rules, options);
  return compared(
    trust,
    rules,
    asked.map(({ subject }, at) => ({ id: subject.question.id, byRule: tallies[at]!.byRule })),
  );
}

/** What rules did, told, from the tallies of each problem under each of them. */
function compared(
  trust: Trust,
  rules: readonly Rule[],
  tallies: readonly { id: string; byRule: readonly Tally[] }[],
): { own: Tally; best: Tally; crossed: Tally } {
  type Side = (id: string) => boolean;
  const of = (isIn: Side, rule: number): Tally =>
    sum(tallies.flatMap(({ id, byRule }) => (isIn(id) ? [byRule[rule]!] : [])));
  /** The best rule of some problems; of equal ones the first. */
  const winner = (isIn: Side): number =>
    rules.reduce((best, _, rule) => (gain(of(isIn, rule)) > gain(of(isIn, best)) ? rule : best), 0);
  const first: Side = (id) => seedOf(id, 2) % 2 === 0;
  const second: Side = (id) => !first(id);
  const all: Side = () => true;
  const told = ({ wrong, killed, right, lost }: Tally): string =>
    `killed ${killed} of ${wrong}, lost ${lost} of ${right}`;
  const crossed = [[first, second] as const, [second, first] as const].map(([here, there]) => {
    const rule = winner(here);
    console.log(
      `  ${trust}: one half chooses "${nameOf(rules[rule]!)}", there ${told(of(here, rule))}; on the other half ` +
        `${told(of(there, rule))}, and the product's rule ${told(of(there, 0))}`,
    );
    return of(there, rule);
  });
  for (const [rule, each] of rules.entries())
    console.log(`  ${trust}: ${nameOf(each)}: ${told(of(all, rule))}, J ${gain(of(all, rule)).toFixed(3)}`);
  return { own: of(all, 0), best: of(all, winner(all)), crossed: sum(crossed) };
}
