// What may stand at a place in a program that is being written: a statement, a setting, a value of some type. Worked out
// from the arranged tokens, whose brackets balance whatever is missing, and from the schema table.

import * as t from '../reading/tokens.ts';
import { endOf, isA, type Token } from '../reading/tokens.ts';
import { fieldsOf, isBlockKind } from '../schema/schema.ts';
import type { Fields, Setting, Type } from '../schema/types.ts';
import type { SourceFile, Span } from '../source.ts';
import { typesIn } from './symbols.ts';

/** `word`: what is there already of the word that is being written, from its first letter to its last. */
export type Spot = { readonly word: Span } & (
  | { readonly kind: 'statement' }
  /** A setting, in the braces of a block or of a record. */
  | {
      readonly kind: 'setting';
      readonly fields: Fields;
      readonly written: ReadonlySet<string>;
      /** Whether "=" stands behind it already. */
      readonly hasEquals: boolean;
      readonly blockKind: string;
      readonly path: readonly string[];
    }
  /** The name of a LoRA or of a block of the network, in a record of weights. */
  | { readonly kind: 'key'; readonly type: Type; readonly written: ReadonlySet<string>; readonly hasEquals: boolean }
  | { readonly kind: 'value'; readonly type: Type; readonly setting: Setting; readonly path: readonly string[] }
  /** A value of which nobody says what it should be: of a `let`, or in `${…}`. */
  | { readonly kind: 'anything'; readonly inText: boolean }
  /** Behind `raw@`. */
  | { readonly kind: 'choice'; readonly of: string }
  /** Behind `extends`. */
  | { readonly kind: 'other'; readonly blockKind: string }
);

interface Tokens {
  readonly source: SourceFile;
  readonly tokens: readonly Token[];
  readonly comments: readonly Token[];
}

/** `undefined` where nothing can be proposed: in comments and texts, and where a new name is being made up. */
export function spotAt({ source, tokens, comments }: Tokens, offset: number): Spot | undefined {
  const comment = comments[lastBefore(comments, offset)];
  if (comment !== undefined && offset <= endOf(comment)) return undefined;
  let at = lastBefore(tokens, offset);
  const current = tokens[at];
  const isInside = current !== undefined && offset <= endOf(current) && current.image !== '';
  if (isInside && isText(current))
    return offset < endOf(current) || isOpen(current) ? inText(source, current, offset) : undefined;
  const isWord = isInside && /^[\p{L}_]/u.test(current.image);
  if (isInside && !isWord && isA(current, t.NumberNumeral)) return undefined;
  const word = isWord
    ? { source, start: current.startOffset, end: endOf(current) }
    : { source, start: offset, end: offset };
  if (isWord) at -= 1;
  return spotBehind(tokens, at, word);
}

