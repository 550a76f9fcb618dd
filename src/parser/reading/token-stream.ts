// Between the lexer and the parser: gives words their roles and makes all brackets balance, so that one slip costs
// one block and not the file. The parser after it never meets a bracket without its partner. The rules:
//  - `kind name {`, `kind "text" {` and `kind name extends` always close the open block, whatever is still open in it;
//  - so do `let name =`, `param name =` and `import "file"`;
//  - a closing bracket closes what was opened inside its pair and left open; without a pair it is left out;
//  - a word before `=` is a key, also one in quotes, so `a =` with nothing behind it does not swallow the next key.
// Whatever is added or left out gets a diagnostic.

import type { Diagnostic } from '../diagnostics/diagnostics.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import { blockKinds } from '../schema/schema.ts';
import type { SourceFile, Span } from '../source.ts';
import * as t from './tokens.ts';
import { endOf, inventToken, isA, retype, type Token } from './tokens.ts';

export interface ArrangedTokens {
  readonly tokens: Token[];
  readonly diagnostics: readonly Diagnostic[];
}

/** Deeper nesting than anyone writes; the parser and the checker recurse this deep and no deeper. */
const deepest = 40;

const closers = new Map([
  [t.OpenBrace, t.CloseBrace],
  [t.OpenBracket, t.CloseBracket],
  [t.OpenParen, t.CloseParen],
]);

interface Open {
  readonly opener: Token;
  /** For the braces of a block: the words before them. */
  readonly header: Span | undefined;
  /** Left out of the output because it lies too deep: so its closer is left out as well. */
  readonly dropped: boolean;
}

/** `inside` is true for the text between `${` and `}`, where no statement can begin. */
export function arrangeTokens(source: SourceFile, written: readonly Token[], inside = false): ArrangedTokens {
  const diagnostics: Diagnostic[] = [];
  const output: Token[] = [];
  const open: Open[] = [];
  const input = withoutUnknown(source, written, diagnostics);
  const spanOf = (from: Token, to = from): Span => ({ source, start: from.startOffset, end: endOf(to) });
  const lastEnd = () => {
    const last = output.at(-1);
    return last === undefined ? 0 : endOf(last);
  };

  const invent = (type: (typeof t)['CloseBrace']) => output.push(inventToken(type, lastEnd()));

  const leaveUnclosed = (entry: Open, next: Span | undefined) => {
    if (entry.dropped) return;
    // A brace that was missing itself has been complained about.
    if (entry.opener.image !== '') {
      diagnostics.push(problem.unclosed({ opener: spanOf(entry.opener), header: entry.header, next }));
    }
    invent(closers.get(entry.opener.tokenType) ?? t.CloseBrace);
  };

  const closeAll = (next: Span | undefined) => {
    for (const entry of open.splice(0).reverse()) leaveUnclosed(entry, next);
  };

  const openBracket = (token: Token, header: Span | undefined) => {
    const dropped = open.length >= deepest;
    if (dropped && open.length === deepest) diagnostics.push(problem.tooDeep(spanOf(token)));
    if (!dropped) output.push(token);
    open.push({ opener: token, header, dropped });
  };

  const closeBracket = (token: Token) => {
    const pair = open.findLastIndex((entry) => closers.get(entry.opener.tokenType) === token.tokenType);
    if (pair < 0) {
      diagnostics.push(problem.unopened(spanOf(token), token.image));
      return;
    }
    for (const entry of open.splice(pair + 1).reverse()) leaveUnclosed(entry, spanOf(token));
    if (open.pop()?.dropped === false) output.push(token);
  };

  for (let at = 0; at < input.length; at += 1) {
    const token = input[at] as Token;
    const header = inside ? undefined : headerAt(source, input, at, open.length);
    if (header !== undefined) {
      const headerSpan = spanOf(token, header.name ?? token);
      closeAll(headerSpan);
      output.push(retype(token, t.BlockWord));
      if (header.name !== undefined) output.push(header.name);
      if (header.badName) diagnostics.push(problem.badName(spanOf(header.name ?? token)));
      output.push(...header.extending);
      // `train raw = {` and `train raw:` are left without their `=` and `:`.
      const extra = isEquals(input[header.end]) ? input[header.end] : undefined;
      const end = extra === undefined ? header.end : header.end + 1;
      const brace = input[end];
      if (isA(brace, t.OpenBrace)) {
        if (extra !== undefined) diagnostics.push(problem.extraEquals(spanOf(extra)));
        openBracket(brace as Token, headerSpan);
        at = end;
      } else {
        diagnostics.push(problem.missingBrace(headerSpan, extra && spanOf(extra)));
        openBracket(inventToken(t.OpenBrace, lastEnd()), headerSpan);
        at = end - 1;
      }
    } else if (!inside && isStatementWord(input, at, open.length)) {
      closeAll(spanOf(token));
      output.push(retype(token, token.image === 'let' ? t.Let : token.image === 'param' ? t.Param : t.Import));
      if (token.image !== 'import') {
        // The name after `let` stays a plain word although `=` follows it.
        output.push(input[at + 1] as Token);
        at += 1;
      }
    } else if (closers.has(token.tokenType)) {
      openBracket(token, undefined);
    } else if (isA(token, t.CloseBrace) || isA(token, t.CloseBracket) || isA(token, t.CloseParen)) {
      closeBracket(token);
    } else {
      const isKey = isEquals(input[at + 1]) && (isA(token, t.Word) || isQuotedKey(input, at, open.length));
      output.push(isKey ? retype(token, t.Key) : token);
    }
  }
  closeAll(undefined);
  return { tokens: output, diagnostics };
}

