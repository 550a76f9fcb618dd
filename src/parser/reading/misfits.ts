// What the parser could not fit into the grammar, as diagnostics.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import type { SourceFile, Span } from '../source.ts';
import type { Misfit, Token } from './cst.ts';
import { endOf } from './tokens.ts';

/** One for each line: what follows on a line that went wrong is mostly a consequence. */
export function misfitDiagnostics(source: SourceFile, misfits: readonly Misfit[]): Diagnostic[] {
  const lines = new Set<number>();
  const places = misfits.map((misfit) => ({ misfit, span: spanOfMisfit(source, misfit) }));
  const inOrder = places.toSorted((a, b) => a.span.start - b.span.start);
  return inOrder.flatMap(({ misfit, span }) => {
    const line = source.text.lastIndexOf('\n', span.start - 1);
    if (lines.has(line)) return [];
    lines.add(line);
    return [decimalsAt(span) ?? problem.unexpected(span, whatOf(misfit.token), wantedIn(misfit))];
  });
}

/** Where each lies. */
export function misfitSpans(source: SourceFile, misfits: readonly Misfit[]): Span[] {
  return misfits.map((misfit) => spanOfMisfit(source, misfit));
}

function spanOfMisfit(source: SourceFile, { token, previous }: Misfit): Span {
  if (token !== undefined) return { source, start: token.startOffset, end: Math.max(endOf(token), token.startOffset) };
  const end = previous === undefined ? source.text.trimEnd().length : endOf(previous);
  return { source, start: end, end };
}

function whatOf(token: Token | undefined): string {
  if (token === undefined) return 'The end of the text';
  if (token.image === '') return 'The end of the block';
  return token.image.length > 30 ? `"${token.image.slice(0, 29)}…"` : `"${token.image}"`;
}

/** Many languages write `0,5`. */
function decimalsAt(span: Span): Diagnostic | undefined {
  const { source, start } = span;
  const whole = /[^\w.](\d+),$/.exec(source.text.slice(Math.max(0, start - 20), start))?.[1];
  const part = /^\d+(?:e-?\d+)?/i.exec(source.text.slice(start, start + 20))?.[0];
  if (whole === undefined || part === undefined) return undefined;
  return problem.decimalComma(span, { source, start: start - 1, end: start }, `${whole}.${part}`);
}

function wantedIn({ rule, previous }: Misfit): string | undefined {
  switch (rule) {
    case 'program':
    case 'statement':
      return 'Here begins a block, a let or a param.';
    case 'record':
      return 'An attribute is written name = value.';
    case 'list':
    case 'argumentList':
      return 'Here stands a value, a comma, or the closing bracket.';
    case 'group':
      return 'Here stands a value or ")".';
    default:
      return previous === undefined ? 'A value is missing.' : `A value is missing after "${previous.image}".`;
  }
}
