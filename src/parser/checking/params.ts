// Values from the command line, `-p name=value`. A param is typed by its default: where that is text, so is the value,
// as it stands; otherwise the value is read as it would be in a program.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import { findDefinition, type Namespace, visible } from '../imports/namespaces.ts';
import { type Expression, partsOf } from '../reading/ast.ts';
import type { SourceFile, Span } from '../source.ts';
import { isSweep } from '../sweeps/sweeps.ts';
import { asText, followed, isLike, read, readFree } from './outside-values.ts';

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

/** A default with several values wants values like the first of them: one, or again several. */
function readFor(needed: Expression, spaces: readonly Namespace[], span: Span): Expression | undefined {
  const [first] = isSweep(needed) ? partsOf(needed) : [];
  if (first === undefined) return needed.kind === 'text' ? asText(span) : readLike(needed, span);
  const one = followed(first, spaces);
  if (one === undefined) return readFree(span);
  const value = read(span);
  const isSeveral = value !== undefined && isSweep(value);
  return one.kind === 'text' && !isSeveral ? asText(span) : readLike(one, span);
}

/** Several values, `sweep [1, 2]`, have to be of that kind each. */
function readLike(needed: Expression, span: Span): Expression | undefined {
  const value = read(span);
  if (needed.kind === 'broken' || value === undefined) return value;
  const values = isSweep(value) ? partsOf(value) : [value];
  return values.every((one) => isLike(needed, one)) ? value : undefined;
}
