// lorac env: where the worker's Python environment is, what is in it, how to remake it.
// With --python it is made if need be, and the path of its interpreter is all that goes to stdout.

import { cleanLine } from '../parser/clean-text.ts';
import { StageFailure } from '../runtime/events.ts';
import { describeEnvironment } from '../runtime/worker/describe-environment.ts';
import { ensureEnvironment } from '../runtime/worker/environment.ts';
import { installText } from './start-worker.ts';
import { INTERRUPTED, listenForStop } from './stop.ts';

export interface EnvOptions {
  readonly python?: boolean;
}

export async function env({ python = false }: EnvOptions): Promise<number> {
  using stop = listenForStop();
  try {
    if (python) await printPython(stop.signal);
    else await printReport();
    return 0;
  } catch (error) {
    if (stop.signal.aborted) return INTERRUPTED;
    if (!(error instanceof StageFailure)) throw error;
    const { message, hint, logTail } = error.failure;
    const lines = [...logTail, `error: ${message}`, ...(hint === undefined ? [] : [`hint: ${hint}`])];
    for (const line of lines) process.stderr.write(`${cleanLine(line)}\n`);
    return 1;
  }
}

async function printPython(signal: AbortSignal): Promise<void> {
  let told = '';
  const { python } = await ensureEnvironment({
    signal,
    onProgress: (progress) => {
      const text = cleanLine(installText(progress));
      if (text !== told) process.stderr.write(`${text}\n`);
      told = text;
    },
  });
  process.stdout.write(`${python}\n`);
}

async function printReport(): Promise<void> {
  const { status, python, folder, versions, remake, lockFile } = await describeEnvironment();
  const facts: (readonly [string, string])[] = [
    ['status', { own: 'your own interpreter (LORAC_PYTHON)', made: 'made', missing: 'not made yet' }[status]],
    ...(folder === '' ? [] : [['folder', folder] as const]),
    ...(python === undefined ? [] : [['python', python] as const]),
    ['lock file', lockFile],
    ...Object.entries(versions),
  ];
  const width = Math.max(...facts.map(([name]) => name.length));
  const lines = facts.map(([name, value]) => `${name.padEnd(width)}  ${value}`);
  process.stdout.write(`${[...lines, remake].map(cleanLine).join('\n')}\n`);
}
