/**
 * Hardens questions: inputs are proposed, the sampled programs that pass everything are judged on the best of them, and
 * the tests that kill or ask something new are kept.
 *
 * The stage and the bench call it. It knows no Temporal and stores nothing.
 */
import {
  StageConfigs,
  type CheckedTest,
  type FilteredQuestionRow,
  type SandboxLimits,
  type TestOutcome,
} from '../../workflows/contract/index.js';
import { count } from '../artifacts/collections.js';
import { judgePrograms, settled, type Job, type Judged } from '../execution/execution.js';
import type { SandboxOperation } from '../runtime/operations.js';
import type { PythonProcess } from '../runtime/python-service.js';
import { chooseTests, rankOf, testOf, vouchedFor, type Chosen, type ChoosingRule, type Offer } from './choose.js';
import { propose, type Attack, type AttackBudget, type Candidate } from './proposals.js';

export const TRUSTS = StageConfigs.hardening.shape.trust.unwrap().options;
/** What vouches for an input, beside the reference, which answers it. */
export type Trust = (typeof TRUSTS)[number];

/** A question with its sampled programs. */
export interface Subject {
  question: Pick<
    FilteredQuestionRow,
    'id' | 'reference' | 'entryPoint' | 'tests' | 'contract' | 'checker' | 'language' | 'limits'
  >;
  /** `passes`: all tests of the question. */
  programs: readonly { id: string; program: string; passes: boolean }[];
  /** Texts of a teacher that propose calls. */
  replies?: string | undefined;
  /** Chooses the inputs. */
  seed: number;
}

export interface HardeningRule {
  trust: Trust;
  /** Tests per question, at most. */
  maximumTests: number;
  budget: Omit<AttackBudget, 'seconds'>;
  limits: SandboxLimits;
}

/** A test that was added, and why it stands. */
interface AddedTest {
  test: string | CheckedTest;
  /** Programs, by their ids, and mutants of the reference that pass all tests before it and fail it. */
  kills?: { programs: string[]; mutants: string[] };
  /** What nothing asked before it, where it kills nobody else. */
  asks?: string;
  /** How far its input is from what those of the question have in common. */
  strange: number;
  /** What vouches for its input next to the reference, whatever was asked for. */
  vouched: Exclude<Trust, 'reference'>[];
  /** Whether the teacher proposed its input. */
  proposed?: true;
}

interface Hardened {
  /** Why no test was added. */
  reason?: string;
  added: AddedTest[];
  /** Outcomes of the added tests, by the ids of the programs. */
  outcomes: ReadonlyMap<string, readonly TestOutcome[]>;
  /** Mutants that were made; those that the question's own tests leave alive; and of them those that added tests kill. */
  mutants: { made: number; survive: number; killed: number };
  /** In how many independent ways attackers fail on the proposed tests, and on the added ones. */
  rank: { proposed: number; added: number };
  /** The attack itself, for a bench. */
  attack?: Attack;
}

export interface Hardening {
  /** In the order of the subjects. */
  hardened: Hardened[];
  /** Inputs that became no test, by reason. */
  refused: Record<string, number>;
  executions: number;
  cpuSeconds: number;
  about: Pick<Judged, 'harness' | 'host'>;
}

/**
 * How tests are chosen, by what vouches for an input: `npm run bench:hardening -- --held-out` tries others. Where nothing
 * but the reference does, an input that only asks something new is less strange than one that kills.
 */
export const CHOOSING: Readonly<Record<Trust, Omit<ChoosingRule, 'maximum'>>> = {
  reference: { killsUpTo: 4, asksUpTo: 3, strangeCosts: 0.2, answersAre: 4 },
  contract: { killsUpTo: 8, asksUpTo: 8, strangeCosts: 0.1, answersAre: 4 },
  agreement: { killsUpTo: 4, asksUpTo: 3, strangeCosts: 0.2, answersAre: 4 },
};

/** How strange an input may be at all, by what vouches for it. */
export function strangestOf(trust: Trust): number {
  return Math.max(CHOOSING[trust].killsUpTo, CHOOSING[trust].asksUpTo);
}

/** Tests that survivors are judged on, as a multiple of those that are added. */
const SHORTLIST = 5;
/** CPU time of one question's attack, in seconds. */
const ATTACK_SECONDS = 20;
const PROGRAM = 'program ';
const MUTANT = 'mutant ';
/** What says of an input that it is large, and not that a program is wrong. */
const OUT_OF_RESOURCES: ReadonlySet<TestOutcome['status']> = new Set(['timeout', 'killed', 'not_run']);

