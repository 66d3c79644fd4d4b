/** The import rules between the rooms of the repository. `npm test` checks them. */

const rule = (name, comment, from, to) => ({ name, severity: 'error', comment, from, to });

/** The rooms of the stages of an experiment. */
const stages =
  'synthesis|filtering|sampling|hardening|preferences|reward-model|reward-model-card|fine-tuning|reinforcement|evaluation';

const contract = '^workflows/contract/';
/** What the contract is built of beside itself: pure definitions that stand with the code that they belong to. */
const definitions =
  '^activities/(benchmarks/(benchmark|index)|languages/index|policy/sources/index|synthesis/teachers/index)\\.ts$';
/** What the definitions of teachers and of sources of programs are made of. */
const pure = [
  '^activities/languages/',
  '^activities/endpoint/(content|json|meaning|said|thoughts)\\.ts$',
  '^activities/policy/((prompt|programs)\\.ts$|sources/)',
  '^activities/synthesis/(teachers/|(labelled-text|lenient-json|offline-teacher|parse-reply|python-literal|random)\\.ts$)',
];
/** Packages by name; a scope with `/` at its end allows all of it. */
const packages = (...names) => names.map((name) => `^node_modules/${name}${name.endsWith('/') ? '' : '/'}`);

module.exports = {
  forbidden: [
    rule(
      'no-cycle',
      'Modules that need each other are one module. Types count: a reader follows them as well.',
      {},
      { circular: true },
    ),
    rule('no-unresolved', 'An import that leads nowhere fails at run time.', {}, { couldNotResolve: true }),
    rule(
      'no-undeclared-package',
      'A package that package.json does not name may be gone after the next install.',
      {},
      // A peer that may be absent counts as not named, too.
      { dependencyTypes: ['npm-no-pkg', 'npm-unknown'], dependencyTypesNot: ['npm-peer'] },
    ),
    rule(
      'no-development-package',
      'The published package has no development dependencies.',
      { path: '^(workflows|activities|workers|infra/(setup|stack))/', pathNot: '\\.test\\.ts$' },
      { dependencyTypes: ['npm-dev'], dependencyTypesNot: ['npm-peer'] },
    ),

    rule(
      'benchmarks-are-pure',
      'The contract builds its schemas from the definitions of benchmarks, which run inside the workflow bundle.',
      { path: '^activities/benchmarks/', pathNot: ['^activities/benchmarks/(load|published)\\.ts$', '\\.test\\.ts$'] },
      {
        pathNot: [
          '^activities/benchmarks/(?!(load|published)\\.ts$)',
          '^activities/languages/',
          contract,
          ...packages('zod'),
        ],
      },
    ),
    rule(
      'languages-stand-alone',
      'Rows of the contract name languages. Their definitions run inside the workflow bundle, below everything else.',
      { path: '^activities/languages/', pathNot: '\\.test\\.ts$' },
      { pathNot: '^activities/languages/' },
    ),
    rule(
      'teachers-and-sources-are-pure',
      'The contract builds its schemas from the definitions of teachers and of sources of programs.',
      { path: pure, pathNot: '\\.test\\.ts$' },
      { pathNot: [...pure, contract, '^activities/statistics/random\\.ts$', ...packages('zod', 'jsonrepair')] },
    ),
    rule(
      'contract-is-pure',
      'The contract crosses every boundary: zod and itself only.',
      { path: contract, pathNot: '\\.test\\.ts$' },
      { pathNot: [contract, definitions, ...packages('zod')] },
    ),
    rule(
      'workflows-know-activities-by-type',
      'A value import would pull activity code into the workflow bundle.',
      { path: '^workflows/', pathNot: '\\.test\\.ts$' },
      { path: '^activities/', pathNot: definitions, dependencyTypesNot: ['type-only'] },
    ),
    rule(
      'workflows-import-contract-and-temporal',
      'Deterministic code: contract, activity types, and what runs in the bundle.',
      { path: '^workflows/', pathNot: [contract, '\\.test\\.ts$'] },
      { pathNot: ['^workflows/', '^activities/', ...packages('zod', '@temporalio/workflow', '@temporalio/common')] },
    ),

    rule(
      'stage-logic-knows-no-temporal',
      'Beside activities.ts stands the logic of a stage, which runs and is tested without a server.',
      { path: '^activities/', pathNot: ['/activities\\.ts$', '^activities/runtime/', '\\.test\\.ts$'] },
      { path: packages('@temporalio/') },
    ),
    rule(
      'stage-logic-is-below-activities',
      'Logic that imports an activity, or the runtime around it, imports Temporal by another name.',
      { path: '^activities/[^/]+/', pathNot: ['/activities\\.ts$', '^activities/runtime/', '\\.test\\.ts$'] },
      {
        path: ['/activities\\.ts$', '^activities/runtime/(checkpoints|context|interceptor|sharded-stage)\\.ts$'],
        dependencyTypesNot: ['type-only'],
      },
    ),
    rule(
      'activities-know-the-contract-alone',
      'Of the workflows, activities know the contract; of workers, tools and tests nothing.',
      { path: '^activities/', pathNot: '\\.test\\.ts$' },
      { path: '^(workflows|workers|infra|test)/', pathNot: contract },
    ),
    rule(
      'store-stands-alone',
      'The store is below the stages. Of the runtime it may know where files of a configuration lie.',
      { path: '^activities/artifacts/', pathNot: '\\.test\\.ts$' },
      { path: '^activities/', pathNot: '^activities/(artifacts/|metrics\\.ts$)' },
    ),
    rule(
      'stages-are-neighbours',
      'What two stages share has a room of its own (policy, statistics, similarity, endpoint).',
      { path: `^activities/(${stages})/`, pathNot: '\\.test\\.ts$' },
      { path: `^activities/(${stages})/`, pathNot: '^activities/$1/' },
    ),
    rule(
      'shared-rooms-know-no-stage',
      'A room that stages share would otherwise be one floor of a staircase of stages.',
      {
        path:
          '^activities/(artifacts|benchmarks|contamination|endpoint|execution|languages|policy|runtime|similarity|' +
          'statistics)/',
        pathNot: '\\.test\\.ts$',
      },
      { path: `^activities/(${stages})/` },
    ),
    rule(
      'lineage-reads-the-store-alone',
      'A trace is told without a worker: it needs the contract and the store.',
      { path: '^activities/lineage/', pathNot: '\\.test\\.ts$' },
      { path: '^activities/', pathNot: '^activities/(lineage|artifacts)/' },
    ),
    rule(
      'runtime-knows-no-stage',
      'The runtime serves every stage: contract, store and itself.',
      { path: '^activities/runtime/', pathNot: '\\.test\\.ts$' },
      { path: '^activities/', pathNot: '^activities/((runtime|artifacts)/|metrics\\.ts$)' },
    ),
    rule(
      'activities-packages',
      'Activities need Temporal, the store, schemas and the interface of traces; plots and event files are made where the report is built.',
      { path: '^activities/', pathNot: '\\.test\\.ts$' },
      {
        path: '^node_modules/',
        pathNot: packages(
          '@observablehq/plot',
          'linkedom',
          'crc-32',
          'protobufjs',
          'zod',
          'jsonrepair',
          'minio',
          'openai',
          '@opentelemetry/api',
          '@types',
          '@temporalio/activity',
          '@temporalio/common',
          '@temporalio/worker',
        ),
      },
    ),
    rule(
      'minio-behind-the-store',
      'One module makes requests to the store, retries them and says what an error means.',
      { path: '^activities/', pathNot: '^activities/artifacts/objects\\.ts$' },
      { path: packages('minio') },
    ),

    rule(
      'openai-behind-the-endpoint',
      'One module knows the client of language models.',
      { path: '^activities/', pathNot: '^activities/endpoint/endpoint\\.ts$' },
      { path: packages('openai') },
    ),

    rule(
      'workers-import-no-workflow-code',
      'A worker names workflows by path: they run in their own bundle.',
      { path: '^workers/', pathNot: '\\.test\\.ts$' },
      { path: '^workflows/', pathNot: contract, dependencyTypesNot: ['type-only'] },
    ),
    rule(
      'workers-import-no-tools',
      'Workers are what is published; tools and tests are not.',
      { path: '^workers/', pathNot: '\\.test\\.ts$' },
      { path: '^(infra|test)/' },
    ),
    rule(
      'infra-imports',
      'Tools talk to servers from outside: contract, store, lineage, report, and Temporal client with its encryption. ' +
        'The sandbox has no server, and a comparison reads the store alone.',
      {
        path: '^infra/(?!nvidia-smi-parser/)',
        pathNot: ['\\.test\\.ts$', '^infra/commands/sandbox\\.ts$', '^infra/docs-tools/(operations|metrics)\\.ts$'],
      },
      {
        path: ['^(workflows|activities|workers|test)/', '^node_modules/'],
        pathNot: [
          contract,
          '^activities/(artifacts|comparison|lineage|tracking)/',
          '^activities/(report/build|experiment/fork-source)\\.ts$',
          '^workers/payloads/',
          ...packages(
            'minio',
            'zod',
            '@types',
            'tsx',
            'tar-stream',
            'typescript',
            'vitest',
            '@temporalio/client',
            '@temporalio/common',
            '@temporalio/envconfig',
          ),
        ],
      },
    ),
    rule(
      'parser-stands-alone',
      'nvidia-smi-parser is a package of its own.',
      { path: '^infra/nvidia-smi-parser/', pathNot: '\\.test\\.ts$' },
      { path: '^(workflows|activities|workers|infra/(?!nvidia-smi-parser/)|test)/' },
    ),
    rule(
      'benches-run-without-vitest',
      'What a test run provides is not there in a bench: it fails at the first line that asks for it.',
      { path: '^test/(bench|chaos|simulation)/', pathNot: '\\.test\\.ts$' },
      { path: ['^node_modules/vitest/', '^test/fixtures/harness\\.ts$'], dependencyTypesNot: ['type-only'] },
    ),
    rule(
      'nothing-imports-tests',
      'Tests import everything; nothing imports tests.',
      { pathNot: ['^test/', '\\.test\\.ts$'] },
      { path: ['^test/', '\\.test\\.ts$'] },
    ),
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^\\.acecoder/|(^|/)dist/' },
    tsConfig: { fileName: 'tsconfig.json' },
    // Types count: a room that knows another's types knows that room.
    tsPreCompilationDeps: true,
    enhancedResolveOptions: {
      exportsFields: ['exports'],
      conditionNames: ['import', 'node', 'default', 'types'],
      mainFields: ['main', 'types'],
    },
  },
};
