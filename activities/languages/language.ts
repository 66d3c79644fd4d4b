/**
 * What a programming language is to this system. Each one is a file of this room and a line of the registry,
 * `index.ts`.
 *
 * Prompts, parsers, tests and likeness know of a language what stands here, and nothing else. These files are pure:
 * the contract builds its schemas from them, and they run inside the workflow bundle. How programs run is no part of
 * it: that is the judge's, behind the protocol of the sandbox.
 */

/** Why the text of a test cannot be used. Whether a test is right, the oracle says. */
export type TestFault =
  'noAssert' | 'doesNotParse' | 'wrongFunction' | 'needsFiles' | 'needsNetwork' | 'needsProcesses';

/** A test of a program: a text, or what a script reads and must print. */
type TestText = string | { stdin: string; stdout: string };

/** What a prompt for exercises says in the words of a language. */
export interface ExerciseWords {
  /** Name of the language in a sentence. */
  title: string;
  /** A function's header, as an example. */
  header: string;
  /** What the tests are, in a few words. */
  tests: string;
  /** What one test looks like, in whole sentences. */
  test: string;
  /** How a test compares floating-point results, as an example. */
  tolerance: string;
}

export interface LanguageDefinition<Name extends string = string> {
  /** Name in rows and keys. */
  name: Name;
  /** The sentence after a question that tells a policy what its answer is to look like. Part of every answer's key. */
  answerRequest: string;
  /** Label of the fenced block that an answer is opened with. */
  fence: string;
  /** Whether a fenced block with this label may hold a program. A block without a label has the label `''`. */
  isFence: (label: string) => boolean;
  /** Names of the functions that a text defines at its top level, in order. */
  functionsOf: (code: string) => string[];
  /** Names of the functions and classes that a text defines at its top level, in order. */
  definitionsOf: (code: string) => string[];
  /** Whether a text defines a name at its top level, as a function, a class or a value. */
  defines: (code: string, name: string) => boolean;
  /** Whether a text ends inside of a text literal that spans lines, such as a docstring. */
  isInsideText: (code: string) => boolean;
  /** Code without what no program has: prompts of an interpreter, and blanks that only look like them. */
  repaired: (code: string) => string;
  /** Whether a text ends inside of a literal or a bracket, so that the next line goes on with it. */
  isOpen: (code: string) => boolean;
  /** Whether a line is a sentence or a mark of a page, and no code. */
  isProse: (line: string) => boolean;
  /** Whether a line begins a program: an import or a definition. */
  beginsCode: (line: string) => boolean;
  /** What a program is, where it is no function to be called: see the forms of questions. */
  formOf: (code: string) => 'class' | 'async' | 'script' | undefined;
  /** Whether a program reads what is typed. */
  readsInput: (code: string) => boolean;
  /** Whether the function of a text has to be waited for. */
  isAsync: (code: string, name: string) => boolean;
  /** Name of the first function of a text, wherever it stands. */
  firstFunctionOf: (code: string) => string | undefined;
  /** Name of the function that a header declares; undefined where it declares none. */
  functionOfHeader: (header: string) => string | undefined;
  /** Name of the class that a header declares; undefined where it declares none. */
  classOfHeader: (header: string) => string | undefined;
  /** The class that tests make objects of, and the method where all that they do is to call one of a new object. */
  classUnderTest: (tests: readonly string[]) => { name: string; method?: string } | undefined;
  /** A test that calls a method of a new object as a call of a function. */
  withoutHolder: (test: string, holder: string) => string;
  /** A test in which calls of an asynchronous function are waited for. */
  awaited: (test: string, entryPoint: string) => string;
  /** A value of JSON as the language writes it. */
  literalOf: (value: unknown) => string;
  /** A header as a question shows it, without what only the source needs. */
  shownHeader: (header: string) => string;
  /** A text without comments on what it does. Two programs are compared by the rest. */
  withoutDocumentation: (code: string) => string;
  /**
   * Which function tests are about: the one of `functions` that they call most often, or else the first that one
   * calls.
   */
  functionUnderTest: (tests: readonly string[], functions: readonly string[]) => string | undefined;
  /** Why a test cannot be used; undefined for one that can be run. No parser: what is left over, the sandbox tells. */
  faultOf: (test: string, entryPoint: string) => TestFault | undefined;
  /** The expression with a call of the program whose value a test compares; undefined where that is not all it does. */
  comparedCall: (test: string) => string | undefined;
  /** What a test expects. A question whose tests expect one value only is answered by a constant. */
  expectedOutput: (test: string) => string;
  /** Makes tests that do not name the function they test mean `entryPoint`. */
  withEntryPoint: (tests: readonly TestText[], entryPoint: string) => TestText[];
  /**
   * The words of prompts for exercises, by version of the prompt. Words that were used are never changed: the name of
   * the version is part of the key of every reply.
   */
  exercise: { v1: ExerciseWords };
}