/**
 * The same subjects and rule give the same tests.
 *
 * @throws StageFailure `SandboxUnavailable` where the host cannot judge.
 * @example
 * const { hardened } = await harden(sandbox, [{ question, programs, seed: 7 }], rule, { signal });
 * for (const { test, kills } of hardened[0]!.added) console.log(test, kills);
 */
export async function harden(
  sandbox: PythonProcess<SandboxOperation>,
  subjects: readonly Subject[],
  { trust, maximumTests, budget, limits }: HardeningRule,
  {
    signal,
    onProgress = () => undefined,
  }: { signal?: AbortSignal; onProgress?: (done: number, total: number, message: string) => void } = {},
): Promise<Hardening> {
  const rule: ChoosingRule = { maximum: maximumTests, ...CHOOSING[trust] };
  const refused: Record<string, number> = {};
  const reasons = subjects.map((subject) => reasonAgainst(subject, trust));
  const asked = subjects.flatMap((subject, at) => (reasons[at] === undefined ? [{ subject, at }] : []));
  const proposals = await propose(
    sandbox,
    asked.map(({ subject: { question, replies, seed } }) => ({
      id: question.id,
      reference: question.reference,
      entryPoint: question.entryPoint,
      tests: question.tests,
      contract: question.contract,
      obeysContract: trust === 'contract',
      replies,
      seed,
    })),
    {
      budget: { ...budget, seconds: ATTACK_SECONDS },
      strangest: strangestOf(trust),
      ...(signal ? { signal } : {}),
      onProgress: (done) => onProgress(done, asked.length, 'questions attacked'),
    },
  );
  let executions = 0;
  const attacked = asked.flatMap(({ subject, at }, place) => {
    const attack = proposals[place]!;
    if ('reason' in attack) {
      reasons[at] = attack.reason;
      return [];
    }
    for (const [reason, times] of Object.entries(attack.refused)) count(refused, reason, times);
    executions += attack.executions;
    const most = SHORTLIST * maximumTests;
    const offers = offersOf(attack);
    const shortlist = chooseTests(offers, attack.known, { ...rule, maximum: most }).map(({ offer }) => offer);
    // A teacher may know what no mutant shows, so survivors are judged on all that it proposes.
    const taught = offers.filter((offer) => offer.proposed && !shortlist.includes(offer)).slice(0, most);
    return [{ ...subject, at, attack, shortlist: [...shortlist, ...taught] }];
  });

  const judgeOn = (message: string, jobs: readonly Job[]): Promise<Judged> =>
    judgePrograms(sandbox, jobs, {
      limits,
      ...(signal ? { signal } : {}),
      onProgress: (done, total) => onProgress(done, total, message),
    });
  const first = await judgeOn(
    'programs run on proposed tests',
    attacked.flatMap(({ question, programs, attack, shortlist }): Job[] => {
      const tests = shortlist.map((offer) => testOf(offer, attack));
      if (tests.length === 0) return [];
      const survivors = programs.filter(({ passes }) => passes);
      return [{ id: question.id, program: question.reference }, ...survivors].map(({ id, program }) => ({
        id,
        program,
        tests,
        limits: limitsOf(question, limits, tests.length),
      }));
    }),
  );
  const verdicts = new Map(settled(first.judgements).map(({ id, outcomes }) => [id, outcomes]));
  const chosen = attacked.map((each) => {
    const { question, programs, attack, shortlist } = each;
    const reference = verdicts.get(question.id) ?? [];
    const survivors = programs.filter(({ passes }) => passes);
    const refuse = (reason: string): never[] => {
      count(refused, reason);
      return [];
    };
    const offers = shortlist.flatMap((offer, place) => {
      if (reference[place]?.status !== 'pass') return refuse('unconfirmed');
      const said = survivors.map(({ id, program }) => ({ id, program, status: verdicts.get(id)![place]!.status }));
      if (said.some(({ status }) => OUT_OF_RESOURCES.has(status))) return refuse('slowForProgram');
      const agreed = vouchedFor(said, question.reference);
      if (trust === 'agreement' && !agreed) return refuse('noAgreement');
      const kills = said.filter(({ status }) => status !== 'pass').map(({ id }) => `${PROGRAM}${id}`);
      return [{ ...offer, kills: [...offer.kills, ...kills], place, agreed }];
    });
    const kept = chooseTests(offers, attack.known, rule);
    const rank = {
      proposed: rankOf(offers.map(({ kills }) => kills)),
      added: rankOf(kept.map(({ offer: { kills } }) => kills)),
    };
    return { ...each, chosen: kept, rank };
  });

  // The programs that fail a test already are judged on the added ones too: a rate is over all tests.
  const second = await judgeOn(
    'programs rated',
    chosen.flatMap(({ question, programs, attack, chosen: tests }): Job[] =>
      tests.length === 0
        ? []
        : programs
            .filter(({ passes }) => !passes)
            .map(({ id, program }) => ({
              id,
              program,
              tests: tests.map(({ offer }) => testOf(offer, attack)),
              limits: limitsOf(question, limits, tests.length),
            })),
    ),
  );
  const rated = new Map(settled(second.judgements).map(({ id, outcomes }) => [id, outcomes]));
  const byPlace = new Map(chosen.map((each) => [each.at, each]));
  return {
    hardened: subjects.map(({ programs }, at): Hardened => {
      const found = byPlace.get(at);
      if (!found)
        return {
          reason: reasons[at]!,
          added: [],
          outcomes: new Map(),
          mutants: { made: 0, survive: 0, killed: 0 },
          rank: { proposed: 0, added: 0 },
        };
      const { attack, chosen: tests, rank } = found;
      return {
        ...(tests.length === 0 ? { reason: 'noTest' } : {}),
        added: tests.map((each) => addedTest(each, attack)),
        outcomes: new Map(
          programs.map(({ id, passes }) => [
            id,
            passes ? tests.map(({ offer: { place } }) => verdicts.get(id)![place]!) : (rated.get(id) ?? []),
          ]),
        ),
        mutants: mutantsOf(attack, tests),
        rank,
        attack,
      };
    }),
    refused,
    executions,
    cpuSeconds: first.cpuSeconds + second.cpuSeconds,
    about: first,
  };
}

