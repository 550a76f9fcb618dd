// JSON, TOML and YAML as plain values. A file that cannot be read says why and where, in a sentence; one that is nested
// beyond reason, or that unfolds to more than it holds, is refused.

import { parse as parseToml, TomlError } from 'smol-toml';
import { parseDocument } from 'yaml';
import type { Plain } from './plain.ts';
import type { Unreadable } from './recipe.ts';

export type Form = 'JSON' | 'TOML' | 'YAML';

/** Configurations are four or five levels deep. */
const DEEPEST = 30;
/** More values than any trainer has settings, images included. */
const MOST_VALUES = 100_000;

export function parseFile(form: Form, text: string): { readonly value: Plain } | Unreadable {
  try {
    const value = toPlain(parsers[form](text), { depth: 0, seen: 0 });
    if (value !== undefined) return { value };
    return {
      problem: `This ${form} is nested too deeply, or too large, for a configuration.`,
      hint: 'Is it the right file?',
    };
  } catch (error) {
    // Thrown by the parsers where a text is nested so deeply that they run out of stack.
    if (error instanceof RangeError) {
      return { problem: `This ${form} is nested too deeply for a configuration.`, hint: 'Is it the right file?' };
    }
    if (!(error instanceof Error)) throw error;
    return {
      problem: `This is no valid ${form}: ${reasonOf(error)}`,
      hint: 'Look at that place: something is missing there, or only a part was copied.',
    };
  }
}

const parsers: { readonly [form in Form]: (text: string) => unknown } = {
  JSON: (text) => JSON.parse(text),
  TOML: (text) => parseToml(text),
  YAML: (text) => {
    const document = parseDocument(text, { logLevel: 'silent', prettyErrors: true });
    const [wrong] = document.errors;
    if (wrong !== undefined) throw wrong;
    // A few aliases are how people write YAML; thousands are an attack.
    return document.toJS({ maxAliasCount: 100 });
  },
};

/** The first sentence: behind it, parsers draw the text. */
function reasonOf(error: Error): string {
  const [line = ''] = error.message.split('\n');
  const place = error instanceof TomlError ? ` (line ${error.line})` : '';
  return `${line.replace(/^Invalid TOML document: /, '').replace(/[.:]$/, '')}${place}.`;
}

/** How deep the value that is being read lies, and how many there were. */
interface Budget {
  depth: number;
  seen: number;
}

/** `undefined`: too deep or too much. */
function toPlain(value: unknown, budget: Budget): Plain | undefined {
  budget.seen += 1;
  if (budget.seen > MOST_VALUES || budget.depth > DEEPEST) return undefined;
  if (value === null || value === undefined) return null;
  if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') return value;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value !== 'object' || value instanceof Date) return String(value);
  budget.depth += 1;
  const entries = Object.entries(value).map(([name, item]) => [name, toPlain(item, budget)] as const);
  budget.depth -= 1;
  if (entries.some(([, item]) => item === undefined)) return undefined;
  return Array.isArray(value) ? entries.map(([, item]) => item as Plain) : Object.fromEntries(entries);
}
