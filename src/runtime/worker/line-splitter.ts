// A stream of bytes cut into lines, with a limit on how long one may become.

/**
 * Calls `onLine` for each whole line, without its newline. A line longer than `limitBytes` is never held in memory:
 * `onTooLong` is called once, and nothing after that.
 */
export class LineSplitter {
  #parts: Buffer[] = [];
  #heldBytes = 0;
  #isClosed = false;
  readonly #options: LineSplitterOptions;

  constructor(options: LineSplitterOptions) {
    this.#options = options;
  }

  push(chunk: Buffer): void {
    let start = 0;
    while (!this.#isClosed) {
      const end = chunk.indexOf(0x0a, start);
      this.#hold(chunk.subarray(start, end === -1 ? chunk.length : end));
      if (end === -1 || this.#isClosed) return;
      this.#options.onLine(this.#take());
      start = end + 1;
    }
  }

  /** The stream has ended: gives what came after the last newline, if anything did. */
  end(): void {
    if (this.#heldBytes > 0 && !this.#isClosed) this.#options.onLine(this.#take());
  }

  #hold(part: Buffer): void {
    this.#heldBytes += part.length;
    if (this.#heldBytes > this.#options.limitBytes) {
      this.#isClosed = true;
      this.#parts = [];
      this.#options.onTooLong();
    } else if (part.length > 0) {
      this.#parts.push(part);
    }
  }

  #take(): string {
    const line = Buffer.concat(this.#parts).toString('utf8');
    this.#parts = [];
    this.#heldBytes = 0;
    return line.endsWith('\r') ? line.slice(0, -1) : line;
  }
}

export interface LineSplitterOptions {
  readonly limitBytes: number;
  onLine(line: string): void;
  onTooLong(): void;
}
