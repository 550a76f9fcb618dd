import { defineConfig } from 'vitest/config';

/** Whole builds, kills, and random input in quantity: what one need not wait for at every save. */
const thorough = [
  'test/runtime/executor/**/*.test.ts',
  'test/runtime/stages/{chop-families,lora-families,merge-families,worker-stages,resize,resize-golden,resize-verified}.test.ts',
  'test/runtime/stages/{named-steps,ablation,analyze,preview,formats,merge,merge-refusals,chop}.test.ts',
  'test/runtime/stages/{masks,model-folder,checkpoint-folder,run,run-folder}.test.ts',
  'test/runtime/shell/run-command.test.ts',
  'test/runtime/worker/environment.test.ts',
  'test/runtime/worker/client.test.ts',
  'test/runtime/cache/{kill,full-disk}.test.ts',
  'test/runtime/inspect/**/*.test.ts',
  'test/cli/{inspect,inspect-families,inspect-metadata,chop,merge,command-line,lint,import}.test.ts',
  'test/runtime/safetensors/{round-trip,non-finite}.test.ts',
  'test/cli/{fmt,explain}.test.ts',
  'test/parser/{random,fuzz}.test.ts',
  'test/foreign/{export,hostile}.test.ts',
  'test/language-server/**/*.test.ts',
];

// `quick` is what one runs while editing; `thorough` takes longer. `e2e` builds real projects with the real worker,
// one after the other: two trainings beside each other would only take each other's processor.
export default defineConfig({
  test: {
    projects: [
      {
        test: {
          name: 'quick',
          include: ['test/**/*.test.ts', 'test/**/*.test.tsx'],
          exclude: ['test/e2e/**', ...thorough],
          // Files share processes, which each load the source once: that takes as long as all these tests. What the
          // source remembers follows from what it was given, and tests put folders, clocks and variables back.
          isolate: false,
          testTimeout: 30_000,
        },
      },
      {
        test: {
          name: 'thorough',
          include: thorough,
          testTimeout: 60_000,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          globalSetup: 'test/e2e/inputs.ts',
          fileParallelism: false,
          // After the others, not beside them.
          sequence: { groupOrder: 1 },
          // On the smallest base, what threads have to say to each other takes longer than what they compute.
          env: { LORAC_THREADS: '1', OMP_NUM_THREADS: '1' },
          testTimeout: 120_000,
        },
      },
    ],
  },
});