/** One complaint for each run of characters that mean nothing here, and for each comment of another language. */
function withoutUnknown(source: SourceFile, written: readonly Token[], diagnostics: Diagnostic[]): Token[] {
  const kept: Token[] = [];
  let run: { start: number; end: number } | undefined;
  const report = () => {
    if (run !== undefined) diagnostics.push(problem.unexpectedCharacter({ source, ...run }));
    run = undefined;
  };
  for (const token of written) {
    if (isA(token, t.SlashStar)) {
      diagnostics.push(problem.slashStar({ source, start: token.startOffset, end: endOf(token) }));
    } else if (!isA(token, t.Unknown)) {
      report();
      kept.push(token);
    } else if (run !== undefined && run.end === token.startOffset) {
      run.end = endOf(token);
    } else {
      report();
      run = { start: token.startOffset, end: endOf(token) };
    }
  }
  report();
  return kept;
}

interface Header {
  readonly name: Token | undefined;
  readonly badName: boolean;
  /** `extends` and the name after it, or nothing. */
  readonly extending: readonly Token[];
  /** Where the `{` stands, or should. */
  readonly end: number;
}

const isEquals = (token: Token | undefined) => isA(token, t.EqualSign) || isA(token, t.Colon);

/** `"TE2.1*" = 0`: text that is taken as it is written, inside of braces, and no value of another key. */
function isQuotedKey(input: readonly Token[], at: number, depth: number): boolean {
  const token = input[at] as Token;
  const isPlain = (isA(token, t.QuotedText) || isA(token, t.RawText)) && !/[\\$]/.test(token.image);
  return isPlain && depth > 0 && !isEquals(input[at - 1]);
}

const isName = (token: Token | undefined) =>
  [t.Word, t.QuotedText, t.RawText, t.OpenText, t.OddQuotedText].some((type) => isA(token, type));

