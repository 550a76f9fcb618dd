// Values from the command line, `-p name=value`. A param is typed by its default: where that is text, so is the value,
// as it stands; otherwise the value is read as it would be in a program.

import type { Definition, Expression } from './ast.ts';
import { buildExpression } from './build-ast.ts';
import { parseExpression } from './cst.ts';
import type { Diagnostic } from './diagnostics.ts';
import * as problem from './diagnostics.ts';
import type { SourceFile, Span } from './source.ts';
import { nearest } from './suggest.ts';
import { isSweep, partsOf } from './sweeps.ts';
import { arrangeTokens } from './token-stream.ts';
import { tokenize } from './tokens.ts';
import { sourceText } from './written.ts';

/** The definitions with the params of the command line set. */
export function setParams(
  definitions: ReadonlyMap<string, Definition>,
  params: ReadonlyMap<string, string>,
  diagnostics: Diagnostic[],
): ReadonlyMap<string, Definition> {
  const names = [...definitions.values()].filter(({ kind }) => kind === 'param').map(({ name }) => name.text);
  const result = new Map(definitions);
  for (const [name, text] of params) {
    const source: SourceFile = { path: '<command line>', text: `-p ${name}=${text}` };
    const span: Span = { source, start: '-p '.length + name.length + 1, end: source.text.length };
    const definition = definitions.get(name);
    if (definition?.kind !== 'param') {
      const nameSpan = { source, start: '-p '.length, end: '-p '.length + name.length };
      diagnostics.push(problem.unknownParam(nameSpan, name, nearest(name, names), names));
    } else {
      const needed = definition.value && followed(definition.value, definitions);
      const value = needed === undefined ? readFree(span) : readFor(needed, definitions, span);
      if (value === undefined) {
        diagnostics.push(problem.paramKind(span, name, needed as Expression, definition.name.span));
      }
      result.set(name, { ...definition, value: value ?? { kind: 'broken', span } });
    }
  }
  for (const definition of result.values()) {
    if (definition.value === undefined) diagnostics.push(problem.unsetParam(definition.name));
  }
  return result;
}

/** A default that is a name counts as what it stands for. */
function followed(value: Expression, definitions: ReadonlyMap<string, Definition>): Expression {
  let current = value;
  for (let step = 0; step < 20 && current.kind === 'word'; step += 1) {
    const next = definitions.get(current.text)?.value;
    if (next === undefined) return current;
    current = next;
  }
  return current;
}

const plainText = (span: Span): Expression => ({
  kind: 'text',
  span,
  parts: [span.source.text.slice(span.start, span.end)],
});

/** Without a default there is no type to go by: numbers and the like are taken as such, all else is text. */
function readFree(span: Span): Expression {
  const value = read(span);
  const isWord = value?.kind === 'word' && (value.text === 'true' || value.text === 'false');
  const isLiteral = value !== undefined && ['number', 'size', 'duration', 'negate'].includes(value.kind);
  return isLiteral || isWord ? value : plainText(span);
}

/** A default with several values wants values like the first of them: one, or again several. */
function readFor(needed: Expression, definitions: ReadonlyMap<string, Definition>, span: Span): Expression | undefined {
  const [first] = isSweep(needed) ? partsOf(needed) : [];
  if (first === undefined) return needed.kind === 'text' ? plainText(span) : readLike(needed, span);
  const one = followed(first, definitions);
  const value = read(span);
  const isSeveral = value !== undefined && isSweep(value);
  return one.kind === 'text' && !isSeveral ? plainText(span) : readLike(one, span);
}

/** Several values, `sweep [1, 2]`, have to be of that kind each. */
function readLike(needed: Expression, span: Span): Expression | undefined {
  const value = read(span);
  if (needed.kind === 'broken' || value === undefined) return value;
  const values = isSweep(value) ? partsOf(value) : [value];
  return values.every((one) => isLike(needed, one)) ? value : undefined;
}

function isLike(needed: Expression, value: Expression): boolean {
  const isBoolean = (one: Expression) => one.kind === 'word' && (one.text === 'true' || one.text === 'false');
  if (isBoolean(needed) !== isBoolean(value)) return false;
  const forms = formsOf(needed);
  return formsOf(value).some((form) => forms.includes(form));
}

/** Numbers are numbers however they are computed; a tag alone is a tagged record; `kohya-diffusers` may be a word. */
function formsOf({ kind, span }: Expression): readonly string[] {
  if (kind === 'binary' && /^[A-Za-z]\w*(?:-[A-Za-z]\w*)+$/.test(sourceText(span))) return ['number', 'word'];
  if (kind === 'negate' || kind === 'binary') return ['number'];
  return [kind === 'record' ? 'word' : kind];
}

function read(span: Span): Expression | undefined {
  const { source, start, end } = span;
  const arranged = arrangeTokens(source, tokenize(source.text.slice(start, end), start), true);
  const { tree, misfits } = parseExpression(arranged.tokens);
  if (arranged.diagnostics.length > 0 || misfits.length > 0) return undefined;
  const { value, diagnostics } = buildExpression(source, tree);
  return diagnostics.length > 0 ? undefined : value;
}
