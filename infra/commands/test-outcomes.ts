/**
 * The outcome of every test, in one form for all runners. Of Vitest it comes by this module as its reporter, because
 * Vitest's own JSON report leaves out why a test was skipped; of pytest, by its JUnit file.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { relative } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import type { Reporter, SerializedError, TestCase, TestModule, TestSuite, Vitest } from 'vitest/node';
import { root } from '../setup/paths.mjs';

export interface Outcome {
  name: string;
  state: 'passed' | 'failed' | 'skipped';
  seconds: number;
  /** Why a test was skipped, or with what it failed. */
  reason?: string;
}

/** `vitest --reporter=infra/commands/test-outcomes.ts --outputFile=FILE` writes the outcomes to FILE, a JSON array. */
export default class OutcomeReporter implements Reporter {
  #vitest: Vitest | undefined;

  onInit(vitest: Vitest): void {
    this.#vitest = vitest;
  }

  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly SerializedError[]): void {
    const { outputFile, testNamePattern, tagsFilter = [] } = this.#vitest!.config;
    // A filter is the name of a tag, or `!` and the name.
    const isOfTags = ({ tags }: TestCase): boolean =>
      tagsFilter.every((tag) => (tag.startsWith('!') ? !tags.includes(tag.slice(1)) : tags.includes(tag)));
    const asked = (test: TestCase): boolean =>
      isOfTags(test) && (!testNamePattern || testNamePattern.test(test.fullName.replaceAll(' > ', ' ')));
    const outcomes = modules.flatMap((module) => [
      ...[...module.children.allTests()].filter(asked).map((test) => outcomeOf(module, test)),
      // What fails outside a test: an import, a hook.
      ...[module, ...module.children.allSuites()].flatMap((part) => failuresOf(module, part)),
    ]);
    outcomes.push(
      ...unhandledErrors.map(({ message }): Outcome => ({
        name: `unhandled error: ${message}`,
        state: 'failed',
        seconds: 0,
      })),
    );
    writeFileSync(outputFile as string, JSON.stringify(outcomes));
  }
}

function outcomeOf(module: TestModule, test: TestCase): Outcome {
  const result = test.result();
  const outcome = {
    name: `${module.relativeModuleId} > ${test.fullName}`,
    seconds: (test.diagnostic()?.duration ?? 0) / 1000,
  };
  if (result.state === 'passed') return { ...outcome, state: 'passed' };
  if (result.state === 'skipped')
    return { ...outcome, state: 'skipped', ...(result.note ? { reason: result.note } : {}) };
  return { ...outcome, state: 'failed', ...reasonOf(result.errors ?? []) };
}

/** What the first error says, with its causes and the line of the test: a client's error alone tells only that it failed. */
function reasonOf(errors: readonly SerializedError[]): { reason?: string } {
  const [error] = errors;
  if (error === undefined) return {};
  const causes: string[] = [];
  for (let { cause } = error; cause !== undefined; { cause } = cause) causes.push(`caused by: ${cause.message}`);
  const place = error.stacks?.find(({ file }) => file.startsWith(root));
  const lines = [error.message, ...causes, error['diff'], place && `at ${relative(root, place.file)}:${place.line}`];
  return { reason: stripVTControlCharacters(lines.filter(Boolean).join('\n')) };
}

function failuresOf(module: TestModule, part: TestModule | TestSuite): Outcome[] {
  const name =
    part === module ? module.relativeModuleId : `${module.relativeModuleId} > ${(part as TestSuite).fullName}`;
  return part.errors().length > 0 ? [{ name, state: 'failed', seconds: 0, ...reasonOf(part.errors()) }] : [];
}

/** The outcomes in a JUnit file of pytest. An expected failure counts as skipped, as pytest writes it. */
export function outcomesOfJUnit(path: string): Outcome[] {
  // Every `<`, `>` and quote of a text is escaped, so that none stands inside an attribute or an element's text.
  return [...readFileSync(path, 'utf8').matchAll(/<testcase ([^>]*?)(?:\/>|>(.*?)<\/testcase>)/gs)].map(
    ([, attributes = '', body = '']): Outcome => {
      const outcome = {
        name: `${attribute(attributes, 'classname')} > ${attribute(attributes, 'name')}`,
        seconds: Number(attribute(attributes, 'time')),
      };
      const failed = /<(?:failure|error) ([^>]*)>/.exec(body)?.[1];
      if (failed !== undefined) return { ...outcome, state: 'failed', reason: attribute(failed, 'message') };
      const skipped = /<skipped ([^>]*)>/.exec(body)?.[1];
      return skipped === undefined
        ? { ...outcome, state: 'passed' }
        : { ...outcome, state: 'skipped', reason: attribute(skipped, 'message') };
    },
  );
}

function attribute(attributes: string, name: string): string {
  const text = new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? '';
  const named: Record<string, string> = { lt: '<', gt: '>', quot: '"', apos: "'", amp: '&' };
  return text.replace(/&(?:#(\d+)|(\w+));/g, (whole, code: string | undefined, word: string | undefined) =>
    code === undefined ? (named[word!] ?? whole) : String.fromCodePoint(Number(code)),
  );
}
