// How values of a draft are written in a program: only what is not the default anyway.

import { isDeepStrictEqual } from 'node:util';
import { writeValue } from '../parser/diagnostics/describe.ts';
import { writeNumber, writeText } from '../parser/reading/literals.ts';
import type { Fields, Type } from '../parser/schema/types.ts';
import { isRecord, type Plain } from './plain.ts';
import { splitAtVariables } from './recipe.ts';

type Fieldwise = { readonly [name: string]: unknown };

/** The fields whose values differ from their defaults, in the order of the table, as they are written. */
function writeFields(fields: Fields, values: Fieldwise): readonly (readonly [string, string])[] {
  return Object.entries(fields).flatMap(([name, { type, default: usual }]) => {
    const value = values[name];
    return value === undefined || isUsual(type, value, usual) ? [] : [[name, write(type, value)] as const];
  });
}

/** Whether a value says nothing that is not so without it. What a record does not name is at its default. */
export function isUsual(type: Type, value: unknown, usual: unknown): boolean {
  if (usual === undefined || value === undefined) return false;
  switch (type.kind) {
    case 'tagged': {
      const { kind } = value as { readonly kind: string };
      const fields = type.variants[kind];
      return (
        fields !== undefined &&
        (usual as { kind?: string }).kind === kind &&
        writeFields(fields, value as Fieldwise).length === 0
      );
    }
    case 'record':
      return writeFields(type.fields, value as Fieldwise).length === 0;
    case 'schedule':
      return value === writeValue(type, usual);
    default:
      return isDeepStrictEqual(value, usual);
  }
}

export function write(type: Type, value: unknown): string {
  switch (type.kind) {
    case 'text':
      return writeMarked(value as string);
    case 'record':
      return braces('', writeFields(type.fields, value as Fieldwise));
    case 'tagged': {
      const { kind } = value as { readonly kind: string };
      return braces(kind, writeFields(type.variants[kind] ?? {}, value as Fieldwise));
    }
    case 'block-numbers': {
      const entries = Object.entries(value as { readonly [block: string]: number });
      return braces(
        '',
        entries.map(([key, number]) => [writeKey(key), writeNumber(number)] as const),
      );
    }
    case 'arguments':
      return writeArgument(value as Plain);
    case 'schedule':
    case 'reference':
      return value as string;
    case 'list':
      return `[${(value as readonly unknown[]).map((item) => write(type.of, item)).join(', ')}]`;
    case 'either':
      return writeEither(type.of, value);
    default:
      return writeValue(type, value);
  }
}

function writeEither(of: readonly Type[], value: unknown): string {
  const list = of.find((one) => one.kind === 'list');
  if (list !== undefined && Array.isArray(value)) return write(list, value);
  const text = of.find((one) => one.kind === 'text');
  return text !== undefined && typeof value === 'string'
    ? write(text, value)
    : writeValue({ kind: 'either', of }, value);
}

/** A block is a plain word; a layer of a text encoder, and a pattern, stand in quotes. */
function writeKey(key: string): string {
  return /^[A-Za-z_]\w*$/.test(key) ? key : writeText(key);
}

function braces(tag: string, entries: readonly (readonly [string, string])[]): string {
  const inside = entries.map(([name, value]) => `${name} = ${value}`).join('  ');
  const space = tag === '' ? '' : ' ';
  if (inside === '') return tag === '' ? '{ }' : tag;
  return `${tag}${space}{ ${inside} }`;
}

/** Text in quotes, with `${NAME}` where a shell variable stood. Backslashes of Windows paths stay readable. */
function writeMarked(text: string): string {
  const pieces = splitAtVariables(text);
  const isPlain = pieces.every((piece) => typeof piece === 'string');
  if (isPlain && text.includes('\\') && !text.includes("'")) return `'${text}'`;
  const inside = pieces.map((piece) =>
    typeof piece === 'string' ? writeText(piece).slice(1, -1) : `\${${piece.variable}}`,
  );
  return `"${inside.join('')}"`;
}

/** A plain value for something that lorac does not know. */
function writeArgument(value: Plain | undefined): string {
  if (value === null || value === undefined) return 'none';
  if (typeof value === 'string') return writeMarked(value);
  if (typeof value === 'number') return writeNumber(value);
  if (typeof value === 'boolean') return String(value);
  if (!isRecord(value)) return `[${value.map((item) => writeArgument(item)).join(', ')}]`;
  return braces(
    '',
    Object.entries(value).map(([name, one]) => [name, writeArgument(one)] as const),
  );
}
