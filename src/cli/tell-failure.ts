// A failure of work that no program asked for, told on stderr.

import { cleanLine } from '../parser/clean-text.ts';
import type { Failure } from '../runtime/events.ts';

export function tellFailure({ message, hint, problems, logTail }: Failure): void {
  const lines = [
    ...logTail,
    `error: ${message}`,
    ...problems.map((problem) => `  ${problem.path}: ${problem.message}`),
    ...(hint === undefined ? [] : [`hint: ${hint}`]),
  ];
  for (const line of lines) process.stderr.write(`${cleanLine(line)}\n`);
}

export function tellWarning(message: string): void {
  process.stderr.write(`warning: ${cleanLine(message)}\n`);
}
