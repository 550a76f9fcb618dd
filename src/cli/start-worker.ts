// Starts the worker for a build, and tells about it in events.

import type { Listener } from '../runtime/events.ts';
import type { WorkerClient } from '../runtime/worker/client.ts';
import type { InstallProgress } from '../runtime/worker/install.ts';
import { count } from '../tui/units.ts';

export function workerStarter(listen: Listener, signal: AbortSignal): () => Promise<WorkerClient> {
  return async () => {
    // What starts processes takes a while to load, and a build with nothing to do starts none.
    const { startTorchWorker } = await import('../runtime/worker/start-worker.ts');
    const client = await startTorchWorker({
      signal,
      onInstall: (progress) => listen({ type: 'worker', status: 'installing', message: installText(progress) }),
      onStart: () => listen({ type: 'worker', status: 'starting', message: 'loading PyTorch' }),
    });
    const { device, deviceName, threads, torch } = client.hello;
    const where = device === 'cpu' ? `CPU, ${count(threads, 'thread')}` : deviceName;
    listen({ type: 'worker', status: 'ready', message: `${where}, PyTorch ${torch}` });
    return client;
  };
}

export function installText({ message, done = 0, total = 0 }: InstallProgress): string {
  return done === 0 || total === 0 ? message : `${message} · ${done}/${total} packages`;
}
