// One value against the type that its attribute has in the schema table. Gives the value, or `undefined` after
// complaining. Names that stand for values are replaced by what they stand for; a mistake is shown where the value is
// written, and where a name stands for a value of the wrong kind, at the name.

import { blocksNamed, isLayerPattern } from '../blocks.ts';
import { enumerate, needs, writeValue } from '../diagnostics/describe.ts';
import * as problem from '../diagnostics/diagnostics.ts';
import { nearest } from '../diagnostics/suggest.ts';
import type { Attribute, Expression, Name } from '../reading/ast.ts';
import { integer, isInRange, type ListType, type Type } from '../schema/types.ts';
import { type Span, sourceText } from '../source.ts';
import { unreachable } from '../unreachable.ts';
import type { Size } from '../values.ts';
import { checkArguments } from './check-arguments.ts';
import { type CheckedFields, checkFields } from './check-fields.ts';
import { checkNumber, checkSchedule, checkStepsOrShare } from './check-number.ts';
import { checkReference, checkWeightedReferences, reportTwice } from './check-references.ts';
import { checkText } from './check-text.ts';
import { resolve, type Scope } from './scope.ts';
import {
  type Better,
  complainOfForm,
  inQuotes,
  instead,
  placeOf,
  plainText,
  unquoted,
  type Written,
  wrongType,
} from './written.ts';

/** `name` is what the value is called in messages: its attribute, or the attribute of its list. */
export function checkValue(scope: Scope, type: Type, name: string, value: Expression): unknown {
  const written = resolve(scope, value, (word) => claims(type, word, scope.isBlock));
  return written === undefined ? undefined : checkWritten(scope, type, name, written);
}

/** Whether a word means something to the type itself, so that it is not the name of a let or a param. */
export function claims(type: Type, word: Name, isBlock: (word: Name) => boolean): boolean {
  const { text } = word;
  switch (type.kind) {
    case 'words':
      return type.words.includes(text);
    case 'boolean':
      return text === 'true' || text === 'false';
    case 'reference':
    case 'weighted-references':
      return isBlock(word);
    case 'tagged':
      return Object.hasOwn(type.variants, text);
    case 'network-block':
      return blocksNamed(text) !== undefined;
    case 'schedule':
      return text === 'step';
    case 'either':
      return type.of.some((one) => claims(one, word, isBlock));
    default:
      return false;
  }
}

function checkWritten(scope: Scope, type: Type, name: string, written: Written): unknown {
  const { value } = written;
  if (value.kind === 'broken') return undefined;
  const isReference = value.kind === 'choice' || value.kind === 'variant' || isTaggedList(value);
  const referring = type.kind === 'either' ? type.of.find(({ kind }) => kind === 'reference') : type;
  if (isReference && referring?.kind === 'reference') return checkReference(scope, referring, name, written);
  if (isReference || value.kind === 'call') {
    return complainOfForm(scope, type, name, written);
  }
  switch (type.kind) {
    case 'number':
      return checkNumber(scope, type, name, written);
    case 'text': {
      const text = checkText(scope, type, name, written);
      if (text === undefined || type.what !== 'path') return text;
      return { text, writtenIn: scope.fileOf(value.span.source) };
    }
    case 'boolean':
      return checkBoolean(scope, type, name, written);
    case 'size':
      return checkSize(scope, type, name, written);
    case 'duration':
      return value.kind === 'duration' ? { seconds: value.seconds } : wrongType(scope, type, name, written);
    case 'steps': {
      const steps = checkNumber(scope, integer({ min: 1 }), name, written);
      return steps === undefined ? undefined : { steps };
    }
    case 'steps-or-share':
      return checkStepsOrShare(scope, type, name, written);
    case 'words':
      return checkWord(scope, type, name, written);
    case 'reference':
      return checkReference(scope, type, name, written);
    case 'weighted-references':
      return checkWeightedReferences(scope, type, name, written);
    case 'list':
      return checkList(scope, type, name, written);
    case 'either':
      return checkEither(scope, type, name, written);
    case 'record':
    case 'tagged':
      return checkRecord(scope, type, name, written);
    case 'arguments':
      return checkArguments(scope, type, name, written);
    case 'named':
      return checkNamed(scope, type, name, written);
    case 'network-block':
      return checkNetworkBlock(scope, type, name, written);
    case 'block-numbers':
      return checkBlockNumbers(scope, type, name, written);
    case 'schedule': {
      const schedule = checkSchedule(scope, type, name, written);
      if (typeof schedule === 'object') scope.schedulePlaces.set(schedule, placeOf(written));
      return schedule;
    }
    default:
      return unreachable(type);
  }
}

