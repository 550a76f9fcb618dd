// Facts worth keeping between runs that may be thrown away at any time: one JSON file per kind of fact.
//
// - Read when first asked. A file that is damaged, or that somebody else wrote, counts as empty, with a warning;
//   every value is checked when it is taken out.
// - Saved only when something changed, over what other processes saved meanwhile.

import { readFileSync } from 'node:fs';
import type { AbsolutePath } from '../graph/graph.ts';
import type { Json } from '../graph/json.ts';
import { atomicWrite } from './atomic-write.ts';
import { isRecord } from './fingerprint.ts';

const VERSION = 1;
/** Beyond this many, entries that a run did not look at are dropped. */
const MOST_ENTRIES = 200_000;

export class MutableMap<Value extends Json> {
  readonly #path: AbsolutePath;
  readonly #parse: (value: unknown) => Value | undefined;
  readonly #warn: (message: string) => void;
  #loaded: Map<string, unknown> | undefined;
  readonly #changed = new Map<string, Value>();
  readonly #used = new Set<string>();

  constructor(options: {
    readonly path: AbsolutePath;
    readonly parse: (value: unknown) => Value | undefined;
    readonly warn: (message: string) => void;
  }) {
    this.#path = options.path;
    this.#parse = options.parse;
    this.#warn = options.warn;
  }

  get(key: string): Value | undefined {
    this.#used.add(key);
    const changed = this.#changed.get(key);
    if (changed !== undefined) return changed;
    this.#loaded ??= this.#read();
    return this.#parse(this.#loaded.get(key));
  }

  set(key: string, value: Value): void {
    this.#used.add(key);
    this.#changed.set(key, value);
  }

  get isChanged(): boolean {
    return this.#changed.size > 0;
  }

  /** To be called by one process at a time. */
  async save(): Promise<void> {
    if (!this.isChanged) return;
    const entries = this.#read();
    const saved = new Map(this.#changed);
    for (const [key, value] of saved) entries.set(key, value);
    if (entries.size > MOST_ENTRIES) {
      for (const key of [...entries.keys()]) if (!this.#used.has(key)) entries.delete(key);
    }
    const text = JSON.stringify({ version: VERSION, entries: Object.fromEntries(entries) });
    await atomicWrite(this.#path, `${text}\n`, { durable: false });
    this.#loaded = entries;
    // What was set while this was being written is still to be saved.
    for (const [key, value] of saved) if (this.#changed.get(key) === value) this.#changed.delete(key);
  }

  #read(): Map<string, unknown> {
    let text: string;
    try {
      text = readFileSync(this.#path, 'utf8');
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
      throw error;
    }
    try {
      const content: unknown = JSON.parse(text);
      if (isRecord(content) && content.version === VERSION && isRecord(content.entries)) {
        return new Map(Object.entries(content.entries));
      }
    } catch (error) {
      if (!(error instanceof SyntaxError)) throw error;
    }
    this.#warn(`"${this.#path}" is damaged and is made again.`);
    return new Map();
  }
}
