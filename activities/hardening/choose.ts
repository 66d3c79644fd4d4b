/** Which of the proposed tests a question keeps, and why. Pure. */
import type { CheckedTest } from '../../workflows/contract/index.js';
import type { Candidate } from './proposals.js';

/** A proposed test with everybody whom it kills: mutants of the reference, and programs of the sampler. */
export interface Offer extends Omit<Candidate, 'kills' | 'allowed'> {
  kills: readonly string[];
}

/** Why a test stands: it kills who survives all others, or it asks something new. */
type Standing = { kills: string[] } | { asks: string };

export interface Chosen<O extends Offer> {
  offer: O;
  why: Standing;
}

export interface ChoosingRule {
  /** Tests that are added, at most. */
  maximum: number;
  /** Strangeness up to which an input may stand for what it kills. */
  killsUpTo: number;
  /** Strangeness up to which an input may stand for what it asks. */
  asksUpTo: number;
  /** What one unit of strangeness takes from the worth of an input that asks something new. */
  strangeCosts: number;
  /** What an answer that was never asked for is worth, next to 1 for each other kind. */
  answersAre: number;
}

/**
 * The tests that a question keeps, those that kill first.
 *
 * 1. Tests that kill: the least strange inputs first, and of these the one that kills most of the survivors.
 * 2. Of them, those whose victims others kill too are left out again, if the others are no stranger.
 * 3. The rest of the budget goes to inputs whose answer, path and form were asked for least.
 *
 * @param known the inputs that the question has already.
 * @example
 * chooseTests(offers, known, { maximum: 20, killsUpTo: 4, asksUpTo: 2, strangeCosts: 0.3, answersAre: 4 });
 */
export function chooseTests<O extends Offer>(
  offers: readonly O[],
  known: readonly Pick<Offer, 'answer' | 'kinds'>[],
  { maximum, killsUpTo, asksUpTo, strangeCosts, answersAre }: ChoosingRule,
): Chosen<O>[] {
  const killers = withoutRedundant(
    cover(
      offers.filter(({ strange }) => strange <= killsUpTo),
      maximum,
    ),
  );
  const chosen = killers.map(({ offer, kills }): Chosen<O> => ({ offer, why: { kills } }));
  const asked = new Asked(answersAre);
  for (const each of known) asked.add(each);
  for (const { offer } of chosen) asked.add(offer);
  const left = new Set(offers.filter(({ strange }) => strange <= asksUpTo));
  for (const { offer } of chosen) left.delete(offer);
  // Whatever is asked, an input is worth no more than before: what it was worth says whether it must be looked at.
  const was = new Map<O, number>();
  while (chosen.length < maximum && left.size > 0) {
    let best: O | undefined;
    let most = -Infinity;
    for (const offer of left) {
      if ((was.get(offer) ?? Infinity) <= most) continue;
      const worth = asked.worth(offer) - strangeCosts * offer.strange;
      was.set(offer, worth);
      if (worth <= most) continue;
      most = worth;
      best = offer;
    }
    left.delete(best!);
    chosen.push({ offer: best!, why: { asks: asked.newest(best!) } });
    asked.add(best!);
  }
  return chosen;
}

type Asking = Pick<Offer, 'answer' | 'kinds'>;

/** How often each kind of answer and input was asked. Kinds are numbered, because each is looked at many times. */
class Asked {
  readonly #numbers = new Map<string, number>();
  readonly #times: number[] = [];
  readonly #kinds = new Map<Asking, number[]>();

  constructor(readonly answersAre: number) {}

