// One command line of the user's, run by bash through zx, which quotes the paths that are put into it.
//
// - It is a process group of its own: when the signal aborts, all of it is asked to end, and killed if it does not.
// - It has no standard input. What it prints is heard line by line, both streams together.
// - zx is loaded when there is a command to run, and not before.

import { PrintedLines } from './printed-lines.ts';

export interface Command {
  /** The command line, cut where the paths belong: one more than paths. */
  readonly pieces: readonly string[];
  readonly paths: readonly string[];
  readonly folder: string;
  /** All that it gets. */
  readonly env: NodeJS.ProcessEnv;
  readonly signal: AbortSignal;
  /** Milliseconds from the request to end to the kill. */
  readonly graceMs?: number;
  /** Hears each line that is printed, and each state of a progress bar. */
  readonly onOutput?: (line: string) => void;
}

export type Ended =
  | { readonly status: 'exited'; readonly exitCode: number; readonly tail: readonly string[] }
  | { readonly status: 'killed'; readonly signal: string; readonly tail: readonly string[] }
  | { readonly status: 'no-bash' };

const GRACE_MS = 5_000;

/** Rejects with the signal's reason when it was aborted. */
export async function runCommand(command: Command): Promise<Ended> {
  const { $ } = await import('zx/core');
  command.signal.throwIfAborted();
  if (typeof $.quote !== 'function') return { status: 'no-bash' };
  const shell = $({
    cwd: command.folder,
    env: command.env,
    stdio: ['ignore', 'pipe', 'pipe'],
    detached: !isWindows,
    nothrow: true,
    quiet: true,
    verbose: false,
    store: forgetful(),
  });
  const pieces = Object.assign([...command.pieces], { raw: [...command.pieces] });
  const running = shell(pieces, ...command.paths);
  const printed = new PrintedLines(command.onOutput);
  const streams = [running.child?.stdout, running.child?.stderr].map((stream) => {
    const lines = printed.stream();
    stream?.on('data', (chunk: Buffer | string) => lines.push(Buffer.from(chunk)));
    return lines;
  });
  const group = new ProcessGroup(running.pid, command.graceMs ?? GRACE_MS);
  const onAbort = () => group.end();
  command.signal.addEventListener('abort', onAbort, { once: true });
  try {
    const { exitCode, signal, cause } = await running;
    for (const lines of streams) lines.end();
    command.signal.throwIfAborted();
    if (signal !== null) return { status: 'killed', signal, tail: printed.tail };
    // There was no process: the folder is gone, or there are too many.
    if (cause !== null || exitCode === null) throw cause ?? new Error('Internal error: a command without an end.');
    return { status: 'exited', exitCode, tail: printed.tail };
  } finally {
    command.signal.removeEventListener('abort', onAbort);
    group.close();
  }
}

const isWindows = process.platform === 'win32';

/** zx would hold all that is ever printed. */
function forgetful() {
  const nothing = () => Object.assign([], { push: () => 0 });
  return { stdout: nothing(), stderr: nothing(), stdall: nothing() };
}

/** The command and everything that it has started. */
class ProcessGroup {
  readonly #pid: number | undefined;
  readonly #graceMs: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(pid: number | undefined, graceMs: number) {
    this.#pid = pid;
    this.#graceMs = graceMs;
  }

  end(): void {
    this.#signal('SIGTERM');
    this.#timer = setTimeout(() => this.#signal('SIGKILL'), this.#graceMs);
  }

  close(): void {
    clearTimeout(this.#timer);
    // What was asked to end and outlived its shell.
    if (this.#timer !== undefined) this.#signal('SIGKILL');
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#pid === undefined) return;
    try {
      process.kill(isWindows ? this.#pid : -this.#pid, signal);
    } catch (error) {
      // All of it has ended already.
      if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
    }
  }
}
