import { defineConfig } from 'vitest/config';

// `unit` is what one runs while editing. `e2e` builds real projects with the real worker, one after the other:
// two trainings beside each other would only take each other's processor.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: ['test/**/*.test.ts', 'test/**/*.test.tsx'],
          exclude: ['test/e2e/**'],
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          globalSetup: 'test/e2e/inputs.ts',
          fileParallelism: false,
          // After the unit tests, not beside them.
          sequence: { groupOrder: 1 },
          testTimeout: 120_000,
        },
      },
    ],
  },
});
