// The words of the language: the chevrotain lexer. It never fails: what it cannot read becomes a token of its own,
// which a later phase complains about. Words are contextual, so there is one token for all of them here;
// `token-stream.ts` then tells keys, block kinds and plain words apart.

import { createToken, createTokenInstance, type IToken, Lexer, type TokenType } from 'chevrotain';

export type Token = IToken;

/** Letters of the common alphabets, and not the signs × and ÷ among them. Without the `u` flag, which would cost the lexer its first-character index. */
const letter =
  'A-Za-z_\\u00c0-\\u00d6\\u00d8-\\u00f6\\u00f8-\\u024f\\u0370-\\u03ff\\u0400-\\u04ff\\u3040-\\u30ff\\u3400-\\u9fff\\uac00-\\ud7a3';
const numeral = '(?:\\d[\\d_]*(?:\\.[\\d_]*)?|\\.\\d[\\d_]*)(?:[eE][+\\-\\u2212]?\\d+)?';

const token = (name: string, label: string, pattern: RegExp | undefined, more: object = {}): TokenType =>
  createToken({ name, label, pattern: pattern ?? Lexer.NA, ...more });

// Groups, so that the grammar can take any member and keep the order in which members were written.
export const Text = token('Text', 'text', undefined);
export const Numeral = token('Numeral', 'number', undefined);
export const Equals = token('Equals', '=', undefined);
export const Sign = token('Sign', '+ or -', undefined);
export const Factor = token('Factor', '* or /', undefined);

// Roles that a word can play.
export const BlockWord = token('BlockWord', 'block kind', undefined);
export const Key = token('Key', 'attribute name', undefined);
export const Let = token('Let', 'let', undefined);
export const Param = token('Param', 'param', undefined);
export const Import = token('Import', 'import', undefined);
export const Extends = token('Extends', 'extends', undefined);
export const Word = token('Word', 'word', new RegExp(`[${letter}][\\d${letter}]*(?:\\.[\\d${letter}]+)*`), {
  line_breaks: false,
});

