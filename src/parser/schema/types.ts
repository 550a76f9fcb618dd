// The words that the schema table is written in: kinds of values, and rows that say what an attribute is.
// Each constructor carries the TypeScript type of its values, so that a checked program is typed by the table alone.

import type {
  Arguments,
  Duration,
  ProgramPath,
  Reference,
  ScheduleExpression,
  Size,
  Steps,
  WeightedReference,
} from '../values.ts';

/** What an attribute accepts. The second half exists only for the compiler: the type of the checked value. */
export type Type<T = unknown> = TypeShape & { readonly __value?: T };

export type TypeShape =
  | NumberType
  | { readonly kind: 'text'; readonly what: 'text' | 'path' | 'mask' | 'color' }
  | { readonly kind: 'boolean' }
  | { readonly kind: 'size'; readonly min: number; readonly max: number }
  | { readonly kind: 'duration' }
  | { readonly kind: 'steps' }
  /** A count, or a share of all steps: below 1 it is the share. Percent in quotes are one too. */
  | { readonly kind: 'steps-or-share' }
  | { readonly kind: 'words'; readonly words: readonly string[] }
  | { readonly kind: 'reference'; readonly to: readonly string[] }
  | ListType
  /** A list of references, each with weight 1, or a record from names to weights. */
  | { readonly kind: 'weighted-references'; readonly to: readonly string[] }
  | { readonly kind: 'either'; readonly of: readonly Type[] }
  | { readonly kind: 'record'; readonly fields: Fields }
  | { readonly kind: 'tagged'; readonly variants: { readonly [tag: string]: Fields } }
  /** A block of the network, or a group of them: `OUT01`, `MID`. */
  | { readonly kind: 'network-block' }
  /**
   * A record from blocks of the network to numbers: weights, unless `of` says otherwise. `layers`: keys may be patterns
   * of layers' names as well.
   */
  | { readonly kind: 'block-numbers'; readonly of: NumberType; readonly layers: boolean }
  /** A record of any names, with plain values. */
  | { readonly kind: 'arguments' }
  /** A record of any names, at least one, with values of one type. */
  | { readonly kind: 'named'; readonly of: Type }
  | { readonly kind: 'schedule' };

export interface ListType {
  readonly kind: 'list';
  readonly of: Type;
  /** `undefined`: any. */
  readonly length: number | undefined;
  /** At least one item, and none twice. */
  readonly isSet: boolean;
}

export interface NumberType {
  readonly kind: 'number';
  readonly integer: boolean;
  readonly min: number | undefined;
  readonly max: number | undefined;
  /** The value must lie above `min`, below `max`: the ends themselves are not allowed. */
  readonly openMin: boolean;
  readonly openMax: boolean;
  readonly multipleOf: number | undefined;
  /** What it counts, where a program may say so: `1024px`, `20MB`. */
  readonly unit: 'px' | 'MiB' | undefined;
}

export function isInRange(type: NumberType, value: number): boolean {
  const { integer, min, max, openMin, openMax, multipleOf } = type;
  if (integer && !Number.isInteger(value)) return false;
  if (min !== undefined && (openMin ? value <= min : value < min)) return false;
  if (max !== undefined && (openMax ? value >= max : value > max)) return false;
  return multipleOf === undefined || value % multipleOf === 0;
}

/** One row of the table: everything that is known about one attribute. */
export interface Setting<T = unknown> {
  readonly type: Type;
  /** What the attribute is when it is not written. `undefined` with `required` false: nothing. */
  readonly default: T | undefined;
  readonly required: boolean;
  readonly doc: string;
  /** What other trainers call it. Understood in hints, never accepted silently. */
  readonly synonyms: readonly string[];
  /** Whether another value can make another result. */
  readonly fingerprint: boolean;
}

export interface Fields {
  readonly [name: string]: Setting;
}

export type ValueOf<S> = S extends Setting<infer T> ? T : never;
export type FieldValues<F extends Fields> = { readonly [K in keyof F]: ValueOf<F[K]> };

interface Extra {
  readonly synonyms?: readonly string[];
  readonly fingerprint?: boolean;
}

export function required<T>(type: Type<T>, doc: string, extra: Extra = {}): Setting<T> {
  return { type, default: undefined, required: true, doc, synonyms: [], fingerprint: true, ...extra };
}

/** May be absent, and then means nothing, or `default` where other attributes leave room for it. */
export function optional<T>(
  type: Type<T>,
  doc: string,
  extra: Extra & { readonly default?: NoInfer<T> } = {},
): Setting<T | undefined> {
  return { type, default: undefined, required: false, doc, synonyms: [], fingerprint: true, ...extra };
}

