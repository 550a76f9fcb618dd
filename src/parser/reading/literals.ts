// Literals: from how they are written to what they say.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { type Span, sourceText } from '../source.ts';
import type { Size } from '../values.ts';

/** `1_000`, `3e-4`, `.5`, also with the minus of typesetters. The lexer has made sure of the form. */
export function readNumber(text: string): number {
  return Number(text.replaceAll('_', '').replace('\u2212', '-'));
}

/** `1024x768`. */
export function readSize(text: string): Size {
  const [width = 0, height = 0] = text.split('x').map(Number);
  return { width, height };
}

const secondsPer: { readonly [unit: string]: number } = { s: 1, min: 60, h: 3600 };

/** `5min` or `1h30min`, as seconds. */
export function readDuration(text: string): number {
  const parts = [...text.matchAll(/(.+?)(min|h|s)/g)];
  return parts.reduce((sum, [, number = '', unit = '']) => sum + readNumber(number) * (secondsPer[unit] ?? 1), 0);
}

/** `1024px`, `20MiB`, `12%`. */
export interface Quantity {
  /** In what `measures` counts: pixels, bytes, or the whole that percent are a share of. */
  readonly value: number;
  readonly measures: 'pixels' | 'bytes' | 'share';
}

const bytesPer: { readonly [unit: string]: number } = {
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/** The lexer has made sure of the form. */
export function readQuantity(text: string): Quantity {
  const [, digits = '', unit = ''] = /^(.*?)(%|px|[kKMGT]i?B)$/.exec(text) ?? [];
  if (unit === 'px') return { value: readNumber(digits), measures: 'pixels' };
  if (unit !== '%') return { value: readNumber(digits) * (bytesPer[unit.toUpperCase()] ?? 1), measures: 'bytes' };
  // 1.1 / 100 is not the number that 0.011 is.
  const isPlain = /^[\d_.]+$/.test(digits);
  return { value: isPlain ? readNumber(`${digits}e-2`) : readNumber(digits) / 100, measures: 'share' };
}

/** A piece of quoted text: itself, or the source of an expression that stands between `${` and `}`. */
export type TextPiece = string | { readonly start: number; readonly end: number };

const escapes: { readonly [letter: string]: string } = { n: '\n', t: '\t', '"': '"', '\\': '\\', $: '$', "'": "'" };

/** The pieces between the quotes of `"…"`, from `start` up to `end`. */
export function readQuoted(span: Span): { pieces: readonly TextPiece[]; diagnostics: readonly Diagnostic[] } {
  const { source, start, end } = span;
  const pieces: TextPiece[] = [];
  const diagnostics: Diagnostic[] = [];
  let plain = '';
  let at = start;
  while (at < end) {
    const letter = source.text[at] as string;
    if (letter === '\\') {
      const meant = escapes[source.text[at + 1] ?? ''];
      // One is enough: a path has many, and the answer to all is the same.
      if (meant === undefined && diagnostics.length === 0) {
        const whole = { source, start: start - 1, end: end + 1 };
        diagnostics.push(problem.badEscape({ source, start: at, end: at + 2 }, source.text.slice(start, end), whole));
      }
      plain += meant ?? '';
      at += 2;
    } else if (letter === '$' && source.text[at + 1] === '{') {
      const close = source.text.indexOf('}', at);
      if (close < 0 || close >= end) {
        diagnostics.push(problem.openInterpolation({ source, start: at, end: at + 2 }, source.text.slice(at + 2, end)));
        plain += source.text.slice(at, end);
        at = end;
      } else {
        pieces.push(plain, { start: at + 2, end: close });
        plain = '';
        at = close + 1;
      }
    } else {
      plain += letter;
      at += 1;
    }
  }
  pieces.push(plain);
  return { pieces: pieces.filter((piece) => piece !== ''), diagnostics };
}

/** No file has such a name, or none that anyone meant: `"C:\new"` says a line break. */
export function isOddPath(text: string): boolean {
  return /[\n\t\r\0]/.test(text);
}

/** How text is written so that it reads back as itself. */
export function writeText(text: string): string {
  const escaped = text
    .replaceAll(/["\\]|\$(?=\{)/g, '\\$&')
    .replaceAll('\n', '\\n')
    .replaceAll('\t', '\\t');
  return `"${escaped}"`;
}

/** How someone writes text that has no or wrong quotes: between single ones where backslashes have to stay. */
export function quote(text: string): string {
  if (!text.includes('\\')) return `"${text}"`;
  return text.includes("'") ? `"${text.replaceAll('\\', '/')}"` : `'${text}'`;
}

/** How a number is written so that it reads back as itself. */
export function writeNumber(value: number): string {
  return String(value);
}

/** The text of a source file as someone would quote it in a sentence: on one line, not too long. */
export function snippet(span: Span): string {
  const text = sourceText(span).replaceAll(/\s+/g, ' ');
  return text.length > 40 ? `${text.slice(0, 37)}…` : text;
}
