// A diagnostic as text: what is wrong and where, the line it is on, what explains it, what to write instead.
// Pure; a reporter that has colours passes a function that adds them.

import { positionOf, type Span } from '../source.ts';
import { columnsOf } from '../text-columns.ts';
import type { Diagnostic } from './diagnostics.ts';

export type Role = 'place' | 'error' | 'warning' | 'code' | 'margin' | 'mark' | 'note' | 'hint';
export type Style = (role: Role, text: string) => string;

const plain: Style = (_role, text) => text;

/** Several lines without a newline at the end. */
export function printDiagnostic(diagnostic: Diagnostic, style: Style = plain): string {
  const { severity, message, code, span, related, hint } = diagnostic;
  const { line, column } = positionOf(span);
  const spans = [span, ...related.map((one) => one.span)];
  const width = Math.max(...spans.map((one) => String(positionOf(one).line).length));
  const place = style('place', `${visible(span.source.path)}:${line}:${column}`);
  const head = `${place} ${style(severity, `${severity}:`)} ${visible(message)} ${style('code', `[${code}]`)}`;
  const lines = [head, ...quote(span, width, '^', '', style)];
  for (const one of related) {
    // A line number says little about a line of another file.
    const where = one.span.source === span.source ? '' : `, in ${one.span.source.path}`;
    lines.push(...quote(one.span, width, '-', `${one.message}${where}`, style));
  }
  if (hint !== undefined)
    lines.push(`${' '.repeat(width + 2)} ${style('margin', '=')} ${style('hint', `hint: ${visible(hint)}`)}`);
  return lines.join('\n');
}

export function printDiagnostics(diagnostics: readonly Diagnostic[], style: Style = plain): string {
  return diagnostics.map((diagnostic) => printDiagnostic(diagnostic, style)).join('\n\n');
}

/** Longer lines are shown in part, around the span. */
const longestLine = 110;

/** The line of a span, and a line of marks below it. */
function quote(span: Span, width: number, mark: string, note: string, style: Style): string[] {
  const { text } = span.source;
  const { line } = positionOf(span);
  const start = text.lastIndexOf('\n', span.start - 1) + 1;
  const found = text.indexOf('\n', start);
  const end = found < 0 ? text.length : found;
  const whole = text.slice(start, end);
  const [at, until] = [span.start - start, Math.max(span.start, Math.min(span.end, end)) - start];
  const from = Math.max(0, Math.min(at - 40, whole.length - longestLine));
  const before = `${from > 0 ? '…' : ''}${visible(whole.slice(from, at))}`;
  const shown = cut(whole.slice(at, until), longestLine);
  const after = cut(whole.slice(until), Math.max(0, longestLine - before.length - shown.length));
  const marks = mark.repeat(Math.max(1, columnsOf(shown)));
  const bar = style('margin', '|');
  const tail = note === '' ? '' : ` ${style('note', visible(note))}`;
  return [
    `  ${style('margin', String(line).padStart(width))} ${bar} ${`${before}${shown}${after}`.trimEnd()}`,
    `  ${' '.repeat(width)} ${bar} ${' '.repeat(columnsOf(before))}${style('mark', marks)}${tail}`,
  ];
}

function cut(text: string, length: number): string {
  return text.length > length ? `${visible(text.slice(0, length))}…` : visible(text);
}

/** Tabs as blanks, and nothing that could steer a terminal or turn the direction of writing. */
function visible(text: string): string {
  return text
    .replaceAll('\t', '  ')
    .replaceAll('\r', '')
    .replaceAll(/[\p{Cc}\p{Bidi_Control}\u2028\u2029\ufeff]/gu, '·');
}
