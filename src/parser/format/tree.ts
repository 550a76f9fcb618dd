// A text as the formatter sees it: statements, in them attributes and items, and the comments between them. Made of
// tokens alone, so that a form of value that is new to the language needs nothing here. What cannot be read, or has a
// comment in a place where none is laid out, is marked, and stays as it is.

import { buildAst } from '../reading/build-ast.ts';
import { parseProgram } from '../reading/cst.ts';
import { misfitSpans } from '../reading/misfits.ts';
import { arrangeTokens } from '../reading/token-stream.ts';
import * as t from '../reading/tokens.ts';
import { endOf, isA, lex, type Token } from '../reading/tokens.ts';
import type { Span } from '../source.ts';

export type Entry = Item | Comment;

export interface Comment {
  readonly kind: 'comment';
  readonly text: string;
  readonly start: number;
  readonly end: number;
}

/** A statement, an attribute, an item of a list, or what stands where none of them can. */
export interface Item {
  readonly kind: 'block' | 'definition' | 'import' | 'attribute' | 'item' | 'stray';
  readonly nodes: readonly Node[];
  readonly start: number;
  readonly end: number;
  /** It cannot be read, or there is a comment in the middle of it. */
  readonly staysAsIs: boolean;
}

export type Node = Token | Group;

/** What stands in brackets. Commas are left out: where there is one is known from the bracket. */
export interface Group {
  /** A pick names a variant: `small[thr=-4]`. Picks and what stands in round brackets stay on one line. */
  readonly kind: 'record' | 'list' | 'pick' | 'round';
  readonly open: Token;
  readonly entries: readonly Entry[];
  readonly close: Token;
}

export const isGroup = (node: Node | undefined): node is Group => node !== undefined && 'open' in node;

const operators = new Set(['=', ':', '+', '-', '\u2212', '*', '/', '**', '@']);

export const isOperator = (node: Node): boolean => !isGroup(node) && operators.has(node.image);

interface Growing extends Item {
  kind: Item['kind'];
  /** One of the values of a list or a sweep, between which a comma may have been forgotten. */
  readonly isOneOfMany: boolean;
  nodes: Node[];
  start: number;
  end: number;
  staysAsIs: boolean;
}

/** The tokens of a text in order, comments and what was left out by the token stream among them. */
interface Reading {
  readonly tokens: readonly Token[];
  readonly comments: ReadonlySet<Token>;
  readonly strange: ReadonlySet<Token>;
  at: number;
}

export interface Tree {
  /** Statements, and the comments between them. */
  readonly entries: readonly Entry[];
  /** What could not be read. */
  readonly unread: readonly Span[];
}

/** `text` has line ends of one kind, `\n`. */
export function readTree(text: string): Tree {
  const source = { path: '', text };
  const { tokens: lexed, comments } = lex(text);
  const arranged = arrangeTokens(source, lexed);
  const { tree, misfits } = parseProgram(arranged.tokens);
  const told = [...arranged.diagnostics, ...buildAst(source, tree).diagnostics].map(({ span }) => span);
  const unread = [...told, ...misfitSpans(source, misfits)];
  const strange = leftOut(lexed, arranged.tokens);
  const tokens = inOrder(arranged.tokens, [...strange, ...comments]);
  const reading: Reading = { tokens, comments: new Set(comments), strange: new Set(strange), at: 0 };
  const entries = readStatements(reading);
  for (const { start, end } of unread)
    keepWhatLiesIn(entries, start, start + (text.slice(start, end).trimEnd().length || end - start));
  for (const entry of entries) keepOnItsLine(text, entry);
  return { entries, unread };
}

/** Lexed tokens that no arranged one covers. */
function leftOut(lexed: readonly Token[], arranged: readonly Token[]): Token[] {
  const strange: Token[] = [];
  let at = 0;
  for (const token of lexed) {
    while (at < arranged.length && endOf(arranged[at] as Token) <= token.startOffset) at += 1;
    const cover = arranged[at];
    if (cover === undefined || cover.startOffset > token.startOffset) strange.push(token);
  }
  return strange;
}

/** An invented token stands right behind what is before it, so it comes before a comment. */
function inOrder(arranged: readonly Token[], others: readonly Token[]): Token[] {
  const sorted = others.toSorted((a, b) => a.startOffset - b.startOffset);
  const merged: Token[] = [];
  let at = 0;
  for (const token of arranged) {
    while (at < sorted.length && (sorted[at] as Token).startOffset < token.startOffset)
      merged.push(sorted[at++] as Token);
    merged.push(token);
  }
  return [...merged, ...sorted.slice(at)];
}

