// Values that come from outside of a program, as text: from the command line and from the environment. What kind of value
// a text is to be shows in the default beside which it stands; without one, in how it looks.

import { findDefinition, homeOf, type Namespace } from '../imports/namespaces.ts';
import type { Expression } from '../reading/ast.ts';
import { buildExpression } from '../reading/build-expression.ts';
import { parseExpression } from '../reading/cst.ts';
import { arrangeTokens } from '../reading/token-stream.ts';
import { tokenize } from '../reading/tokens.ts';
import { type Span, sourceText } from '../source.ts';

/** A default that is a name counts as what it stands for, and a variable as its own default, if it has one. */
export function followed(value: Expression, spaces: readonly Namespace[]): Expression | undefined {
  const home = homeOf(spaces);
  let current: Expression | undefined = value;
  for (let step = 0; step < 20; step += 1) {
    if (current?.kind === 'call') current = current.given[1];
    if (current?.kind !== 'word') return current;
    const found = findDefinition(home(current.span.source), current.text);
    if (found === undefined || found === 'unreadable' || found.value.value === undefined) return current;
    current = found.value.value;
  }
  // Names that lead to each other, which whoever uses them is told.
  return undefined;
}

/** As it stands, whatever it looks like. */
export const asText = (span: Span): Expression => ({ kind: 'text', span, parts: [sourceText(span)] });

/** Without a default there is no type to go by: numbers and the like are taken as such, all else is text. */
export function readFree(span: Span): Expression {
  const value = read(span);
  return value !== undefined && isLiteral(value) ? value : asText(span);
}

/** A number, a size, a duration, true or false, written out. */
export function isLiteral(value: Expression): boolean {
  if (value.kind === 'negate') return value.of.kind === 'number';
  return ['number', 'size', 'duration', 'quantity'].includes(value.kind) || isBoolean(value);
}

const isBoolean = (value: Expression) => value.kind === 'word' && (value.text === 'true' || value.text === 'false');

/** Whether a value is of the kind that a default shows. */
export function isLike(needed: Expression, value: Expression): boolean {
  if (isBoolean(needed) !== isBoolean(value)) return false;
  const forms = formsOf(needed);
  return formsOf(value).some((form) => forms.includes(form));
}

/** Numbers are numbers however they are computed; a tag alone is a tagged record; `kohya-diffusers` may be a word. */
function formsOf({ kind, span }: Expression): readonly string[] {
  if (kind === 'binary' && /^[A-Za-z]\w*(?:-[A-Za-z]\w*)+$/.test(sourceText(span))) return ['number', 'word'];
  if (kind === 'negate' || kind === 'binary' || kind === 'quantity') return ['number'];
  return [kind === 'record' ? 'word' : kind];
}

/** As it would be read in a program; `undefined` where it could not be. */
export function read(span: Span): Expression | undefined {
  const { source, start, end } = span;
  const arranged = arrangeTokens(source, tokenize(source.text.slice(start, end), start), true);
  const { tree, misfits } = parseExpression(arranged.tokens);
  if (arranged.diagnostics.length > 0 || misfits.length > 0) return undefined;
  const { value, diagnostics } = buildExpression(source, tree);
  return diagnostics.length > 0 ? undefined : value;
}
