import { defineConfig } from 'vitest/config';

const exclude = ['**/node_modules/**', '**/dist/**', '.acecoder/**'];

/** Guards against hanging, in milliseconds. They are no bars: a test holds at any speed of the host. */
const guards = {
  testTimeout: 1_800_000,
  hookTimeout: 1_800_000,
  expect: { poll: { timeout: 600_000, interval: 200 } },
};

export default defineConfig({
  test: {
    // Integration tests wait for servers more than they compute: three next to each other fill two cores.
    maxWorkers: 3,
    teardownTimeout: guards.hookTimeout,
    tags: [
      { name: 'long', description: 'No part of a plain npm test: npm run test:long and npm run test:matrix run it.' },
    ],
    projects: [
      {
        test: {
          name: 'unit',
          // Modules are imported once a worker, and not once a file: that takes longer than most of these tests.
          isolate: false,
          include: ['{activities,workflows,workers,infra}/**/*.test.ts'],
          exclude,
          ...guards,
        },
      },
      {
        test: {
          name: 'integration',
          isolate: false,
          include: ['test/integration/**/*.test.ts'],
          exclude,
          globalSetup: 'test/global-setup.ts',
          ...guards,
        },
      },
      {
        test: {
          // On the same stack, but too long for every run: npm run test:long.
          name: 'long',
          include: ['test/long/**/*.test.ts'],
          exclude,
          globalSetup: 'test/global-setup.ts',
          ...guards,
        },
      },
      {
        test: {
          name: 'replay',
          include: ['test/{bench,chaos,lab,replay,simulation}/**/*.test.ts'],
          exclude,
          ...guards,
        },
      },
    ],
  },
});
