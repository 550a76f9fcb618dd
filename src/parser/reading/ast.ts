// What was written, without yet asking what it means. Nothing is lost but blanks and comments, and a piece that could
// not be read is `broken`: it has been complained about already, and no later phase complains about it again.

import type { SourceFile, Span } from '../source.ts';
import type { Quantity } from './literals.ts';

export interface Program {
  readonly source: SourceFile;
  readonly statements: readonly Statement[];
}

export type Statement = BlockStatement | Definition | ImportStatement;

export interface Name {
  readonly text: string;
  readonly span: Span;
}

export interface BlockStatement {
  readonly kind: 'block';
  readonly blockKind: Name;
  /** `undefined`: the name is missing, which has been complained about. */
  readonly name: Name | TextExpression | undefined;
  readonly extending: Name | undefined;
  readonly attributes: readonly Attribute[];
  /** The kind and the name. */
  readonly header: Span;
  /** The braces and all between them. */
  readonly body: Span;
}

/** `let name = value` or `param name = value`. */
export interface Definition {
  readonly kind: 'let' | 'param';
  readonly name: Name;
  /** `undefined` for a param whose value has to come from the command line. */
  readonly value: Expression | undefined;
}

/** `import "file.lora"`, `import "file.lora" as name`. */
export interface ImportStatement {
  readonly kind: 'import';
  readonly span: Span;
  /** What stands between the quotes; `undefined` where it is no path, which has been complained about. */
  readonly path: Name | undefined;
  /** What stands before the names of the file; `undefined`: nothing. */
  readonly alias: Name | undefined;
}

export interface Attribute {
  readonly name: Name;
  readonly value: Expression;
}

export type Expression =
  | NumberExpression
  | { readonly kind: 'size'; readonly span: Span; readonly width: number; readonly height: number }
  | { readonly kind: 'duration'; readonly span: Span; readonly seconds: number }
  | QuantityExpression
  | TextExpression
  | WordExpression
  | ListExpression
  | RecordExpression
  /** `-x`, `a + b`. */
  | { readonly kind: 'negate'; readonly span: Span; readonly of: Expression }
  | BinaryExpression
  | ChoiceExpression
  | VariantExpression
  | CallExpression
  | { readonly kind: 'broken'; readonly span: Span };

export interface NumberExpression {
  readonly kind: 'number';
  readonly span: Span;
  readonly value: number;
}

/** `1024px`, `20MiB`, `12%`. */
export interface QuantityExpression extends Quantity {
  readonly kind: 'quantity';
  readonly span: Span;
}

export interface TextExpression {
  readonly kind: 'text';
  readonly span: Span;
  /** Pieces of text, and expressions from `${…}` between them. */
  readonly parts: readonly (string | Expression)[];
}

/** A bare word: what it means depends on the attribute. `true` and `false` are words too. */
export interface WordExpression {
  readonly kind: 'word';
  readonly span: Span;
  readonly text: string;
}

/** `[a, b]`, or with a word in front `sweep [a, b]`. */
export interface ListExpression {
  readonly kind: 'list';
  readonly span: Span;
  readonly tag: Name | undefined;
  readonly items: readonly Expression[];
}

/** `{ a = 1 }`, or with a tag `SAVEUS { a = 1 }`, or with a word in front `sweep { a = 1 }`. */
export interface RecordExpression {
  readonly kind: 'record';
  readonly span: Span;
  readonly tag: Name | undefined;
  readonly entries: readonly Attribute[];
}

export type Operator = '+' | '-' | '*' | '/' | '**';

/** `raw@40`, `raw@best`, `raw@ema(0.9)`. */
export interface ChoiceExpression {
  readonly kind: 'choice';
  readonly span: Span;
  readonly of: Name;
  /** `raw[dim=8]@40`: of which variant. Empty for all. */
  readonly picks: readonly Attribute[];
  /** A number, or a word; `undefined` where it could not be read, which has been complained about. */
  readonly which: Expression | undefined;
  /** What stands in the parentheses behind a word, if there are any. */
  readonly given: readonly Expression[] | undefined;
}

/** `small[thr=-3.55]`: the variants of a block that have these values. */
export interface VariantExpression {
  readonly kind: 'variant';
  readonly span: Span;
  readonly of: Name;
  readonly picks: readonly Attribute[];
}

/** `env("HOME")`. */
export interface CallExpression {
  readonly kind: 'call';
  readonly span: Span;
  readonly name: Name;
  readonly given: readonly Expression[];
}

export interface BinaryExpression {
  readonly kind: 'binary';
  readonly span: Span;
  readonly operator: Operator;
  readonly left: Expression;
  readonly right: Expression;
}

/** The expressions that an expression is put together from, in the order of the text. */
export function partsOf(value: Expression): readonly Expression[] {
  switch (value.kind) {
    case 'list':
      return value.items;
    case 'record':
      return value.entries.map((entry) => entry.value);
    case 'text':
      return value.parts.filter((part) => typeof part !== 'string');
    case 'negate':
      return [value.of];
    case 'binary':
      return [value.left, value.right];
    case 'call':
      return value.given;
    case 'choice':
      return [...value.picks.map((pick) => pick.value), ...(value.given ?? [])];
    case 'variant':
      return value.picks.map((pick) => pick.value);
    default:
      return [];
  }
}
