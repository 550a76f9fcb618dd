// Starts the fake worker through the real client.

import { fileURLToPath } from 'node:url';
import { WorkerClient, type WorkerOptions } from '../../src/runtime/worker/client.ts';

/** What the fake worker can be told to do; `fake-worker.mjs` describes each. */
export type FakeWorkerKnobs = Partial<
  Record<
    'JOURNAL' | 'DELAY_MS' | 'DIE_AT_STEP' | 'FAIL' | 'UNREADABLE' | 'SAY' | 'PROTOCOL' | 'MUTE' | 'DEAF' | 'STDERR',
    string
  >
>;

export function fakeWorkerOptions(knobs: FakeWorkerKnobs = {}): WorkerOptions {
  const env = Object.fromEntries(Object.entries(knobs).map(([name, value]) => [`FAKE_WORKER_${name}`, value]));
  return { command: process.execPath, args: [fileURLToPath(new URL('fake-worker.mjs', import.meta.url))], env };
}

export function startFakeWorker(
  knobs: FakeWorkerKnobs = {},
  options: Partial<WorkerOptions> = {},
): Promise<WorkerClient> {
  return WorkerClient.start({ ...fakeWorkerOptions(knobs), ...options });
}