export function preset<T>(type: Type<T>, value: NoInfer<T>, doc: string, extra: Extra = {}): Setting<T> {
  return { type, default: value, required: false, doc, synonyms: [], fingerprint: true, ...extra };
}

type Range = Partial<Omit<NumberType, 'kind' | 'integer'>>;

const anyNumber: NumberType = {
  kind: 'number',
  integer: false,
  min: undefined,
  max: undefined,
  openMin: false,
  openMax: false,
  multipleOf: undefined,
  unit: undefined,
};

type NumberSetting = NumberType & { readonly __value?: number };

export function number(range: Range = {}): NumberSetting {
  return { ...anyNumber, ...range };
}

export function integer(range: Range = {}): NumberSetting {
  return { ...anyNumber, integer: true, ...range };
}

/** Above zero, and not zero itself. */
export function positive(): NumberSetting {
  return number({ min: 0, openMin: true });
}

export function text(what: 'path'): Type<ProgramPath>;
export function text(what?: 'text' | 'mask' | 'color'): Type<string>;
export function text(what: 'text' | 'path' | 'mask' | 'color' = 'text'): Type<string | ProgramPath> {
  return { kind: 'text', what };
}

export function boolean(): Type<boolean> {
  return { kind: 'boolean' };
}

export function size(range: { readonly min: number; readonly max: number }): Type<Size> {
  return { kind: 'size', ...range };
}

export function duration(): Type<Duration> {
  return { kind: 'duration' };
}

export function steps(): Type<Steps> {
  return { kind: 'steps' };
}

export function stepsOrShare(): Type<number> {
  return { kind: 'steps-or-share' };
}

export function words<const W extends string>(...list: readonly W[]): Type<W> {
  return { kind: 'words', words: list };
}

export function reference(...to: readonly string[]): Type<Reference> {
  return { kind: 'reference', to };
}

export function weightedReferences(...to: readonly string[]): Type<readonly WeightedReference[]> {
  return { kind: 'weighted-references', to };
}

export function list<T>(of: Type<T>): Type<readonly T[]> {
  return { kind: 'list', of, length: undefined, isSet: false };
}

/** At least one, and none twice. */
export function listOfDifferent<T>(of: Type<T>): Type<readonly T[]> {
  return { kind: 'list', of, length: undefined, isSet: true };
}

export function pair<T>(of: Type<T>): Type<readonly [T, T]> {
  return { kind: 'list', of, length: 2, isSet: false };
}

export function triple<T>(of: Type<T>): Type<readonly [T, T, T]> {
  return { kind: 'list', of, length: 3, isSet: false };
}

/** What is passed on to someone who knows the names. */
export function freeArguments(): Type<Arguments> {
  return { kind: 'arguments' };
}

/** By names that the program gives. */
export function named<T>(of: Type<T>): Type<{ readonly [name: string]: T }> {
  return { kind: 'named', of };
}

export function either<A, B>(one: Type<A>, other: Type<B>): Type<A | B> {
  return { kind: 'either', of: [one, other] };
}

export function record<F extends Fields>(fields: F): Type<FieldValues<F>> & { readonly fields: F } {
  return { kind: 'record', fields };
}

type Variants = { readonly [tag: string]: Fields };
type TaggedValue<V extends Variants> = {
  readonly [K in keyof V]: { readonly kind: K } & FieldValues<V[K]>;
}[keyof V];

export function tagged<V extends Variants>(variants: V): Type<TaggedValue<V>> & { readonly variants: V } {
  return { kind: 'tagged', variants };
}

export function networkBlock(): Type<string> {
  return { kind: 'network-block' };
}

export function blockNumbers(of: NumberType = number()): Type<{ readonly [block: string]: number }> {
  return { kind: 'block-numbers', of, layers: false };
}

/** By block, or by patterns of layers' names as LoRA files have them. */
export function layerNumbers(of: NumberType): Type<{ readonly [blockOrPattern: string]: number }> {
  return { kind: 'block-numbers', of, layers: true };
}

export function schedule(): Type<ScheduleExpression> {
  return { kind: 'schedule' };
}

/** Every field at its default: what an empty record stands for. Only for fields of which none is required. */
export function defaultsOf<F extends Fields>(fields: F): FieldValues<F> {
  const entries = Object.entries(fields).map(([name, field]) => [name, field.default]);
  return Object.fromEntries(entries) as FieldValues<F>;
}

/** One variant of a tagged record, every field at its default. */
export function variantOf<V extends Variants, const K extends keyof V & string>(
  type: { readonly variants: V },
  tag: K,
): { readonly kind: K } & FieldValues<V[K]> {
  return { kind: tag, ...defaultsOf(type.variants[tag] as V[K]) };
}
