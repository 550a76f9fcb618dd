// A setting of the schema table in words: for hovers and for the documentation of completions. Markdown.

import { needs, rangeOf as numbersOf, writeValue } from '../parser/diagnostics/describe.ts';
import type { Setting, Type } from '../parser/schema/types.ts';

/** What it is, what it may be, and what it is when nobody writes it. */
export function settingText(path: readonly string[], setting: Setting): string {
  const { doc, synonyms } = setting;
  const elsewhere = synonyms.length === 0 ? [] : [`Elsewhere: ${synonyms.map((word) => `\`${word}\``).join(', ')}.`];
  return [`\`${path.join('.')}\`: ${valueText(setting.type)}${defaultText(setting)}`, doc, ...elsewhere].join('\n\n');
}

/** "a whole number, at least 1". */
export function valueText(type: Type): string {
  const range = type.kind === 'number' ? numbersOf(type) : undefined;
  return range === undefined ? needs(type) : `${needs(type)}, ${range}`;
}

function defaultText(setting: Setting): string {
  if (setting.required) return '. It has to be written.';
  const value = defaultOf(setting);
  return value === undefined ? '. Without it there is none.' : `. Default: \`${value}\``;
}

/** The default as a program would write it. */
export function defaultOf({ type, default: value }: Setting): string | undefined {
  return value === undefined ? undefined : writeValue(type, value);
}