/** Blanks of every width, none included: web pages are full of them, and nobody can see one. */
const Space = token('Space', 'space', /[ \t\r\n\u00a0\u2000-\u200b\u202f\u2060\u3000\ufeff]+/, {
  group: Lexer.SKIPPED,
  line_breaks: true,
});
const Comment = token('Comment', 'comment', /(?:#|\/\/)[^\r\n]*/, { group: 'comments' });

export const QuotedText = token('QuotedText', '"text"', /"(?:[^"\\\r\n]|\\[^\r\n])*"/, { categories: Text });
export const RawText = token('RawText', "'raw text'", /'[^'\r\n]*'/, { categories: Text });
/** A quote that nothing closes on its line: up to a brace that stands alone, so that a forgotten quote does not hide it. */
export const OpenText = token('OpenText', 'text without its closing quote', /["'](?:[^\S\r\n]*(?![{}](?!\S))\S)*/, {
  categories: Text,
});
/** Text in quotes of another kind: typographic ones, as copied from a web page, or backticks. */
export const OddQuotedText = token(
  'OddQuotedText',
  'text in other quotes',
  /[`\u00ab\u2018-\u201f\uff02][^\r\n"`\u00ab\u00bb\u2018-\u201f\uff02]*["`\u00bb\u2018-\u201f\uff02]/,
  { categories: Text },
);
/** A path that someone forgot to quote: after `=` it can be nothing else. */
export const BareText = createToken({
  name: 'BareText',
  label: 'text without quotes',
  pattern: matchBareText,
  start_chars_hint: ['/', '.', '~', ...'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz'],
  line_breaks: false,
  categories: Text,
});

/** A size with blanks in it, or another cross: `1024 x 768`, `1024×768`. */
export const OddSize = token(
  'OddSize',
  'size with blanks in it',
  /\d+(?:[ \t]*[X\u00d7]|[ \t]+x|x(?=[ \t]))[ \t]*\d+(?![\w.])/,
  {
    categories: Numeral,
  },
);
export const SizeNumeral = token('SizeNumeral', 'size', /[1-9]\d*x[1-9]\d*(?![\w.])/, { categories: Numeral });
export const DurationNumeral = token(
  'DurationNumeral',
  'duration',
  new RegExp(`(?:${numeral}h(?:${numeral}min)?(?:${numeral}s)?|${numeral}min(?:${numeral}s)?|${numeral}s)(?![\\w.])`),
  { categories: Numeral },
);
/** `1024px`, `20MiB`, `12%`. */
export const QuantityNumeral = token(
  'QuantityNumeral',
  'number with a unit',
  new RegExp(`${numeral}(?:%(?!%)|(?:px|[kKMGT]i?B)(?![\\w.%]))`),
  { categories: Numeral },
);
export const NumberNumeral = token('NumberNumeral', 'number', new RegExp(`${numeral}(?![\\w.])`), {
  categories: Numeral,
});
/** A number with something behind it that is no unit: `8apples`, `1.2.3`. */
export const OddNumeral = token('OddNumeral', 'number with an unknown unit', /\d[\w.]*/, { categories: Numeral });

export const EqualSign = token('EqualSign', '=', /=/, { categories: Equals });
export const Colon = token('Colon', ':', /:/, { categories: Equals });
export const Power = token('Power', '**', /\*\*/);
export const Plus = token('Plus', '+', /\+/, { categories: Sign });
export const Minus = token('Minus', '-', /[-\u2212]/, { categories: Sign });
const Times = token('Times', '*', /\*/, { categories: Factor });
const Divide = token('Divide', '/', /\//, { categories: Factor });
export const Comma = token('Comma', ',', /,/);
export const At = token('At', '@', /@/);
export const OpenBrace = token('OpenBrace', '{', /\{/);
export const CloseBrace = token('CloseBrace', '}', /\}/);
export const OpenBracket = token('OpenBracket', '[', /\[/);
export const CloseBracket = token('CloseBracket', ']', /\]/);
export const OpenParen = token('OpenParen', '(', /\(/);
export const CloseParen = token('CloseParen', ')', /\)/);
/** No comment here, though it is one in many languages: reported and left out as a whole. */
export const SlashStar = createToken({
  name: 'SlashStar',
  label: 'comment between /* and */',
  pattern: matchSlashStar,
  start_chars_hint: ['/'],
  line_breaks: true,
});
/** Anything else: it is reported and left out before parsing. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: no character may stop the lexer, those included.
export const Unknown = token('Unknown', 'unknown character', /[\u0000-\uffff]/, { line_breaks: false });

/** The order decides: the first that matches wins. */
export const lexedTokens: TokenType[] = [
  Space,
  Comment,
  BareText,
  SlashStar,
  Word,
  QuotedText,
  RawText,
  OpenText,
  OddQuotedText,
  OddSize,
  SizeNumeral,
  DurationNumeral,
  QuantityNumeral,
  NumberNumeral,
  OddNumeral,
  EqualSign,
  Colon,
  Power,
  Plus,
  Minus,
  Times,
  Divide,
  Comma,
  At,
  OpenBrace,
  CloseBrace,
  OpenBracket,
  CloseBracket,
  OpenParen,
  CloseParen,
  Unknown,
];

export const allTokens: TokenType[] = [
  ...[Text, Numeral, Equals, Sign, Factor],
  ...[BlockWord, Key, Let, Param, Import, Extends],
  ...lexedTokens,
];

/** A bare path begins right behind `=` or `:` and a blank. */
function matchBareText(text: string, offset: number): [string] | null {
  let before = offset - 1;
  while (before >= 0 && (text[before] === ' ' || text[before] === '\t')) before -= 1;
  // First, since it is rarely so, and the rest looks far ahead.
  if (text[before] !== '=' && text[before] !== ':') return null;
  bareText.lastIndex = offset;
  const found = bareText.exec(text);
  return found === null ? null : [found[0]];
}

/** As far as a bare path goes: a blank belongs to it where more of the path follows. */
const rest = '[^\\s,;{}[\\]"\']';
const starts = [
  // `/x`, `~/`, `./`, `../`, `.txt` and `C:\` can be nothing else.
  String.raw`(?:\/(?!\/)|~[\\/]|\.\.?[\\/]|\.(?=[A-Za-z])|[A-Za-z]:[\\/])`,
  // `models/x.safetensors`, `images\cats` and `images/**`, but not `a/b`, which is arithmetic.
  String.raw`[A-Za-z_][\w-]*(?=\\|(?:[\\/][\w*-]+)*(?:\/[\w-]+\.[A-Za-z]|\/\*))`,
  // `x.safetensors"`, with its closing quote alone.
  String.raw`[A-Za-z_][\w./-]*(?=")`,
];
const bareText = new RegExp(`(?:${starts.join('|')})${rest}*(?: (?!//|#)(?=[^\\s=,;{}]*[\\\\/])${rest}+)*"?`, 'y');

/** Not inside of a pattern: `images/**\/*.png`. */
function matchSlashStar(text: string, offset: number): [string] | null {
  if (text[offset + 1] !== '*' || /[^\s,;{}[\]()]/.test(text[offset - 1] ?? ' ')) return null;
  const end = text.indexOf('*/', offset + 2);
  return [text.slice(offset, end < 0 ? text.length : end + 2)];
}

let lexer: Lexer | undefined;

/** `validate` is for the test of the tokens themselves; it costs time that a user's run need not spend. */
export function createLexer(validate: boolean): Lexer {
  return new Lexer(allTokens, {
    positionTracking: 'onlyOffset',
    ensureOptimizations: true,
    skipValidations: !validate,
    recoveryEnabled: true,
  });
}

export interface Lexed {
  /** In order, without blanks and comments. */
  readonly tokens: Token[];
  readonly comments: readonly Token[];
}

export function lex(text: string): Lexed {
  lexer ??= createLexer(false);
  const { tokens, groups } = lexer.tokenize(text);
  return { tokens, comments: groups.comments ?? [] };
}

/** All tokens of a text, in order, without blanks and comments. `offset` is where the text begins in its file. */
export function tokenize(text: string, offset = 0): Token[] {
  const { tokens } = lex(text);
  if (offset === 0) return tokens;
  for (const token of tokens) token.startOffset += offset;
  return tokens;
}

/** Whether something may be called so. */
export function isName(text: string): boolean {
  return new RegExp(`^[${letter}][\\d${letter}]*$`).test(text);
}

export function isA(token: Token | undefined, type: TokenType): boolean {
  return token?.tokenType === type;
}

/** Where a token ends: the offset of what follows it. */
export function endOf(token: Token): number {
  return token.startOffset + token.image.length;
}

/** Gives a word the role that its place asks for. */
export function retype(token: Token, type: TokenType): Token {
  token.tokenType = type;
  token.tokenTypeIdx = type.tokenTypeIdx as number;
  return token;
}

/** A token that was not written, standing just before `offset` with no width. */
export function inventToken(type: TokenType, offset: number): Token {
  const none = Number.NaN;
  return createTokenInstance(type, '', offset, none, none, none, none, none);
}

/** A token as the printed grammar shows it. */
export interface TokenFact {
  readonly name: string;
  readonly label: string;
  /** The regular expression; `undefined` for tokens that get their role from their place. */
  readonly pattern: string | undefined;
  readonly categories: readonly string[];
}

export function tokenFacts(): readonly TokenFact[] {
  return allTokens.map(({ name, LABEL: label = name, PATTERN, CATEGORIES = [] }) => {
    const pattern = PATTERN instanceof RegExp && PATTERN !== Lexer.NA ? PATTERN.source : undefined;
    return { name, label, pattern, categories: CATEGORIES.map((category) => category.name) };
  });
}
