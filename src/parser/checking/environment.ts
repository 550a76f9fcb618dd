// `env("NAME", default)`: a variable of the environment, as text that is read like a param of the command line is. What
// counts for what is made is the value, never the name. Nothing but plain values comes in this way.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import type { Namespace } from '../imports/namespaces.ts';
import type { CallExpression, Expression } from '../reading/ast.ts';
import type { SourceFile, Span } from '../source.ts';
import { asText, followed, isLike, isLiteral, read, readFree } from './outside-values.ts';
import { plainText } from './written.ts';

/** The value of a variable; `undefined` where it is not set. */
export type Environment = (name: string) => string | undefined;

export interface Variable {
  readonly name: string;
  readonly value: Expression;
  /** Where the value stands: in the environment, or the default. */
  readonly definedAt: Span;
}

/** `undefined` after complaining. */
export function readVariable(
  call: CallExpression,
  {
    environment,
    spaces,
    report,
  }: { environment: Environment; spaces: readonly Namespace[]; report(found: Diagnostic): void },
): Variable | undefined {
  const [first, fallback, ...more] = call.given;
  if (call.given.some(({ kind }) => kind === 'broken')) return undefined;
  const name = first && plainText(first);
  const needed = fallback && followed(fallback, spaces);
  if (name === undefined || name === '' || more.length > 0 || (needed && !isPlain(needed))) {
    report(problem.oddVariable(call.span));
    return undefined;
  }
  const text = environment(name);
  // Scripts and containers often set what they do not know to nothing.
  if (text === undefined || text === '') {
    if (fallback !== undefined) return { name, value: fallback, definedAt: fallback.span };
    report(problem.unsetVariable(call.span, name));
    return undefined;
  }
  const source: SourceFile = { path: '<environment>', text: `${name}=${text}` };
  const span: Span = { source, start: name.length + 1, end: source.text.length };
  const value = needed === undefined ? readFree(span) : readLike(needed, span);
  if (value !== undefined) return { name, value, definedAt: span };
  report(problem.variableKind(call.span, { name, needed: needed as Expression, given: span }));
  return undefined;
}

/** What a default can be. */
function isPlain(value: Expression): boolean {
  return ['number', 'negate', 'binary', 'size', 'duration', 'quantity', 'text', 'word'].includes(value.kind);
}

function readLike(needed: Expression, span: Span): Expression | undefined {
  if (needed.kind === 'text') return asText(span);
  const value = read(span);
  const isOne = value !== undefined && (isLiteral(value) || value.kind === 'word') && isLike(needed, value);
  return isOne ? value : undefined;
}