function headerAt(source: SourceFile, input: readonly Token[], at: number, depth: number): Header | undefined {
  const word = input[at] as Token;
  if (!isA(word, t.Word)) return undefined;
  // `let parts = { … }` is a definition, though `train raw = { … }` is a block with an "=" too many.
  if (isDefinition(input, at)) return undefined;
  const next = input[at + 1];
  const isKnown = isKindWord(word.image);
  const nameless: Header = { name: undefined, badName: false, extending: [], end: at + 1 };
  // `let x = locon { … }`: behind "=" stands a value, unless it is a whole header of a known kind.
  const isValue = isEquals(input[at - 1]);
  if (isA(next, t.OpenBrace)) return depth === 0 && !isValue ? nameless : undefined;
  if (isKnown && !isValue && (depth === 0 || isFirstOnLine(source, word))) {
    const end = endOfOddName(source, input, at);
    if (end !== undefined)
      return { ...nameless, name: joinTokens(source, input.slice(at + 1, end)), badName: true, end };
  }
  if (!isName(next)) return undefined;
  const { extending, end } = extendsAt(input, at + 2);
  const header: Header = { ...nameless, name: next, extending, end };
  const hasBrace = isA(input[end], t.OpenBrace) || (isEquals(input[end]) && isA(input[end + 1], t.OpenBrace));
  const isWhole = hasBrace || extending.length > 0;
  if (isWhole && (isKnown || (!isValue && (depth === 0 || isAlmostKind(word.image))))) return header;
  return isKnown && !isValue && depth === 0 && !isA(input[end], t.EqualSign) ? header : undefined;
}

function extendsAt(input: readonly Token[], at: number): { extending: readonly Token[]; end: number } {
  const word = input[at];
  const other = input[at + 1];
  if (!isA(word, t.Word) || word?.image !== 'extends' || !isA(other, t.Word)) return { extending: [], end: at };
  return { extending: [retype(word, t.Extends), other as Token], end: at + 2 };
}

/** `train my-hero {` or `train 2nd {`: a name that is no name, as far as the brace on the same line. */
function endOfOddName(source: SourceFile, input: readonly Token[], at: number): number | undefined {
  const word = input[at] as Token;
  for (let end = at + 1; end <= at + 8; end += 1) {
    const token = input[end];
    if (token === undefined || /[\r\n]/.test(source.text.slice(endOf(word), token.startOffset))) return undefined;
    if (isA(token, t.OpenBrace)) return end === at + 2 && isName(input[at + 1]) ? undefined : end;
    const isPart = isA(token, t.Word) || isA(token, t.Minus) || isNumeral(token);
    if (!isPart || token.image === 'extends') return undefined;
  }
  return undefined;
}

const isNumeral = (token: Token) =>
  [t.NumberNumeral, t.OddNumeral, t.SizeNumeral, t.OddSize, t.DurationNumeral, t.QuantityNumeral].some((type) =>
    isA(token, type),
  );

function joinTokens(source: SourceFile, parts: readonly Token[]): Token {
  const [first, last] = [parts[0] as Token, parts.at(-1) as Token];
  const whole = retype({ ...first }, t.Word);
  whole.image = source.text.slice(first.startOffset, endOf(last));
  return whole;
}

function isKindWord(word: string): boolean {
  return (blockKinds as readonly string[]).includes(word);
}

/** `trein raw {` inside an open block: more likely a misspelt block than an attribute without `=`. */
function isAlmostKind(word: string): boolean {
  return nearest(word, blockKinds) !== undefined;
}

function isFirstOnLine(source: SourceFile, token: Token): boolean {
  let start = token.startOffset;
  while (start > 0 && /[^\S\r\n]/.test(source.text[start - 1] as string)) start -= 1;
  return start === 0 || /[\r\n]/.test(source.text[start - 1] as string);
}

function isDefinition(input: readonly Token[], at: number): boolean {
  const word = input[at]?.image;
  return (word === 'let' || word === 'param') && isA(input[at + 1], t.Word) && isA(input[at + 2], t.EqualSign);
}

function isStatementWord(input: readonly Token[], at: number, depth: number): boolean {
  const [word, next, after] = [input[at] as Token, input[at + 1], input[at + 2]];
  if (!isA(word, t.Word)) return false;
  if (word.image === 'import') return isA(next, t.QuotedText) || isA(next, t.RawText);
  if (word.image !== 'let' && word.image !== 'param') return false;
  return isA(next, t.Word) && (depth === 0 || isA(after, t.EqualSign));
}
