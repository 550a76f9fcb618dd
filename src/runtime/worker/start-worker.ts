// Starts the real worker: its environment first, then the process.

import { join } from 'node:path';
import { packageRoot } from '../package-root.ts';
import { WorkerClient } from './client.ts';
import { ensureEnvironment } from './environment.ts';
import type { InstallProgress } from './install.ts';
import { cleanPythonEnv } from './python-env.ts';

export interface StartOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly signal?: AbortSignal;
  /** The environment is being made. */
  onInstall?(progress: InstallProgress): void;
  /** The process is being started. */
  onStart?(): void;
}

/** The worker, ready for requests. Rejects with a `StageFailure` that says what is missing. */
export async function startTorchWorker({
  env = process.env,
  signal,
  onInstall,
  onStart,
}: StartOptions = {}): Promise<WorkerClient> {
  const { python } = await ensureEnvironment({
    env,
    ...(signal ? { signal } : {}),
    ...(onInstall ? { onProgress: onInstall } : {}),
  });
  onStart?.();
  const folder = join(packageRoot(), 'python');
  return WorkerClient.start({
    command: python,
    args: ['-m', 'lora_worker'],
    env: { ...cleanPythonEnv(env), PYTHONPATH: folder, PYTHONUNBUFFERED: '1' },
    ...(signal ? { signal } : {}),
  });
}
