// Values from the command line, `-p name=value`. A param is typed by its default: where that is text, so is the value,
// as it stands; otherwise the value is read as it would be in a program.

import type { Expression } from './ast.ts';
import { buildExpression } from './build-ast.ts';
import { parseExpression } from './cst.ts';
import type { Diagnostic } from './diagnostics.ts';
import * as problem from './diagnostics.ts';
import { findDefinition, homeOf, type Namespace, visible } from './namespaces.ts';
import type { SourceFile, Span } from './source.ts';
import { nearest } from './suggest.ts';
import { isSweep, partsOf } from './sweeps.ts';
import { arrangeTokens } from './token-stream.ts';
import { tokenize } from './tokens.ts';
import { sourceText } from './written.ts';

/** Sets the params of the command line: those of the program, and of imported files with the import's name before them. */
export function setParams(
  spaces: readonly Namespace[],
  params: ReadonlyMap<string, string>,
  diagnostics: Diagnostic[],
): void {
  const root = spaces[0] as Namespace;
  const values = [...params].flatMap(([name, text]) => {
    const source: SourceFile = { path: '<command line>', text: `-p ${name}=${text}` };
    const span: Span = { source, start: '-p '.length + name.length + 1, end: source.text.length };
    const found = findDefinition(root, name);
    if (found === 'unreadable') return [];
    if (found?.value.kind !== 'param') {
      const nameSpan = { source, start: '-p '.length, end: '-p '.length + name.length };
      const names = paramsSeenBy(root);
      diagnostics.push(problem.unknownParam(nameSpan, name, nearest(name, names), names));
      return [];
    }
    const { space, key, value: definition } = found;
    const needed = definition.value && followed(definition.value, spaces);
    const value = needed === undefined ? readFree(span) : readFor(needed, spaces, span);
    if (value === undefined) {
      diagnostics.push(problem.paramKind(span, name, needed as Expression, definition.name.span));
    }
    return [() => space.definitions.set(key, { ...definition, value: value ?? { kind: 'broken', span } })];
  });
  // Each is typed by the defaults as they are written, so none is set before all are read.
  for (const set of values) set();
  for (const { prefix, definitions } of spaces) {
    for (const { name, value } of definitions.values()) {
      if (value === undefined) diagnostics.push(problem.unsetParam(name, `${prefix}${name.text}`));
    }
  }
}

const paramsSeenBy = (space: Namespace): readonly string[] =>
  [...visible(space, ({ definitions }) => definitions)].flatMap(([name, { kind }]) => (kind === 'param' ? [name] : []));

/** A default that is a name counts as what it stands for. */
function followed(value: Expression, spaces: readonly Namespace[]): Expression {
  const home = homeOf(spaces);
  let current = value;
  for (let step = 0; step < 20 && current.kind === 'word'; step += 1) {
    const found = findDefinition(home(current.span.source), current.text);
    if (found === undefined || found === 'unreadable' || found.value.value === undefined) return current;
    current = found.value.value;
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
function readFor(needed: Expression, spaces: readonly Namespace[], span: Span): Expression | undefined {
  const [first] = isSweep(needed) ? partsOf(needed) : [];
  if (first === undefined) return needed.kind === 'text' ? plainText(span) : readLike(needed, span);
  const one = followed(first, spaces);
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
