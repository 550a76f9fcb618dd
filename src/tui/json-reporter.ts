// Every event as one line of JSON, for programs. The last line of a run is its `finished` event.

import { jsonLine } from '../parser/clean-text.ts';
import type { RunEvent } from '../runtime/events.ts';
import type { Reporter } from './reporter.ts';

export function jsonReporter({ stdout }: { readonly stdout: Pick<NodeJS.WriteStream, 'write'> }): Reporter {
  return {
    listen: (event) => stdout.write(`${jsonLine(ordered(event))}\n`),
    close: async () => {},
  };
}

/** `finished` with its keys in the documented order; anything new comes behind them. */
function ordered(event: RunEvent): unknown {
  if (event.type !== 'finished') return event;
  const { type, ok, computed, fresh, failed, skipped, elapsedMs, interrupted } = event;
  return { type, ok, computed, fresh, failed, skipped, elapsedMs: Math.round(elapsedMs), interrupted };
}
