// One line on stderr that says how far something is and goes away again. Nothing where nobody looks.

const EVERY_MS = 200;
const CLEARED = '\r\u001b[K';

export interface ProgressLine extends Disposable {
  /** Shown now and then: call it as often as you like. */
  show(text: string): void;
  clear(): void;
}

/** What is over in a moment shows nothing. */
export function openProgressLine(): ProgressLine {
  const isSeen = process.stderr.isTTY === true;
  let isShown = false;
  let shownMs = performance.now();

  function show(text: string): void {
    const nowMs = performance.now();
    if (!isSeen || nowMs - shownMs < EVERY_MS) return;
    [isShown, shownMs] = [true, nowMs];
    process.stderr.write(`${CLEARED}${text}`);
  }

  function clear(): void {
    if (isShown) process.stderr.write(CLEARED);
    isShown = false;
  }

  return { show, clear, [Symbol.dispose]: clear };
}
