// The one worker of a run: started when a stage first needs it, kept for the others, replaced when it has died.

import { StageFailure } from '../events.ts';
import type { WorkerClient } from '../worker/client.ts';

export interface WarmWorker {
  /** The worker, running. Rejects with a `StageFailure` when it cannot be started, each time with the same. */
  readonly get: () => Promise<WorkerClient>;
  readonly close: () => Promise<void>;
}

export function warmWorker(start: (() => Promise<WorkerClient>) | undefined): WarmWorker {
  let current: Promise<WorkerClient> | undefined;
  return {
    get: async () => {
      if (start === undefined) {
        throw new StageFailure({
          kind: 'no-worker',
          message: 'This needs the Python worker, which is not available here.',
        });
      }
      current ??= start();
      const client = await current;
      if (client.isAlive) return client;
      current = start();
      return current;
    },
    close: async () => {
      const client = await current?.catch(() => undefined);
      await client?.close();
    },
  };
}