const startsStatement = (token: Token | undefined) =>
  [t.BlockWord, t.Let, t.Param, t.Import].some((type) => isA(token, type));

function kindOfStatement(token: Token): Item['kind'] {
  if (isA(token, t.BlockWord)) return 'block';
  if (isA(token, t.Import)) return 'import';
  return startsStatement(token) ? 'definition' : 'stray';
}

function readStatements(reading: Reading): (Growing | Comment)[] {
  const entries: (Growing | Comment)[] = [];
  let item: Growing | undefined;
  while (reading.at < reading.tokens.length) {
    const token = reading.tokens[reading.at] as Token;
    if (reading.comments.has(token)) {
      reading.at += 1;
      if (item !== undefined && goesOn(reading, (next) => startsStatement(next) || isA(next, t.Key))) {
        item.staysAsIs = true;
      } else {
        item = undefined;
        entries.push(commentOf(token));
      }
      continue;
    }
    if (item === undefined || startsStatement(token) || isA(token, t.Key)) {
      item = begin(kindOfStatement(token), token);
      entries.push(item);
    }
    const node = readNode(reading, item);
    if (item.kind === 'block' && isGroup(node)) {
      // Without its brace, nobody knows where a block ends: all up to the next is as it was.
      if (node.close.image === '') item.end = endOfUnclosed(reading, item.end);
      item = undefined;
    }
  }
  return entries;
}

/** Whether what stands before a comment goes on behind it. */
function goesOn(reading: Reading, isNext: (token: Token | undefined) => boolean): boolean {
  let at = reading.at;
  while (at < reading.tokens.length && reading.comments.has(reading.tokens[at] as Token)) at += 1;
  const next = reading.tokens[at];
  return next !== undefined && (reading.strange.has(next) || !isNext(next));
}

/** `a = b, { }`, `a = , "b" = 1` and `= let, r = 1`: without its comma, each would say something else. */
function needsComma(item: Item, reading: Reading, isNext: (token: Token | undefined) => boolean): boolean {
  const last = item.nodes.at(-1);
  return (
    item.kind === 'stray' ||
    (last !== undefined && isOperator(last)) ||
    goesOn({ ...reading, at: reading.at + 1 }, isNext)
  );
}

function endOfUnclosed(reading: Reading, end: number): number {
  let last = end;
  while (reading.at < reading.tokens.length && !startsStatement(reading.tokens[reading.at])) {
    last = Math.max(last, endOfText(reading.tokens[reading.at] as Token));
    reading.at += 1;
  }
  return last;
}

const begin = (kind: Item['kind'], token: Token, isOneOfMany = false): Growing => ({
  kind,
  isOneOfMany,
  nodes: [],
  start: token.startOffset,
  end: token.startOffset,
  staysAsIs: kind === 'stray',
});

const commentOf = (token: Token): Comment => ({
  kind: 'comment',
  text: token.image.trimEnd(),
  start: token.startOffset,
  end: token.startOffset + token.image.trimEnd().length,
});

/** The next token, or the brackets that it opens with all that is in them, as the next node of an item. */
function readNode(reading: Reading, item: Growing): Node {
  const token = reading.tokens[reading.at] as Token;
  reading.at += 1;
  const isOpener = [t.OpenBrace, t.OpenBracket, t.OpenParen].some((type) => isA(token, type));
  const isStrange = reading.strange.has(token);
  if (isStrange || token.image === '') item.staysAsIs = true;
  const node = isOpener && !isStrange ? readGroup(reading, token, item.nodes.at(-1)) : token;
  if (isGroup(node)) {
    if (node.close.image === '') item.staysAsIs = true;
    if (isOnOneLine(node) && holdsLines(node)) item.staysAsIs = true;
  }
  if (item.isOneOfMany && isHalfSign(item, token, reading.tokens[reading.at])) item.staysAsIs = true;
  item.nodes.push(node);
  item.end = Math.max(item.end, endOfText(isGroup(node) ? node.close : node));
  return node;
}

/** `[-3 -4]`: it is a subtraction, and looks as if a comma was forgotten. With other blanks nobody could see that. */
function isHalfSign(item: Growing, sign: Token, after: Token | undefined): boolean {
  const isSign = isA(sign, t.Minus) || isA(sign, t.Plus);
  const before = item.nodes.at(-1);
  if (!isSign || before === undefined || isOperator(before)) return false;
  // A key begins the next attribute: nothing follows the sign then.
  return item.end < sign.startOffset && after?.startOffset === endOf(sign) && !isA(after, t.Key);
}

/** A comment of another language that nothing ends goes up to the end of the text, and the last line ends not in it. */
const endOfText = (token: Token) =>
  isA(token, t.SlashStar) ? token.startOffset + token.image.trimEnd().length : endOf(token);

