// The shape of a program: its blocks with their settings, and what can be folded.

import {
  type DocumentSymbol,
  type FoldingRange,
  FoldingRangeKind,
  type Range,
  SymbolKind,
} from 'vscode-languageserver/node';
import { cleanLine } from '../parser/clean-text.ts';
import type { Attribute, BlockStatement, Definition, Expression } from '../parser/reading/ast.ts';
import { snippet } from '../parser/reading/literals.ts';
import type { Span } from '../parser/source.ts';
import type { OpenFile } from './open-file.ts';
import { rangeOf } from './positions.ts';

export function outlineOf({ reading }: OpenFile): DocumentSymbol[] {
  return reading.program.statements.flatMap((statement) => {
    if (statement.kind === 'import') return [];
    return statement.kind === 'block' ? [blockSymbol(statement)] : [definitionSymbol(statement)];
  });
}

function blockSymbol({ blockKind, name, header, body, attributes }: BlockStatement): DocumentSymbol {
  const shown = name === undefined ? blockKind.text : 'text' in name ? name.text : snippet(name.span);
  return {
    name: cleanLine(shown) || blockKind.text,
    detail: cleanLine(blockKind.text),
    kind: SymbolKind.Class,
    range: rangeOf({ ...header, end: Math.max(header.end, body.end) }),
    selectionRange: rangeOf(name?.span ?? blockKind.span),
    children: attributes.map(attributeSymbol),
  };
}

function attributeSymbol({ name, value }: Attribute): DocumentSymbol {
  return {
    name: cleanLine(name.text) || '""',
    detail: cleanLine(snippet(value.span)),
    kind: SymbolKind.Property,
    range: rangeOf({ ...name.span, end: Math.max(name.span.end, value.span.end) }),
    selectionRange: rangeOf(name.span),
    children: value.kind === 'record' ? value.entries.map(attributeSymbol) : [],
  };
}

function definitionSymbol({ kind, name, value }: Definition): DocumentSymbol {
  return {
    name: name.text,
    detail: cleanLine(value === undefined ? kind : `${kind} = ${snippet(value.span)}`),
    kind: kind === 'let' ? SymbolKind.Constant : SymbolKind.Variable,
    range: rangeOf({ ...name.span, end: Math.max(name.span.end, value?.span.end ?? 0) }),
    selectionRange: rangeOf(name.span),
  };
}

/** Braces and brackets over several lines, and comments that stand on lines of their own one below the other. */
export function foldsOf({ reading, source }: OpenFile): FoldingRange[] {
  const bodies = reading.program.statements.flatMap((statement) => {
    if (statement.kind === 'block') return [statement.body, ...statement.attributes.flatMap(bracketsIn)];
    return statement.kind === 'import' || statement.value === undefined ? [] : foldable(statement.value);
  });
  const folds = bodies
    .map(rangeOf)
    .filter(isLong)
    .map(({ start, end }) => ({
      startLine: start.line,
      // The closing bracket stays in sight.
      endLine: end.line - 1,
    }));
  const comments = reading.comments.map(({ startOffset, image }) =>
    rangeOf({ source, start: startOffset, end: startOffset + image.length }),
  );
  return [...folds.filter((fold) => fold.endLine > fold.startLine), ...commentFolds(comments)];
}

const isLong = ({ start, end }: Range) => end.line > start.line;

const bracketsIn = ({ value }: Attribute): readonly Span[] => foldable(value);

function foldable(value: Expression): readonly Span[] {
  if (value.kind === 'record') return [value.span, ...value.entries.flatMap(bracketsIn)];
  return value.kind === 'list' ? [value.span] : [];
}

function commentFolds(comments: readonly Range[]): FoldingRange[] {
  const runs: { first: Range; last: Range }[] = [];
  for (const comment of comments) {
    const run = runs.at(-1);
    const goesOn = run !== undefined && comment.start.line === run.last.start.line + 1;
    if (goesOn && comment.start.character === run.first.start.character) run.last = comment;
    else runs.push({ first: comment, last: comment });
  }
  return runs
    .filter(({ first, last }) => last.start.line > first.start.line)
    .map(({ first, last }) => ({
      startLine: first.start.line,
      endLine: last.start.line,
      kind: FoldingRangeKind.Comment,
    }));
}
