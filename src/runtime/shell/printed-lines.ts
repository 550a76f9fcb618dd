// What a command prints, line by line: the last line so far, and the last lines when it has ended, fit to be shown.

import { StringDecoder } from 'node:string_decoder';
import { cleanLine } from '../../parser/clean-text.ts';

const KEPT_LINES = 40;
const KEPT_CHARACTERS = 400;
/** A line that is longer is cut here, so that one without an end is not held. */
const LONGEST = 10_000;

export class PrintedLines {
  readonly #onLine: (line: string) => void;
  #kept: string[] = [];
  #heard: string | undefined;

  constructor(onLine: (line: string) => void = () => {}) {
    this.#onLine = onLine;
  }

  /** The last forty lines of all streams, oldest first. */
  get tail(): readonly string[] {
    return [...this.#kept];
  }

  /** A stream of its own, whose lines mix with those of others and never its pieces. */
  stream(): { push(chunk: Buffer): void; end(): void } {
    const decoder = new StringDecoder('utf8');
    let open = '';
    const take = (text: string) => {
      const lines = (open + text).split('\n');
      open = lines.pop() ?? '';
      for (const line of lines) this.#keep(line);
      if (open.length > LONGEST) {
        this.#keep(open);
        open = '';
      }
      // A progress bar writes over itself, and ends its line when all is done.
      const bar = shown(open.slice(0, open.lastIndexOf('\r') + 1).replace(/\r$/, ''));
      this.#hear(bar);
    };
    return {
      push: (chunk) => take(decoder.write(chunk)),
      end: () => {
        take(decoder.end());
        this.#keep(open);
        open = '';
      },
    };
  }

  #keep(line: string): void {
    const text = shown(line.replace(/\r$/, ''));
    if (text === '') return;
    this.#hear(text);
    this.#kept.push(text);
    if (this.#kept.length > KEPT_LINES) this.#kept.shift();
  }

  /** A line is heard once, also where its end comes later than the line. */
  #hear(line: string): void {
    if (line === '' || line === this.#heard) return;
    this.#heard = line;
    this.#onLine(line);
  }
}

/** What was written over in a line is gone on a terminal as well. */
function shown(line: string): string {
  return cleanLine(line.slice(line.lastIndexOf('\r') + 1))
    .trimEnd()
    .slice(0, KEPT_CHARACTERS);
}
