// How a run is stopped from outside. The first signal asks it to save what it has and end; one that comes later ends it now.
// A Ctrl-C reaches every process of the terminal, and some of them pass it on to us again: what arrives within a moment is one.

const SAME_SIGNAL_MS = 300;
const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

export const INTERRUPTED = 130;

export interface Stop extends Disposable {
  readonly signal: AbortSignal;
  /** Asks for the end as a signal does: for a reader that went away. */
  request(): void;
}

/** Dispose it when the run is over: signals then act as they do everywhere. */
export function listenForStop(): Stop {
  const controller = new AbortController();
  let firstAtMs = 0;

  function request(): void {
    if (!controller.signal.aborted) {
      firstAtMs = performance.now();
      controller.abort();
    }
  }

  function onSignal(): void {
    if (!controller.signal.aborted) request();
    else if (performance.now() - firstAtMs > SAME_SIGNAL_MS) process.exit(INTERRUPTED);
  }

  for (const name of signals) process.on(name, onSignal);
  return {
    signal: controller.signal,
    request,
    [Symbol.dispose]() {
      for (const name of signals) process.off(name, onSignal);
    },
  };
}
