// A reporter turns the events of one run into something to read. It reads nothing else, and never calls the executor.

import type { Listener } from '../runtime/events.ts';

export interface Reporter {
  readonly listen: Listener;
  /** After the last event: resolves when everything has been written. */
  close(): Promise<void>;
}

export const reporterKinds = ['ink', 'plain', 'json'] as const;
export type ReporterKind = (typeof reporterKinds)[number];

export interface ReporterOptions {
  readonly stdout: NodeJS.WriteStream;
  readonly color: boolean;
  /** The working folder: paths in it are told from there. */
  readonly folder: string;
  /** Milliseconds, never going back. */
  readonly now: () => number;
}

/** Ink where a person looks at a terminal; lines where a program, a file or a CI log reads. */
export function chooseReporter(stdout: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv): ReporterKind {
  const inCi = env.CI !== undefined && !['', '0', 'false'].includes(env.CI);
  return stdout.isTTY === true && !inCi && env.TERM !== 'dumb' ? 'ink' : 'plain';
}

export async function openReporter(kind: ReporterKind, options: ReporterOptions): Promise<Reporter> {
  switch (kind) {
    case 'ink':
      return (await import('./terminal-reporter.ts')).terminalReporter(options);
    case 'plain':
      return (await import('./plain-reporter.ts')).plainReporter(options);
    case 'json':
      return (await import('./json-reporter.ts')).jsonReporter(options);
  }
}
