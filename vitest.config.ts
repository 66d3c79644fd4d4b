import { defineConfig } from 'vitest/config';

const exclude = ['**/node_modules/**', '**/dist/**', '.acecoder/**'];

export default defineConfig({
  test: {
    // Integration tests wait for servers more than they compute: beside each other they fill two cores.
    maxWorkers: 2,
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/unit/**/*.test.ts', '{activities,workflows,workers,infra}/**/*.test.ts'],
          exclude,
          testTimeout: 10_000,
        },
      },
      {
        test: {
          name: 'integration',
          include: ['test/integration/**/*.test.ts'],
          exclude,
          globalSetup: 'test/global-setup.ts',
          // A worker bundles workflows, a Python process imports torch: seconds each, more on a busy machine.
          testTimeout: 60_000,
          hookTimeout: 120_000,
        },
      },
      {
        // Replaying bundles the workflows first.
        test: {
          name: 'replay',
          include: ['test/replay/**/*.test.ts'],
          exclude,
          testTimeout: 30_000,
          hookTimeout: 60_000,
        },
      },
    ],
  },
});
