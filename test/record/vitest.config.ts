import { defineConfig } from 'vitest/config';

/**
 * What is recorded from real runs: fixtures of the replay test, and pictures. Not tests: `npm test` does not see them.
 */
export default defineConfig({
  test: {
    include: ['test/record/*.record.ts'],
    globalSetup: 'test/global-setup.ts',
    testTimeout: 300_000,
    hookTimeout: 120_000,
  },
});
