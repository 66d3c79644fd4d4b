import { builtinModules } from 'node:module';
import js from '@eslint/js';
import { defineConfig, globalIgnores } from 'eslint/config';
import tseslint from 'typescript-eslint';

/** Node built-ins in both spellings, less `assert`, the one that a workflow bundle can hold. */
const nodeBuiltins = builtinModules
  .filter((name) => !name.startsWith('_') && !/^assert(\/|$)/.test(name))
  .flatMap((name) => [name, `node:${name}`]);

export default defineConfig([
  globalIgnores(['**/dist/', '.acecoder/', 'workers/runtime/', 'workers/sandbox/']),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  {
    files: ['**/*.{js,mjs,cjs}'],
    extends: [js.configs.recommended],
    languageOptions: {
      globals: Object.fromEntries(
        [
          'AbortController',
          'Buffer',
          'URL',
          'clearInterval',
          'clearTimeout',
          'console',
          'fetch',
          'module',
          'performance',
          'process',
          'setInterval',
          'setTimeout',
        ].map((name) => [name, 'readonly']),
      ),
    },
  },
  {
    files: ['**/*.ts'],
    extends: [js.configs.recommended, tseslint.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    rules: {
      // Control characters are what texts of models and terminals are cleaned of.
      'no-control-regex': 'off',
      // A promise that nobody waits for is lost work in an activity and a non-deterministic command in a workflow.
      '@typescript-eslint/no-floating-promises': 'error',
      '@typescript-eslint/consistent-type-imports': ['error', { fixStyle: 'inline-type-imports' }],
      '@typescript-eslint/no-unused-vars': [
        'error',
        {
          argsIgnorePattern: '^_',
          varsIgnorePattern: '^_',
          caughtErrorsIgnorePattern: '^_',
          destructuredArrayIgnorePattern: '^_',
        },
      ],
    },
  },
  {
    files: ['test/**/*.ts', '**/*.test.ts'],
    rules: {
      // Vitest types its asymmetric matchers as `any`.
      '@typescript-eslint/no-unsafe-assignment': 'off',
      // Callbacks and generators of a test are asynchronous because what they stand for is.
      '@typescript-eslint/require-await': 'off',
    },
  },
  {
    // What these files import and use must stand in a workflow bundle and give the same on every replay.
    files: ['workflows/**/*.ts'],
    ignores: ['**/*.test.ts'],
    rules: {
      '@typescript-eslint/no-restricted-imports': [
        'error',
        {
          paths: nodeBuiltins.map((name) => ({
            name,
            message: 'A workflow bundle holds no Node built-in but assert.',
          })),
          patterns: [
            {
              regex:
                '^(\\.\\./)+(activities/(?!(benchmarks|languages|policy/sources|synthesis/teachers)/index\\.js$)' +
                '|workers/|infra/|test/)',
              allowTypeImports: true,
              message: 'Workflows know activities by type only; a value import would pull their code into the bundle.',
            },
          ],
        },
      ],
      'no-restricted-globals': [
        'error',
        ...['process', 'fetch', 'crypto'].map((name) => ({
          name,
          message: 'A workflow asks an activity for what lies outside it.',
        })),
      ],
    },
  },
]);
