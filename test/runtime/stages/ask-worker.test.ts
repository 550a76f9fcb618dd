// What the worker says, as a user reads it.

import { expect, test } from 'vitest';
import type { StageProgress } from '../../../src/runtime/events.ts';
import { askWorker } from '../../../src/runtime/stages/ask-worker.ts';

test('images of which the worker knows the digest alone are told by their files', async () => {
  const [known, unknown] = ['ab'.repeat(32), 'cd'.repeat(32)];
  const told: StageProgress[] = [];
  const message = `Step 2 was skipped. Images: ${known}, ${unknown}`;
  const worker = {
    hello: {},
    request: async (_: unknown, { onProgress }: { readonly onProgress: (progress: StageProgress) => void }) => {
      onProgress({ type: 'log', level: 'warning', message });
      return { outputs: {} };
    },
  };
  const context = {
    worker: async () => worker,
    imagePaths: new Map([[known, '/images/fox.png']]),
    report: (progress: StageProgress) => told.push(progress),
  };
  await askWorker(context as never, {} as never);
  expect(told).toEqual([
    { type: 'log', level: 'warning', message: `Step 2 was skipped. Images: /images/fox.png, ${unknown}` },
  ]);
});
