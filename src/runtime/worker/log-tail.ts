// The last lines that a process wrote, fit to be shown: what explains a failure when the process can no longer do so.

import { cleanLine } from '../../parser/clean-text.ts';
import { LineSplitter } from './line-splitter.ts';

const KEPT_LINES = 40;
const KEPT_CHARACTERS = 400;
const LINE_LIMIT_BYTES = 1 << 20;

/** Fed with bytes, holds the last forty lines. */
export class LogTail {
  #lines: string[] = [];
  #splitter = this.#newSplitter();

  push(chunk: Buffer): void {
    this.#splitter.push(chunk);
  }

  end(): void {
    this.#splitter.end();
  }

  get lines(): readonly string[] {
    return [...this.#lines];
  }

  #newSplitter(): LineSplitter {
    return new LineSplitter({
      limitBytes: LINE_LIMIT_BYTES,
      onLine: (line) => this.#keep(line),
      onTooLong: () => {
        this.#keep('[a line that was too long to keep]');
        this.#splitter = this.#newSplitter();
      },
    });
  }

  #keep(line: string): void {
    // What a progress bar overwrote is gone on a terminal as well.
    const text = cleanLine(line.slice(line.lastIndexOf('\r') + 1)).trimEnd();
    if (text === '') return;
    this.#lines.push(text.slice(0, KEPT_CHARACTERS));
    if (this.#lines.length > KEPT_LINES) this.#lines.shift();
  }
}