const isTaggedList = (value: Expression) => value.kind === 'list' && value.tag !== undefined;

const meantTrue = /^(?:true|yes|on|1|enabled?)$/i;
const meantFalse = /^(?:false|no|off|0|disabled?|none)$/i;

function checkBoolean(scope: Scope, type: Type, name: string, written: Written): boolean | undefined {
  const { value } = written;
  if (value.kind === 'word' && (value.text === 'true' || value.text === 'false')) return value.text === 'true';
  const text = value.kind === 'word' ? value.text : value.kind === 'number' ? String(value.value) : plainText(value);
  const meant =
    text === undefined ? undefined : meantTrue.test(text) ? 'true' : meantFalse.test(text) ? 'false' : undefined;
  return wrongType(scope, type, name, written, instead(meant));
}

type SizeType = Extract<Type, { kind: 'size' }>;

function checkSize(scope: Scope, type: SizeType, name: string, written: Written): Size | undefined {
  const { value, via } = written;
  if (value.kind !== 'size') {
    const isOne = value.kind === 'number' || (value.kind === 'quantity' && value.measures === 'pixels');
    const numbers = isOne ? [String(value.value)] : (plainText(value)?.match(/\d+/g) ?? []);
    const [width, height = width] = numbers;
    const meant = width === undefined || numbers.length > 2 ? undefined : `${width}x${height}`;
    return wrongType(scope, type, name, written, instead(meant));
  }
  const side = integer({ min: type.min, max: type.max });
  const { width, height } = value;
  const odd = [width, height].find((length) => !isInRange(side, length));
  if (odd === undefined) return { width, height };
  scope.report(problem.outOfRange(placeOf(written), `each side of ${name}`, side, odd, via));
  return undefined;
}

type WordsType = Extract<Type, { kind: 'words' }>;

function checkWord(scope: Scope, type: WordsType, name: string, written: Written): string | undefined {
  const { value, via } = written;
  const { words } = type;
  // `kohya-diffusers` reads as a subtraction.
  const difference = value.kind === 'binary' ? sourceText(value.span) : undefined;
  if (difference !== undefined && words.includes(difference)) return difference;
  if (value.kind !== 'word') {
    const together = words.find((word) => word === difference?.replaceAll(/\s/g, ''));
    const better = together ? instead(together) : unquoted(value, (word) => words.includes(word));
    return wrongType(scope, type, name, written, better);
  }
  const word = value.text;
  if (words.includes(word)) return word;
  scope.report(problem.unknownWord(placeOf(written), { name, word, words, meant: meantWord(word, words), via }));
  return undefined;
}

/** What other tools call the same thing. */
const sameWords: readonly (readonly string[])[] = [
  ['bf16', 'bfloat16'],
  ['fp16', 'float16', 'half', 'f16'],
  ['fp32', 'float32', 'float', 'full', 'no', 'f32'],
  ['on', 'true', 'yes', 'always'],
  ['off', 'false', 'no', 'never'],
  ['euler_a', 'euler_ancestral', 'k_euler_a', 'euler'],
  ['locon', 'lora', 'lycoris'],
  ['constant', 'none'],
];

function meantWord(word: string, words: readonly string[]): string | undefined {
  const lower = word.toLowerCase();
  const same = words.find((one) => sameWords.some((group) => group[0] === one && group.includes(lower)));
  // One digit away is another precision, and no slip.
  const near = /\d/.test(word) ? undefined : nearest(word, words);
  return same ?? near;
}

