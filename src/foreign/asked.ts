// The options of a recipe while it is translated: each is read once, and what nobody read is left over at the end.

import { asBoolean, asNumber, asNumbers, asText, isEmpty, type Plain } from './plain.ts';
import { type Left, variablesIn } from './recipe.ts';

export class Asked {
  readonly #given: ReadonlyMap<string, Plain>;
  readonly #defaults: ReadonlyMap<string, Plain>;
  readonly #used = new Set<string>();
  readonly #left: Left[] = [];

  constructor(given: ReadonlyMap<string, Plain>, defaults: ReadonlyMap<string, Plain>) {
    this.#given = new Map([...given].filter(([, value]) => !isEmpty(value)));
    this.#defaults = defaults;
  }

  /** Whether the source writes it, rather than that its trainer takes it without a word. */
  isGiven(name: string): boolean {
    return this.#given.has(name);
  }

  get(name: string): Plain | undefined {
    this.#used.add(name);
    return this.#given.get(name) ?? this.#defaults.get(name);
  }

  /** Reads it without counting it as read. */
  peek(name: string): Plain | undefined {
    return this.#given.get(name) ?? this.#defaults.get(name);
  }

  number(name: string): number | undefined {
    return this.#read(name, asNumber, 'a number');
  }

  numbers(name: string): readonly number[] | undefined {
    return this.#read(name, asNumbers, 'a list of numbers');
  }

  boolean(name: string): boolean {
    return this.#read(name, asBoolean, 'true or false') ?? false;
  }

  text(name: string): string | undefined {
    return this.#read(name, asText, 'text');
  }

  #read<T>(name: string, read: (value: Plain) => T | undefined, wanted: string): T | undefined {
    const value = this.get(name);
    if (value === undefined) return undefined;
    const result = read(value);
    if (result === undefined) this.leave(name, this.#notA(wanted, value));
    return result;
  }

  #notA(wanted: string, value: Plain): string {
    const [variable] = typeof value === 'string' ? variablesIn(value) : [];
    return variable === undefined
      ? `This is not ${wanted}.`
      : `What ${variable} stands for was not pasted. Write ${wanted} in its place.`;
  }

  /** It has no counterpart: it becomes a comment with the reason. */
  leave(name: string, reason: string): void {
    this.#used.add(name);
    const value = this.#given.get(name);
    if (value !== undefined) this.#left.push({ name, value, reason });
  }

  /** The same for something that stands inside of an option. */
  leaveValue(left: Left): void {
    this.#left.push(left);
  }

  get left(): readonly Left[] {
    return this.#left;
  }

  /** What the source writes, or its trainer takes, and nobody asked for yet. */
  get rest(): readonly string[] {
    const names = new Set([...this.#given.keys(), ...this.#defaults.keys()]);
    return [...names].filter((name) => !this.#used.has(name));
  }
}

/** `key=value` arguments, from a list of them, text with several of them, or a table. */
export function argumentsOf(value: Plain | undefined): Map<string, string> {
  const found = new Map<string, string>();
  if (value === undefined || value === null) return found;
  const texts = Array.isArray(value) ? value : typeof value === 'string' ? splitArguments(value) : [];
  for (const text of texts) {
    const [, name, written] = /^\s*([\w-]+)\s*=\s*(.*?)\s*$/s.exec(String(text)) ?? [];
    if (name !== undefined && written !== undefined) found.set(name.replaceAll('-', '_'), written);
  }
  if (typeof value === 'object' && !Array.isArray(value)) {
    for (const [name, one] of Object.entries(value)) found.set(name, typeof one === 'string' ? one : literal(one));
  }
  return found;
}

/** One text with several arguments, as graphical programs keep it: cut at blanks and commas before the next name. */
function splitArguments(text: string): string[] {
  return text.split(/[\s,]+(?=[\w-]+\s*=)/).map((piece) => piece.trim().replace(/^(["'])(.*)\1$/s, '$2'));
}

function literal(value: Plain | undefined): string {
  if (value === true) return 'True';
  if (value === false) return 'False';
  return value === null || value === undefined ? 'None' : JSON.stringify(value);
}
