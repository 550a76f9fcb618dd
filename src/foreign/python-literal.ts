// Python literals, as sd-scripts reads the values of `key=value` arguments: numbers, True, False, None, text, tuples,
// lists and dicts. Nothing is evaluated.

import type { Plain } from './plain.ts';

/** Deeper ones are no settings. */
const DEEPEST = 20;

/** `undefined` for what is no literal. Several values with commas between are a tuple, also without parentheses. */
export function readPythonLiteral(text: string): Plain | undefined {
  const reader = new LiteralReader(text);
  const items = reader.items(undefined, 0);
  if (items === undefined || !reader.isAtEnd()) return undefined;
  return items.values.length === 1 && !items.endsWithComma ? items.values[0] : items.values;
}

/** Text that is no literal stands for itself. */
export function literalOrText(text: string): Plain {
  const value = readPythonLiteral(text);
  return value === undefined ? text : value;
}

class LiteralReader {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  isAtEnd(): boolean {
    this.#skipBlanks();
    return this.#at >= this.#text.length;
  }

  /** Up to `close`, which is taken; `undefined` when something in between cannot be read. */
  items(close: string | undefined, depth: number): { values: Plain[]; endsWithComma: boolean } | undefined {
    const values: Plain[] = [];
    let endsWithComma = false;
    for (;;) {
      this.#skipBlanks();
      if (close !== undefined && this.#take(close)) return { values, endsWithComma };
      if (close === undefined && this.isAtEnd()) return values.length > 0 ? { values, endsWithComma } : undefined;
      if (values.length > 0 && !endsWithComma) return undefined;
      const value = this.#value(depth);
      if (value === undefined) return undefined;
      values.push(value);
      this.#skipBlanks();
      endsWithComma = this.#take(',');
    }
  }

  #value(depth: number): Plain | undefined {
    if (depth > DEEPEST) return undefined;
    if (this.#take('[')) return this.items(']', depth + 1)?.values;
    if (this.#take('(')) {
      const inside = this.items(')', depth + 1);
      return inside?.values.length === 1 && !inside.endsWithComma ? inside.values[0] : inside?.values;
    }
    if (this.#take('{')) return this.#dict(depth + 1);
    const mark = this.#text[this.#at];
    if (mark === '"' || mark === "'") return this.#quoted(mark);
    const word = /^[+-]?[\w.]+(?:(?<=\d\.?[eE])[+-]\d+)?/.exec(this.#text.slice(this.#at, this.#at + 60))?.[0];
    if (word === undefined) return undefined;
    this.#at += word.length;
    if (word === 'True' || word === 'False') return word === 'True';
    if (word === 'None') return null;
    const number = /^[+-]?(\d[\d_]*\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(word)
      ? Number(word.replaceAll('_', ''))
      : Number.NaN;
    return Number.isFinite(number) ? number : undefined;
  }

  #dict(depth: number): Plain | undefined {
    const entries: [string, Plain][] = [];
    for (;;) {
      this.#skipBlanks();
      if (this.#take('}')) return Object.fromEntries(entries);
      const key = this.#value(depth);
      this.#skipBlanks();
      if (typeof key !== 'string' || !this.#take(':')) return undefined;
      this.#skipBlanks();
      const value = this.#value(depth);
      if (value === undefined) return undefined;
      entries.push([key, value]);
      this.#skipBlanks();
      if (!this.#take(',') && this.#text[this.#at] !== '}') return undefined;
    }
  }

  #quoted(mark: string): string | undefined {
    let text = '';
    for (let at = this.#at + 1; at < this.#text.length; at += 1) {
      const letter = this.#text[at] as string;
      if (letter === mark) {
        this.#at = at + 1;
        return text;
      }
      if (letter === '\\') at += 1;
      text += this.#text[at] ?? '';
    }
    return undefined;
  }

  #take(mark: string): boolean {
    if (this.#text[this.#at] !== mark) return false;
    this.#at += 1;
    return true;
  }

  #skipBlanks(): void {
    while (/\s/.test(this.#text[this.#at] ?? '')) this.#at += 1;
  }
}