/** What may stand behind the token at an index. */
function spotBehind(tokens: readonly Token[], at: number, word: Span): Spot | undefined {
  const { source } = word;
  const before = skipInvented(tokens, at);
  const previous = tokens[before];
  // `train raw`, and no brace yet: on the same line a name may still be growing, on the next one something else begins.
  if (isInvented(previous)) {
    const since = source.text.slice(previous?.startOffset, word.start);
    return since.includes('\n') ? { kind: 'statement', word } : undefined;
  }
  if (isA(previous, t.At)) {
    const of = tokens[before - 1]?.image;
    return of === undefined ? undefined : { kind: 'choice', word, of };
  }
  const open = openersBefore(tokens, before);
  const inner = open.at(-1);
  if (isA(previous, t.Extends)) {
    const kind = tokens.slice(0, before).findLast((token) => isA(token, t.BlockWord))?.image;
    return kind === undefined ? undefined : { kind: 'other', word, blockKind: kind };
  }
  if (inner === undefined) {
    if (isEquals(previous) || continuesValue(previous)) return { kind: 'anything', word, inText: false };
    const isName = [t.BlockWord, t.Let, t.Param, t.Import].some((type) => isA(previous, type));
    const isOnLine = previous !== undefined && !source.text.slice(endOf(previous), word.start).includes('\n');
    return isName || (isOnLine && isA(previous, t.Word)) ? undefined : { kind: 'statement', word };
  }
  const place = placeOf(tokens, open);
  if (place === undefined)
    return isEquals(previous) || !isA(tokens[inner], t.OpenBrace)
      ? { kind: 'anything', word, inText: false }
      : undefined;
  const isBrace = isA(tokens[inner], t.OpenBrace);
  if (isBrace && isEquals(previous)) return valueSpot(place, tokens[before - 1], word);
  if (isBrace && continuesValue(previous)) return valueSpot(place, keyBefore(tokens, before, inner), word);
  if (!isBrace) {
    const { setting } = place;
    const tag = isA(tokens[inner - 1], t.Word) ? tokens[inner - 1]?.image : undefined;
    // The values of a sweep are those of the setting; behind the name of a block stands which variant of it.
    if (tag === 'sweep' && setting !== undefined) {
      return { kind: 'value', word, setting, path: place.path, type: setting.type };
    }
    if (tag !== undefined) return undefined;
    if (setting === undefined || place.type === undefined) return { kind: 'anything', word, inText: false };
    const items = typesIn(place.type, 'list')[0];
    return { kind: 'value', word, setting, path: place.path, type: items?.kind === 'list' ? items.of : place.type };
  }
  const written = keysIn(tokens, inner, word);
  const next = tokens[firstFrom(tokens, word.end)];
  const hasEquals = isEquals(next);
  if (place.fields !== undefined) {
    const { fields, blockKind, path } = place;
    return { kind: 'setting', word, fields, written, hasEquals, blockKind, path };
  }
  const keyed =
    place.type && typesIn(place.type).find(({ kind }) => kind === 'weighted-references' || kind === 'block-numbers');
  return keyed && { kind: 'key', word, type: keyed, written, hasEquals };
}

interface OpenPlace {
  readonly blockKind: string;
  readonly path: readonly string[];
  /** What may be set in these braces; `undefined` in a list, and in a record of weights. */
  readonly fields: Fields | undefined;
  /** The type and the setting that the innermost bracket is a value of; `undefined` for the braces of a block. */
  readonly type: Type | undefined;
  readonly setting: Setting | undefined;
}

/** From the block inwards, as far as the schema table knows the way. */
function placeOf(tokens: readonly Token[], open: readonly number[]): OpenPlace | undefined {
  const [outer, ...inner] = open;
  const kind = outer === undefined ? undefined : blockWordBefore(tokens, outer);
  if (kind === undefined || !isBlockKind(kind)) return undefined;
  let place: OpenPlace = { blockKind: kind, path: [], fields: fieldsOf(kind), type: undefined, setting: undefined };
  for (const opener of inner) {
    const isTagged = isA(tokens[opener - 1], t.Word) && isEquals(tokens[opener - 2]);
    const tag = isTagged ? tokens[opener - 1]?.image : undefined;
    const equals = opener - (isTagged ? 2 : 1);
    const key = isEquals(tokens[equals]) ? keyText(tokens[equals - 1]) : undefined;
    // Without a key it is a bracket inside of the same value: a list in a list, or arithmetic.
    const setting: Setting | undefined = key === undefined ? place.setting : place.fields?.[key];
    if (setting === undefined) return undefined;
    const type = key === undefined ? place.type : setting.type;
    const path = key === undefined ? place.path : [...place.path, key];
    const fields = isA(tokens[opener], t.OpenBrace) && type ? fieldsIn(type, tag) : undefined;
    place = { blockKind: kind, path, fields, type, setting };
  }
  return place;
}

function fieldsIn(type: Type, tag: string | undefined): Fields | undefined {
  for (const one of typesIn(type)) {
    if (one.kind === 'record' && tag === undefined) return one.fields;
    if (one.kind === 'tagged' && tag !== undefined && Object.hasOwn(one.variants, tag)) return one.variants[tag];
  }
  return undefined;
}

function valueSpot({ fields, path }: OpenPlace, key: Token | undefined, word: Span): Spot {
  const name = keyText(key);
  const setting = name !== undefined && fields && Object.hasOwn(fields, name) ? fields[name] : undefined;
  if (setting !== undefined)
    return { kind: 'value', word, type: setting.type, setting, path: [...path, name as string] };
  return { kind: 'anything', word, inText: false };
}