function kindOfGroup(open: Token, before: Node | undefined): Group['kind'] {
  if (isA(open, t.OpenBrace)) return 'record';
  if (isA(open, t.OpenParen)) return 'round';
  const isTagged = before !== undefined && !isGroup(before) && isA(before, t.Word);
  return isTagged && !isSweep(before) ? 'pick' : 'list';
}

const isSweep = (tag: Node | undefined) => tag !== undefined && !isGroup(tag) && tag.image === 'sweep';

export const isOnOneLine = ({ kind }: Group): boolean => kind === 'pick' || kind === 'round';

/** On one line there is no place for a comment, nor for what has to keep its lines. */
function holdsLines({ entries }: Group): boolean {
  return entries.some(
    (entry) =>
      entry.kind === 'comment' || entry.staysAsIs || entry.nodes.some((node) => isGroup(node) && holdsLines(node)),
  );
}

/** In braces each attribute begins with its key; in other brackets items have commas between them. */
function readGroup(reading: Reading, open: Token, before: Node | undefined): Group {
  const kind = kindOfGroup(open, before);
  const isRecord = kind === 'record';
  const holdsMany = !isRecord || isSweep(before);
  const isCloser = (token: Token | undefined) =>
    [t.CloseBrace, t.CloseBracket, t.CloseParen].some((type) => isA(token, type));
  const isEnd = (next: Token | undefined) =>
    isCloser(next) || isA(next, t.Comma) || (isRecord && isA(next, t.Key)) || startsStatement(next);
  const entries: Entry[] = [];
  let item: Growing | undefined;
  for (;;) {
    const token = reading.tokens[reading.at];
    if (token === undefined) throw new Error('Internal error: a bracket without its partner');
    const isStrange = reading.strange.has(token);
    if (isCloser(token) && !isStrange) {
      reading.at += 1;
      return { kind, open, entries, close: token };
    }
    if (reading.comments.has(token)) {
      reading.at += 1;
      if (item !== undefined && goesOn(reading, isEnd)) item.staysAsIs = true;
      else entries.push(commentOf(token));
    } else if (isA(token, t.Comma) && (item === undefined || !isRecord || !needsComma(item, reading, isEnd))) {
      reading.at += 1;
      item = undefined;
    } else {
      if (item === undefined || (isRecord && isA(token, t.Key))) {
        item = begin(isRecord ? (isA(token, t.Key) ? 'attribute' : 'stray') : 'item', token, holdsMany);
        entries.push(item);
      }
      readNode(reading, item);
    }
  }
}

/** Marks the smallest item that a problem lies in; where it lies in none, all that it touches. */
function keepWhatLiesIn(entries: readonly (Growing | Comment)[], start: number, end: number): void {
  if (keepSmallest(entries, start, end)) return;
  for (const entry of entries) {
    if (entry.kind !== 'comment' && entry.start <= end && entry.end >= start) entry.staysAsIs = true;
  }
}

function keepSmallest(entries: readonly (Growing | Comment)[], start: number, end: number): boolean {
  const holder = entries.find((entry) => entry.kind !== 'comment' && entry.start <= start && entry.end >= end);
  if (holder === undefined || holder.kind === 'comment') return false;
  const inner = holder.nodes.find(
    (node) =>
      isGroup(node) &&
      !isOnOneLine(node) &&
      node.open.image !== '' &&
      endOf(node.open) <= start &&
      end <= node.close.startOffset,
  );
  const isMarked = isGroup(inner) && keepSmallest(inner.entries as readonly (Growing | Comment)[], start, end);
  if (!isMarked) holder.staysAsIs = true;
  return true;
}

/**
 * A word that begins a line can begin a block, which one in the middle of a line cannot. Where it is not known what a
 * word is, and it may not come to stand first, the brackets around it stay as they are too.
 */
function keepOnItsLine(text: string, entry: Growing | Comment): void {
  if (entry.kind === 'comment') return;
  for (const node of entry.nodes) {
    if (!isGroup(node)) continue;
    for (const inner of node.entries as readonly (Growing | Comment)[]) {
      keepOnItsLine(text, inner);
      if (inner.kind !== 'comment' && inner.staysAsIs && startsAmidLine(text, inner)) entry.staysAsIs = true;
    }
  }
}

function startsAmidLine(text: string, { nodes, start }: Item): boolean {
  const [first] = nodes;
  const before = text.slice(text.lastIndexOf('\n', start - 1) + 1, start);
  return first !== undefined && !isGroup(first) && isA(first, t.Word) && before.trim() !== '';
}