function checkList(scope: Scope, type: ListType, name: string, written: Written): readonly unknown[] | undefined {
  const { value } = written;
  if (value.kind !== 'list') {
    const text = sourceText(value.span);
    const isOne = type.length === undefined && (value.kind === 'word' || fits(type.of, value));
    return wrongType(scope, type, name, written, instead(isOne ? `[${text}]` : undefined));
  }
  if (type.length !== undefined && value.items.length !== type.length) {
    scope.report(problem.wrongLength(placeOf(written), name, type.length, value.items.length));
    return undefined;
  }
  if (type.isSet && value.items.length === 0) {
    scope.report(problem.emptyList(placeOf(written), name, needs(type)));
    return undefined;
  }
  const items = value.items.map((item) => checkValue(scope, type.of, name, item));
  if (type.isSet) {
    const shown = items.flatMap((item, index) =>
      item === undefined ? [] : { what: writeItem(type.of, item), span: (value.items[index] as Expression).span },
    );
    if (!reportTwice(scope, name, shown)) return undefined;
  }
  return items.some((item) => item === undefined) ? undefined : items;
}

/** An item as messages quote it: two that are written the same are the same. */
function writeItem(type: Type, item: unknown): string {
  const text = writeValue(type, item);
  return type.kind === 'reference' ? `"${text}"` : text;
}

type EitherType = Extract<Type, { kind: 'either' }>;

/** The alternative whose form fits what is written. Alternatives never share a form. */
function checkEither(scope: Scope, type: EitherType, name: string, written: Written): unknown {
  const { value } = written;
  const fitting = type.of.find((one) => fits(one, value));
  if (fitting !== undefined) return checkWritten(scope, fitting, name, written);
  const words = type.of.flatMap((one) => (one.kind === 'words' ? one.words : []));
  const quoted = type.of.some((one) => one.kind === 'text') ? inQuotes(value.span) : undefined;
  const meant = value.kind === 'word' ? meantWord(value.text, words) : undefined;
  const isPlain = value.kind === 'word' || value.kind === 'binary';
  return wrongType(scope, type, name, written, instead(meant ?? (isPlain ? quoted : undefined)));
}

function fits(type: Type, value: Expression): boolean {
  switch (type.kind) {
    case 'number':
      return ['number', 'negate', 'binary', 'quantity'].includes(value.kind);
    case 'steps':
      return ['number', 'negate', 'binary'].includes(value.kind);
    case 'words':
      return value.kind === 'word' && type.words.includes(value.text);
    case 'reference':
      return value.kind === 'word';
    default:
      return value.kind === type.kind;
  }
}

type RecordType = Extract<Type, { kind: 'record' | 'tagged' }>;

function checkRecord(scope: Scope, type: RecordType, name: string, written: Written): object | undefined {
  const { value } = written;
  const entries: readonly Attribute[] | undefined = value.kind === 'record' ? value.entries : undefined;
  const tag: Name | undefined =
    value.kind === 'record' ? value.tag : value.kind === 'word' ? { text: value.text, span: value.span } : undefined;
  if (type.kind === 'record') {
    if (entries === undefined || tag !== undefined)
      return wrongType(scope, type, name, written, settingsOf(type, name, value));
    const about = { owner: `"${name}"`, ownerSpan: value.span, inside: name };
    return wholeOf(checkFields(scope, { fields: type.fields, entries, ...about }));
  }
  const tags = Object.keys(type.variants);
  if (tag === undefined) {
    const meant = entries && tagOf(type, entries);
    const better = meant
      ? { hint: `Write ${meant} in front of the braces`, fix: `${meant} ${sourceText(value.span)}` }
      : unquoted(value, (word) => tags.includes(word));
    return wrongType(scope, type, name, written, better);
  }
  const fields = Object.hasOwn(type.variants, tag.text) ? type.variants[tag.text] : undefined;
  if (fields === undefined) {
    const { via } = written;
    const details = { name, word: tag.text, words: tags, meant: meantWord(tag.text, tags), via };
    scope.report(problem.unknownWord(via?.usedAt ?? tag.span, details));
    return undefined;
  }
  const about = { owner: tag.text, ownerSpan: value.span, inside: name, variants: type.variants };
  const values = wholeOf(checkFields(scope, { fields, entries: entries ?? [], ...about }));
  return values && { kind: tag.text, ...values };
}

