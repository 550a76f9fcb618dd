// Colours that know what a word means: the name of a block here, a word of an attribute there. Everything that has a
// colour is in it, so that editors without the TextMate grammar need nothing else.

import { SemanticTokensBuilder, type SemanticTokensLegend } from 'vscode-languageserver/node';
import type { Meaning } from '../parser/editing/symbols.ts';
import * as t from '../parser/reading/tokens.ts';
import { endOf, type Token } from '../parser/reading/tokens.ts';
import type { OpenFile } from './open-file.ts';
import { rangeOf } from './positions.ts';

const types = [
  'keyword',
  'class',
  'variable',
  'property',
  'type',
  'enumMember',
  'string',
  'number',
  'comment',
  'operator',
] as const;
type TokenKind = (typeof types)[number];

const DEFINITION = 1;

export const legend: SemanticTokensLegend = { tokenTypes: [...types], tokenModifiers: ['definition'] };

interface Piece {
  readonly start: number;
  readonly end: number;
  readonly kind: TokenKind;
  readonly modifiers: number;
}

/** `from` and `to`: offsets of the part that is on the screen. */
export function semanticTokensOf({ reading, symbols, source }: OpenFile, from = 0, to = source.text.length) {
  const isSeen = ({ start, end }: { readonly start: number; readonly end: number }) => end >= from && start <= to;
  const meant = symbols.meanings.filter(({ span }) => isSeen(span)).map(pieceOfMeaning);
  const plain = [...reading.tokens.flatMap(pieceOfToken), ...reading.comments.map((token) => piece(token, 'comment'))];
  const builder = new SemanticTokensBuilder();
  for (const { start, end, kind, modifiers } of inOrder(meant, plain.filter(isSeen))) {
    const place = rangeOf({ source, start, end }).start;
    builder.push(place.line, place.character, end - start, types.indexOf(kind), modifiers);
  }
  return builder.build();
}

/** Both in the order of the text. Where they overlap, meanings win, and texts go on around the names inside of them. */
function inOrder(meant: readonly Piece[], plain: readonly Piece[]): Piece[] {
  const pieces: Piece[] = [];
  let next = 0;
  for (const one of plain.toSorted((a, b) => a.start - b.start)) {
    while (next < meant.length && (meant[next] as Piece).end <= one.start) pieces.push(meant[next++] as Piece);
    let { start } = one;
    while (next < meant.length && (meant[next] as Piece).start < one.end) {
      const inner = meant[next++] as Piece;
      if (inner.start > start) pieces.push({ ...one, start, end: inner.start });
      pieces.push(inner);
      start = inner.end;
    }
    if (start < one.end) pieces.push({ ...one, start });
  }
  return [...pieces, ...meant.slice(next)];
}

function pieceOfMeaning(meaning: Meaning): Piece {
  const { start, end } = meaning.span;
  const modifiers = meaning.kind === 'definition' ? DEFINITION : 0;
  return { start, end, kind: kindOf(meaning), modifiers };
}

function kindOf(meaning: Meaning): TokenKind {
  switch (meaning.kind) {
    case 'block-kind':
      return 'keyword';
    case 'attribute':
      return 'property';
    case 'tag':
      return 'type';
    case 'word':
      return 'enumMember';
    case 'file':
      return 'string';
    default:
      return meaning.of.kind === 'block' ? 'class' : 'variable';
  }
}

function pieceOfToken(token: Token): readonly Piece[] {
  const kind = token.image === '' ? undefined : plainKinds.get(token.tokenType);
  return kind === undefined ? [] : [piece(token, kind)];
}

/** Of tokens whose meaning nobody knows. */
const plainKinds = new Map(
  (
    [
      ['keyword', [t.BlockWord, t.Let, t.Param, t.Import, t.Extends]],
      ['string', [t.QuotedText, t.RawText, t.OpenText, t.OddQuotedText, t.BareText]],
      ['number', [t.NumberNumeral, t.SizeNumeral, t.DurationNumeral, t.OddNumeral, t.OddSize]],
      ['operator', [t.Plus, t.Minus, t.Power, t.At]],
    ] as const
  ).flatMap(([kind, tokens]) => tokens.map((token) => [token, kind] as const)),
);

const piece = (token: Token, kind: TokenKind): Piece => ({
  start: token.startOffset,
  end: endOf(token),
  kind,
  modifiers: 0,
});