  add(offer: Asking): void {
    for (const kind of this.#of(offer)) this.#times[kind]! += 1;
  }

  worth(offer: Asking): number {
    const kinds = this.#of(offer);
    let sum = this.answersAre / (1 + this.#times[kinds[0]!]!);
    for (let at = 1; at < kinds.length; at += 1) sum += 1 / (1 + this.#times[kinds[at]!]!) ** 2;
    return sum;
  }

  /** The kind of an input that was asked least. */
  newest(offer: Asking): string {
    const times = this.#of(offer).map((kind) => this.#times[kind]!);
    return namesOf(offer)[times.indexOf(Math.min(...times))]!;
  }

  /** Numbers of the kinds, that of the answer first. */
  #of(offer: Asking): readonly number[] {
    const known = this.#kinds.get(offer);
    if (known) return known;
    const numbers = namesOf(offer).map((name) => {
      const number = this.#numbers.get(name) ?? this.#times.push(0) - 1;
      this.#numbers.set(name, number);
      return number;
    });
    this.#kinds.set(offer, numbers);
    return numbers;
  }
}

const namesOf = ({ answer, kinds }: Asking): string[] => [`= ${answer}`, ...kinds];

/** Offers that kill all who can be killed, greedily, each with those who survive all before it. */
function cover<O extends Offer>(offers: readonly O[], maximum: number): { offer: O; kills: string[] }[] {
  const found: { offer: O; kills: string[] }[] = [];
  const killed = new Set<string>();
  const levels = [...new Set(offers.map(({ strange }) => strange))].sort((a, b) => a - b);
  for (const level of levels) {
    const here = offers.filter(({ strange, kills }) => strange === level && kills.length > 0);
    while (found.length < maximum) {
      let best: O | undefined;
      let most: string[] = [];
      for (const offer of here) {
        const fresh = offer.kills.filter((victim) => !killed.has(victim));
        if (fresh.length > most.length) [best, most] = [offer, fresh];
      }
      if (!best) break;
      found.push({ offer: best, kills: most });
      for (const victim of most) killed.add(victim);
    }
  }
  return found;
}

/** Without those whose victims others kill that are no stranger; each keeps the names of its own victims. */
function withoutRedundant<O extends Offer>(found: readonly { offer: O; kills: string[] }[]): typeof found {
  let kept = [...found];
  for (const each of found) {
    const others = new Set(
      kept
        .filter((other) => other !== each && other.offer.strange <= each.offer.strange)
        .flatMap(({ offer }) => offer.kills),
    );
    if (each.offer.kills.every((victim) => others.has(victim))) kept = kept.filter((other) => other !== each);
  }
  const named = new Set<string>();
  return kept.map(({ offer }) => {
    const kills = offer.kills.filter((victim) => !named.has(victim));
    for (const victim of kills) named.add(victim);
    return { offer, kills };
  });
}

/** A prime below 2^26: products of two remainders are exact. */
const PRIME = 67_108_859;

/**
 * Rank of the matrix of tests and those whom they fail, modulo a large prime: in how many independent ways attackers fail.
 *
 * @param columns for each test, whom it kills.
 * @example
 * rankOf([['a'], ['b'], ['a', 'b']]); // 2: the third test says nothing that the others do not
 */
export function rankOf(columns: readonly (readonly string[])[]): number {
  const names = [...new Set(columns.flat())];
  const place = new Map(names.map((name, at) => [name, at]));
  const different = new Map(columns.map((column) => [JSON.stringify([...column].sort()), column]));
  /** Columns that are independent of each other, each 1 at a place of its own, where those after it are 0. */
  const basis: { lead: number; values: number[] }[] = [];
  for (const column of different.values()) {
    const values = names.map(() => 0);
    for (const name of column) values[place.get(name)!] = 1;
    for (const { lead, values: known } of basis) {
      const times = values[lead]!;
      if (times !== 0)
        for (const [at, value] of known.entries())
          values[at] = (((values[at]! - ((times * value) % PRIME)) % PRIME) + PRIME) % PRIME;
    }
    const lead = values.findIndex((value) => value !== 0);
    if (lead < 0) continue;
    const inverse = inverseOf(values[lead]!);
    basis.push({ lead, values: values.map((value) => (value * inverse) % PRIME) });
    if (basis.length === names.length) break;
  }
  return basis.length;
}

/** What times `value` is 1 modulo the prime, by Fermat. */
function inverseOf(value: number): number {
  let [result, base, exponent] = [1, value, PRIME - 2];
  while (exponent > 0) {
    if (exponent % 2 === 1) result = (result * base) % PRIME;
    base = (base * base) % PRIME;
    exponent = Math.floor(exponent / 2);
  }
  return result;
}

const INEXACT = 1e-6;

/**
 * A candidate as a test of its question: an assert, or a comparison with a tolerance where the answer holds floats.
 *
 * @example
 * testOf({ call: 'f(2)', answer: '4', inexact: false }, { form: '__call__', tolerance: null }); // assert f(2) == 4
 */
export function testOf(
  { call, answer, inexact }: Pick<Candidate, 'call' | 'answer' | 'inexact'>,
  { form, tolerance }: { form: string; tolerance: number | null },
): string | CheckedTest {
  const asked = form.replaceAll('__call__', () => call);
  if (tolerance === null && !inexact) return `assert ${asked} == ${answer}`;
  return { call: asked, expect: answer, compare: 'tolerance', tolerance: tolerance ?? INEXACT };
}

/**
 * Whether most programs that were written without the reference answer as the reference does; equal texts are one
 * program.
 *
 * @example
 * vouchedFor([{ program: 'def f(n): return n + n', status: 'pass' }], 'def f(n): return 2 * n'); // true
 */
export function vouchedFor(said: readonly { program: string; status: string }[], reference: string): boolean {
  const passes = new Map(said.map(({ program, status }) => [program.replace(/\s+/g, ''), status === 'pass']));
  passes.delete(reference.replace(/\s+/g, ''));
  const agree = [...passes.values()].filter(Boolean).length;
  return 2 * agree > passes.size;
}

/**
 * Preference pairs that pass rates of one question give by the rule of the paper (section 2.3, equation 3): the chosen
 * program passes 0.8 at least, and the rejected one 0.4 less, but something. Equal texts are not told apart.
 *
 * @example
 * pairsOf([1, 0.5, 0]); // 1
 */
export function pairsOf(rates: readonly number[]): number {
  const close = 1e-9;
  return rates
    .filter((rate) => rate >= 0.8 - close)
    .reduce((pairs, best) => pairs + rates.filter((rate) => rate > close && best - rate >= 0.4 - close).length, 0);
}