/** The first that has all that is written, where something is written or there is but one. */
function tagOf({ variants }: Extract<Type, { kind: 'tagged' }>, entries: readonly Attribute[]): string | undefined {
  const tags = Object.keys(variants);
  if (entries.length === 0 && tags.length > 1) return undefined;
  return tags.find((tag) => entries.every(({ name }) => Object.hasOwn(variants[tag] ?? {}, name.text)));
}

const wholeOf = ({ values, isWhole }: CheckedFields) => (isWhole ? values : undefined);

/** A switch that others have, where we have settings: `masked_loss = true`. Other words may be names that were mistyped. */
function settingsOf({ fields }: Extract<Type, { kind: 'record' }>, name: string, value: Expression): Better {
  if (value.kind === 'word' && !meantTrue.test(value.text) && !meantFalse.test(value.text)) return {};
  const needed = Object.keys(fields).filter((field) => fields[field]?.required);
  if (needed.length > 0) return { hint: `Write ${name} = { ${needed.map((field) => `${field} = …`).join('  ')} }` };
  return { hint: `Write ${name} = { … }, with any of ${enumerate(Object.keys(fields))}.` };
}

function checkNetworkBlock(scope: Scope, type: Type, name: string, written: Written): string | undefined {
  const { value } = written;
  const word = value.kind === 'word' ? value.text : plainText(value);
  if (word === undefined) return wrongType(scope, type, name, written);
  if (blocksNamed(word) !== undefined) return word;
  scope.report(problem.unknownBlock(placeOf(written), word));
  return undefined;
}

type NamedType = Extract<Type, { kind: 'named' }>;

function checkNamed(scope: Scope, type: NamedType, name: string, written: Written): object | undefined {
  const { value } = written;
  if (value.kind !== 'record' || value.tag !== undefined) return wrongType(scope, type, name, written);
  const places = new Map<string, Span>();
  const found = value.entries.map((entry): [string, unknown] => {
    const { text, span } = entry.name;
    const first = places.get(text);
    const isPlain = /^[A-Za-z_]\w*$/.test(text);
    if (!isPlain) scope.report(problem.oddName(span, text));
    else if (first !== undefined) scope.report(problem.duplicateAttribute(entry.name, first));
    else places.set(text, span);
    const item = checkValue(scope, type.of, text, entry.value);
    return [text, isPlain && first === undefined ? item : undefined];
  });
  if (found.length === 0) scope.report(problem.emptyList(placeOf(written), name, needs(type)));
  return found.length === 0 || found.some(([, item]) => item === undefined) ? undefined : Object.fromEntries(found);
}

type BlockNumbersType = Extract<Type, { kind: 'block-numbers' }>;

function checkBlockNumbers(scope: Scope, type: BlockNumbersType, name: string, written: Written): object | undefined {
  const { value } = written;
  if (value.kind !== 'record' || value.tag !== undefined) return wrongType(scope, type, name, written);
  const numbers = new Map<string, number>();
  const places = new Map<string, Span>();
  let isWhole = true;
  for (const entry of value.entries) {
    const { text, span } = entry.name;
    const meant = blocksNamed(text)?.join(' ') ?? (type.layers && isLayerPattern(text) ? text : undefined);
    const first = meant === undefined ? undefined : places.get(meant);
    const number = checkValue(scope, type.of, text, entry.value);
    if (meant === undefined)
      scope.report(type.layers ? problem.unknownLayer(span, text) : problem.unknownBlock(span, text));
    else if (first !== undefined) scope.report(problem.duplicateAttribute(entry.name, first));
    else places.set(meant, span);
    if (typeof number === 'number' && meant !== undefined && first === undefined) numbers.set(text, number);
    else isWhole = false;
  }
  return isWhole ? Object.fromEntries(numbers) : undefined;
}