/** `${…}` in a text is a place for a name. */
function inText(source: SourceFile, token: Token, offset: number): Spot | undefined {
  if (isA(token, t.RawText)) return undefined;
  const written = source.text.slice(token.startOffset, offset);
  const open = written.lastIndexOf('${');
  if (open < 0 || written.indexOf('}', open) >= 0 || written[open - 1] === '\\') return undefined;
  const start = offset - (/[\p{L}\d_.]*$/u.exec(written)?.[0].length ?? 0);
  const rest = /^[\p{L}\d_.]*/u.exec(source.text.slice(offset, offset + 200))?.[0].length ?? 0;
  return { kind: 'anything', word: { source, start, end: offset + rest }, inText: true };
}

/** The brackets that are open behind the token at an index, outermost first. */
function openersBefore(tokens: readonly Token[], last: number): readonly number[] {
  const open: number[] = [];
  for (let at = 0; at <= last; at += 1) {
    const token = tokens[at] as Token;
    if (isOpener(token)) open.push(at);
    else if (isCloser(token)) open.pop();
  }
  return open;
}

/** The closers that were made up where a bracket was left open do not close it for someone who goes on writing. */
function skipInvented(tokens: readonly Token[], last: number): number {
  let at = last;
  while (at >= 0 && isInvented(tokens[at]) && isCloser(tokens[at] as Token)) at -= 1;
  return at;
}

const isInvented = (token: Token | undefined) => token?.image === '';

/** The names before "=" in the braces that open at an index, but for the one at `word`. */
function keysIn(tokens: readonly Token[], opener: number, word: Span): ReadonlySet<string> {
  const keys = new Set<string>();
  let depth = 0;
  for (let at = opener + 1; at < tokens.length && depth >= 0; at += 1) {
    const token = tokens[at] as Token;
    if (isOpener(token)) depth += 1;
    else if (isCloser(token)) depth -= 1;
    else if (depth === 0 && isA(token, t.Key) && token.startOffset !== word.start) keys.add(keyText(token) as string);
  }
  return keys;
}

function keyBefore(tokens: readonly Token[], last: number, opener: number): Token | undefined {
  let depth = 0;
  for (let at = last; at > opener; at -= 1) {
    const token = tokens[at] as Token;
    if (isCloser(token)) depth += 1;
    else if (isOpener(token)) depth -= 1;
    else if (depth === 0 && isA(token, t.Key)) return token;
  }
  return undefined;
}

function blockWordBefore(tokens: readonly Token[], brace: number): string | undefined {
  for (let at = brace - 1; at >= 0 && at >= brace - 4; at -= 1) {
    if (isA(tokens[at], t.BlockWord)) return tokens[at]?.image;
  }
  return undefined;
}

function keyText(token: Token | undefined): string | undefined {
  if (token === undefined) return undefined;
  return /^["']/.test(token.image) ? token.image.slice(1, -1) : token.image;
}

const isEquals = (token: Token | undefined) => isA(token, t.EqualSign) || isA(token, t.Colon);

/** Behind an operator the value goes on. */
const continuesValue = (token: Token | undefined) =>
  (token !== undefined && [t.Plus, t.Minus, t.Power].some((type) => isA(token, type))) ||
  /^[*/]$/.test(token?.image ?? '');

const isOpener = (token: Token) => [t.OpenBrace, t.OpenBracket, t.OpenParen].some((type) => isA(token, type));
const isCloser = (token: Token) => [t.CloseBrace, t.CloseBracket, t.CloseParen].some((type) => isA(token, type));
const isText = (token: Token) =>
  [t.QuotedText, t.RawText, t.OpenText, t.OddQuotedText, t.BareText].some((type) => isA(token, type));
const isOpen = (token: Token) => isA(token, t.OpenText);

/** The last token that begins before an offset. */
function lastBefore(tokens: readonly Token[], offset: number): number {
  return firstFrom(tokens, offset) - 1;
}

/** The first token that begins at an offset or behind it. */
function firstFrom(tokens: readonly Token[], offset: number): number {
  let [low, high] = [0, tokens.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((tokens[middle] as Token).startOffset < offset) low = middle + 1;
    else high = middle;
  }
  return low;
}