/** Why a question is not even attacked. */
function reasonAgainst(
  { question: { reference, language, tests, checker, contract } }: Subject,
  trust: Trust,
): string | undefined {
  if (reference === '') return 'noReference';
  if (language !== undefined && language !== 'python') return 'otherLanguage';
  if (checker !== undefined || tests.some((test) => typeof test !== 'string' && 'stdin' in test)) return 'noAsserts';
  return trust === 'contract' && contract === undefined ? 'noContract' : undefined;
}

/** A proposed test, and whether its row's contract allows the input. */
type Proposed = Offer & Pick<Candidate, 'allowed' | 'proposed'>;

function offersOf({ candidates, mutants: { survivors } }: Attack): Proposed[] {
  return candidates.map((candidate) => ({
    ...candidate,
    kills: candidate.kills.map((at) => `${MUTANT}${survivors[at]!.id}`),
  }));
}

function addedTest({ offer, why }: Chosen<Proposed & { agreed: boolean }>, attack: Attack): AddedTest {
  const test = testOf(offer, attack);
  const { strange, allowed, agreed } = offer;
  const proposed = offer.proposed ? { proposed: true as const } : {};
  const vouched: AddedTest['vouched'] = [
    ...(allowed ? ['contract' as const] : []),
    ...(agreed ? ['agreement' as const] : []),
  ];
  if ('asks' in why) return { test, asks: why.asks, strange, vouched, ...proposed };
  const of = (kind: string): string[] =>
    why.kills.filter((each) => each.startsWith(kind)).map((each) => each.slice(kind.length));
  return { test, kills: { programs: of(PROGRAM), mutants: of(MUTANT) }, strange, vouched, ...proposed };
}

function mutantsOf({ mutants: { made, survivors } }: Attack, kept: readonly Chosen<Offer>[]): Hardened['mutants'] {
  const killed = new Set(kept.flatMap(({ offer: { kills } }) => kills));
  return {
    made,
    survive: survivors.length,
    killed: survivors.filter(({ id }) => killed.has(`${MUTANT}${id}`)).length,
  };
}

/** Limits of a program on so many tests: the CPU time of a program is meant for the tests that its question has. */
function limitsOf(
  { limits, tests }: Pick<FilteredQuestionRow, 'limits' | 'tests'>,
  most: SandboxLimits,
  length: number,
): Partial<SandboxLimits> {
  const { cpuSecondsPerTest, cpuSecondsPerProgram } = limits ?? most;
  return { cpuSecondsPerTest, cpuSecondsPerProgram: cpuSecondsPerProgram * Math.max(1, length / tests.length) };
}
