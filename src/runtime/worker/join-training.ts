// This machine's part of a training that another one builds: a Python process that starts others, until it is stopped.

import { join } from 'node:path';
import { execa } from 'execa';
import { packageRoot } from '../package-root.ts';
import { ensureEnvironment } from './environment.ts';
import type { InstallProgress } from './install.ts';
import { cleanPythonEnv } from './python-env.ts';

export interface JoinOptions {
  /** HOST:PORT, as the program says it. */
  readonly rendezvous: string;
  readonly processes?: number;
  readonly once: boolean;
  readonly signal: AbortSignal;
  onInstall(progress: InstallProgress): void;
}

/** The exit code of python/lora_worker/join.py. It says how it goes on stderr. Rejects with a `StageFailure`. */
export async function joinTraining(options: JoinOptions): Promise<number> {
  const { rendezvous, processes, once, signal, onInstall } = options;
  const { python } = await ensureEnvironment({ signal, onProgress: onInstall });
  const args = [
    rendezvous,
    ...(processes === undefined ? [] : ['--processes', String(processes)]),
    ...(once ? ['--once'] : []),
  ];
  const child = execa(python, ['-m', 'lora_worker.join', ...args], {
    env: { ...cleanPythonEnv(), PYTHONPATH: join(packageRoot(), 'python') },
    stdio: ['ignore', 'inherit', 'inherit'],
    reject: false,
    cleanup: true,
  });
  // A Ctrl-C reaches it as well, and then it hears it twice, which means nothing more.
  const stop = () => child.kill('SIGTERM');
  signal.addEventListener('abort', stop, { once: true });
  if (signal.aborted) stop();
  return (await child).exitCode ?? 1;
}
