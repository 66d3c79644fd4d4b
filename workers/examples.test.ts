/**
 * The examples in the docstrings of the published modules: each export has what it needs, and all examples are valid.
 */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import ts from 'typescript';
import { beforeAll, describe, expect, it } from 'vitest';
import { checkInput, WorkflowInputs, type WorkflowName } from '../workflows/contract/index.js';

const root = fileURLToPath(new URL('..', import.meta.url));
/** Published modules by the name that an application imports, with their sources. */
const MODULES = {
  'acecoder-temporal': 'workers/index.ts',
  'acecoder-temporal/workflows': 'workflows/index.ts',
  'acecoder-temporal/workflows/data': 'workflows/data.ts',
  'nvidia-smi-parser': 'infra/nvidia-smi-parser/src/index.ts',
} as const;

interface Export {
  module: string;
  name: string;
  isValue: boolean;
  text: string;
  examples: string[];
}

let options: ts.CompilerOptions;
let exported: Export[];

beforeAll(() => {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), (path) => ts.sys.readFile(path)) as {
    config: object;
  };
  options = {
    ...ts.parseJsonConfigFileContent({ ...config, include: [], files: [] }, ts.sys, root).options,
    // An example may declare what it does not use.
    noUnusedLocals: false,
    paths: Object.fromEntries(Object.entries(MODULES).map(([name, file]) => [name, [join(root, file)]])),
  };
  const program = ts.createProgram(
    Object.values(MODULES).map((file) => join(root, file)),
    options,
  );
  exported = Object.entries(MODULES).flatMap(([module, file]) => exportsOf(program, module, file));
}, 300_000);

function exportsOf(program: ts.Program, module: string, file: string): Export[] {
  const checker = program.getTypeChecker();
  const symbols = checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(join(root, file))!)!);
  return symbols.map((symbol) => {
    const target = symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
    return {
      module,
      name: symbol.name,
      isValue: (target.flags & ts.SymbolFlags.Value) !== 0,
      text: ts.displayPartsToString(target.getDocumentationComment(checker)),
      examples: target
        .getJsDocTags(checker)
        .filter(({ name }) => name === 'example')
        .map(({ text }) => ts.displayPartsToString(text)),
    };
  });
}

const named = (some: readonly Export[]): string[] => some.map(({ module, name }) => `${module}: ${name}`);

/** The code of an example, which is one fenced block. */
function codeOf(example: string): string | undefined {
  return /^```ts\n([\s\S]*?)\n```$/.exec(example.trim())?.[1];
}

/** What the compiler says of texts, by their names. They lie in `workers`, where the packages resolve. */
function diagnostics(texts: Readonly<Record<string, string>>): string[] {
  const files = new Map(
    Object.entries(texts).map(([name, text], at) => [join(root, 'workers', `example-${at}.ts`), { name, text }]),
  );
  const host = ts.createCompilerHost(options);
  const [read, exists] = [host.getSourceFile.bind(host), host.fileExists.bind(host)];
  host.fileExists = (path) => files.has(path) || exists(path);
  host.getSourceFile = (path, target, ...rest) => {
    const file = files.get(path);
    // Without an import or export, a text would not be a module.
    return file ? ts.createSourceFile(path, `${file.text}\nexport {};\n`, target) : read(path, target, ...rest);
  };
  const program = ts.createProgram([...files.keys()], options, host);
  return [...files].flatMap(([path, { name }]) => {
    const source = program.getSourceFile(path)!;
    return [...program.getSyntacticDiagnostics(source), ...program.getSemanticDiagnostics(source)].map(
      ({ messageText }) => `${name}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`,
    );
  });
}

interface Start {
  workflow: string;
  input: unknown;
}

/** The workflows that an example starts, with their inputs, which must be literals. */
function startedIn(code: string): Start[] {
  const started: Start[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isCallExpression(node) && /\.workflow\.(start|execute)$/.test(node.expression.getText())) {
      const [name, settings] = node.arguments.map(valueOf);
      const [input] = (settings as { args: unknown[] }).args;
      started.push({ workflow: name as string, input });
    }
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile('example.ts', code, ts.ScriptTarget.ES2022, true));
  return started;
}

/** The value of a literal. @throws Error for any other expression. */
function valueOf(node: ts.Expression): unknown {
  if (ts.isObjectLiteralExpression(node))
    return Object.fromEntries(
      node.properties.map((property) => {
        if (!ts.isPropertyAssignment(property)) throw new Error(`${property.getText()} is no literal`);
        const { name, initializer } = property;
        return [ts.isStringLiteral(name) ? name.text : name.getText(), valueOf(initializer)];
      }),
    );
  if (ts.isArrayLiteralExpression(node)) return node.elements.map(valueOf);
  if (ts.isStringLiteral(node)) return node.text;
  if (ts.isNumericLiteral(node)) return Number(node.text);
  if (node.kind === ts.SyntaxKind.TrueKeyword) return true;
  if (node.kind === ts.SyntaxKind.FalseKeyword) return false;
  throw new Error(`${node.getText()} is no literal`);
}

const isName = (name: string): name is WorkflowName => name in WorkflowInputs;

describe('an export of a published module', () => {
  it('has a docstring', () => {
    expect(new Set(exported.map(({ module }) => module))).toEqual(new Set(Object.keys(MODULES)));
    expect(named(exported.filter(({ text }) => text.trim() === ''))).toEqual([]);
  });

  it('has an example where it is a value', () => {
    expect(named(exported.filter(({ isValue, examples }) => isValue && examples.length === 0))).toEqual([]);
  });
});

describe('an example', () => {
  it('is one block of TypeScript', () => {
    const broken = exported.filter(({ examples }) => examples.some((example) => codeOf(example) === undefined));
    expect(named(broken)).toEqual([]);
  });

  it('is accepted by the compiler, and a wrong one is not', () => {
    const texts = Object.fromEntries(
      exported.flatMap(({ module, name, examples }) =>
        examples.map((example, at) => [`${module}: ${name} ${at}`, codeOf(example) ?? '']),
      ),
    );
    const wrong = {
      name: `import { createService } from 'acecoder-temporal';`,
      type: `import { runWorkers } from 'acecoder-temporal';\nawait runWorkers(['pipelines']);`,
    };
    expect(diagnostics({ ...texts, ...wrong })).toEqual([
      expect.stringMatching(/^name: .*createService/),
      expect.stringMatching(/^type: .*pipelines/),
    ]);
  }, 300_000);

  it('of a workflow starts that workflow with a valid input', () => {
    const workflows = exported.filter(({ module }) => module === 'acecoder-temporal/workflows');
    for (const { name, examples } of workflows) {
      const started = examples.flatMap((example) => startedIn(codeOf(example) ?? ''));
      expect(started.map(({ workflow }) => workflow)).toContain(name);
      for (const { workflow, input } of started) {
        // A preview takes the input of the experiment.
        const { mistakes } = checkInput(isName(workflow) ? workflow : 'experiment', input);
        expect({ workflow, mistakes }).toEqual({ workflow, mistakes: undefined });
      }
    }
  });
});
