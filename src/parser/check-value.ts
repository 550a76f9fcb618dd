// One value against the type that its attribute has in the schema table. Gives the value, or `undefined` after
// complaining. Names that stand for values are replaced by what they stand for; a mistake is shown where the value is
// written, and where a name stands for a value of the wrong kind, at the name.

import type { Attribute, Expression, Name, TextExpression } from './ast.ts';
import { blocksNamed, MASKS, parseMask } from './blocks.ts';
import { checkFields } from './check-fields.ts';
import { needs } from './describe.ts';
import type { Via } from './diagnostics.ts';
import * as problem from './diagnostics.ts';
import { writeText } from './literals.ts';
import type { NumberType, Type } from './schema-types.ts';
import { definitionNames, resolve, type Scope } from './scope.ts';
import type { Span } from './source.ts';
import { nearest } from './suggest.ts';
import { unreachable } from './unreachable.ts';
import type { Reference, ScheduleExpression, Size } from './values.ts';

/** A value as it is written, and the name that it came through, if any. */
interface Written {
  readonly value: Expression;
  readonly via: Via | undefined;
}

/** `name` is what the value is called in messages: its attribute, or the attribute of its list. */
export function checkValue(scope: Scope, type: Type, name: string, value: Expression): unknown {
  const written = resolve(scope, value, (word) => claims(scope, type, word));
  return written === undefined ? undefined : checkWritten(scope, type, name, written);
}

/** Whether a word means something to the type itself, so that it is not the name of a let or a param. */
function claims(scope: Scope, type: Type, word: string): boolean {
  switch (type.kind) {
    case 'words':
      return type.words.includes(word);
    case 'boolean':
      return word === 'true' || word === 'false';
    case 'reference':
      return scope.blocks.has(word);
    case 'tagged':
      return Object.hasOwn(type.variants, word);
    case 'network-block':
      return blocksNamed(word) !== undefined;
    case 'schedule':
      return word === 'step';
    case 'either':
      return type.of.some((one) => claims(scope, one, word));
    default:
      return false;
  }
}

function checkWritten(scope: Scope, type: Type, name: string, written: Written): unknown {
  const { value } = written;
  if (value.kind === 'broken') return undefined;
  if (value.kind === 'choice' || value.kind === 'call' || (value.kind === 'list' && value.tag !== undefined)) {
    return complainOfForm(scope, type, name, written);
  }
  switch (type.kind) {
    case 'number':
      return checkNumber(scope, type, name, written);
    case 'text':
      return checkText(scope, type, name, written);
    case 'boolean':
      return checkBoolean(scope, type, name, written);
    case 'size':
      return checkSize(scope, type, name, written);
    case 'duration':
      return value.kind === 'duration' ? { seconds: value.seconds } : wrongType(scope, type, name, written);
    case 'steps': {
      const steps = checkNumber(scope, wholeSteps, name, written);
      return steps === undefined ? undefined : { steps };
    }
    case 'words':
      return checkWord(scope, type.words, name, written, type);
    case 'reference':
      return checkReference(scope, type, name, written);
    case 'list':
      return checkList(scope, type, name, written);
    case 'either':
      return checkEither(scope, type, name, written);
    case 'record':
    case 'tagged':
      return checkRecord(scope, type, name, written);
    case 'network-block':
      return checkNetworkBlock(scope, type, name, written);
    case 'block-weights':
      return checkBlockWeights(scope, type, name, written);
    case 'schedule':
      return checkSchedule(scope, type, name, written);
    default:
      return unreachable(type);
  }
}

const wholeSteps: NumberType = {
  kind: 'number',
  integer: true,
  min: 1,
  max: undefined,
  openMin: false,
  openMax: false,
  multipleOf: undefined,
};

/** Where to point: at the name when the value came through one. */
const placeOf = ({ value, via }: Written): Span => via?.usedAt ?? value.span;

interface Better {
  readonly hint?: string | undefined;
  readonly fix?: string | undefined;
}

function wrongType(scope: Scope, type: Type, name: string, written: Written, better: Better = {}): undefined {
  const { value, via } = written;
  if (value.kind === 'broken') return;
  scope.report(problem.wrongType(placeOf(written), { name, type, value, via, ...better }));
}

/** Forms that the grammar knows and no attribute takes. */
function complainOfForm(scope: Scope, type: Type, name: string, { value }: Written): undefined {
  if (value.kind === 'choice') scope.report(problem.noStepChoice(value.span, value.of.text));
  else if (value.kind === 'call') scope.report(problem.noFunction(value.span, value.name.text));
  else if (value.kind === 'list' && value.tag?.text === 'sweep') scope.report(problem.noSweep(value.span));
  else wrongType(scope, type, name, { value, via: undefined });
}

function checkNumber(scope: Scope, type: NumberType, name: string, written: Written): number | undefined {
  const { value, via } = written;
  if (value.kind !== 'number' && value.kind !== 'negate' && value.kind !== 'binary') {
    const quoted = plainText(value);
    const isQuoted = quoted !== undefined && /^[+-]?[\d.]+(?:e[+-]?\d+)?$/i.test(quoted.trim());
    return wrongType(
      scope,
      type,
      name,
      written,
      isQuoted ? { hint: `Write ${quoted.trim()}`, fix: quoted.trim() } : {},
    );
  }
  const result = compute(scope, value);
  if (result === undefined) return undefined;
  if (!Number.isFinite(result)) {
    scope.report(problem.notComputable(placeOf(written)));
    return undefined;
  }
  if (isInRange(type, result)) return result;
  scope.report(problem.outOfRange(placeOf(written), name, type, result, via));
  return undefined;
}

function isInRange(type: NumberType, value: number): boolean {
  const { integer, min, max, openMin, openMax, multipleOf } = type;
  if (integer && !Number.isInteger(value)) return false;
  if (min !== undefined && (openMin ? value <= min : value < min)) return false;
  if (max !== undefined && (openMax ? value >= max : value > max)) return false;
  return multipleOf === undefined || value % multipleOf === 0;
}

/** Arithmetic. Every leaf has to be a number; `undefined` when one is not, which has been complained about. */
function compute(scope: Scope, value: Expression): number | undefined {
  if (!scope.spend(value.span)) return undefined;
  if (value.kind === 'number') return value.value;
  if (value.kind === 'negate') {
    const of = compute(scope, value.of);
    return of === undefined ? undefined : -of;
  }
  if (value.kind === 'binary') {
    const left = compute(scope, value.left);
    const right = compute(scope, value.right);
    return left === undefined || right === undefined ? undefined : operate(value.operator, left, right);
  }
  const written = resolve(scope, value, () => false);
  if (written === undefined || written.value.kind === 'broken') return undefined;
  if (written.value.kind === 'number' || written.value.kind === 'negate' || written.value.kind === 'binary') {
    return compute(scope, written.value);
  }
  return wrongType(scope, { ...wholeSteps, integer: false }, 'arithmetic', written);
}

function operate(operator: '+' | '-' | '*' | '/' | '**', left: number, right: number): number {
  switch (operator) {
    case '+':
      return left + right;
    case '-':
      return left - right;
    case '*':
      return left * right;
    case '/':
      return left / right;
    case '**':
      return left ** right;
    default:
      return unreachable(operator);
  }
}

/** The text when it has no `${…}` in it. */
function plainText(value: Expression): string | undefined {
  if (value.kind !== 'text') return undefined;
  return value.parts.every((part) => typeof part === 'string') ? value.parts.join('') : undefined;
}

type TextType = Extract<Type, { kind: 'text' }>;

function checkText(scope: Scope, type: TextType, name: string, written: Written): string | undefined {
  const { value } = written;
  if (value.kind !== 'text') {
    const quoted = value.kind === 'word' || value.kind === 'number' ? writeText(sourceText(value.span)) : undefined;
    return wrongType(scope, type, name, written, quoted ? { hint: `Write ${quoted}`, fix: quoted } : {});
  }
  const text = joinText(scope, value);
  if (text === undefined) return undefined;
  if (text.trim() === '') {
    scope.report(problem.emptyText(placeOf(written), name));
    return undefined;
  }
  if (type.what === 'mask') return checkMask(scope, value, text) ? text : undefined;
  if (type.what === 'path' && /[\n\t\r\0]/.test(text)) {
    scope.report(problem.oddPath(placeOf(written)));
    return undefined;
  }
  return text;
}

const sourceText = (span: Span) => span.source.text.slice(span.start, span.end);

/** Longer texts than this come from names that use names, each doubling the last. */
const longestText = 100_000;

/** A text with its `${…}` filled in. */
export function joinText(scope: Scope, value: TextExpression): string | undefined {
  const parts = value.parts.map((part) => (typeof part === 'string' ? part : interpolate(scope, part)));
  if (parts.some((part) => part === undefined)) return undefined;
  const text = parts.join('');
  if (text.length <= longestText) return text;
  scope.report(problem.tooComplex(value.span));
  return undefined;
}

function interpolate(scope: Scope, part: Expression): string | undefined {
  if (!scope.spend(part.span)) return undefined;
  const written = resolve(scope, part, (word) => word === 'true' || word === 'false');
  if (written === undefined) return undefined;
  const { value } = written;
  switch (value.kind) {
    case 'text':
      return joinText(scope, value);
    case 'size':
      return `${value.width}x${value.height}`;
    case 'number':
    case 'negate':
    case 'binary': {
      const result = compute(scope, value);
      if (result === undefined || Number.isFinite(result)) return result === undefined ? undefined : String(result);
      scope.report(problem.notComputable(part.span));
      return undefined;
    }
    case 'word': {
      if (value.text === 'true' || value.text === 'false') return value.text;
      const names = definitionNames(scope);
      const available = names.length === 0 ? [] : [names.join(', ')];
      const meant = nearest(value.text, names);
      scope.report(
        problem.unknownName(placeOf(written), { name: value.text, wanted: 'a let or a param', meant, available }),
      );
      return undefined;
    }
    case 'broken':
      return undefined;
    case 'choice':
    case 'call':
      return complainOfForm(scope, { kind: 'text', what: 'text' }, '${…}', written);
    default:
      return wrongType(scope, { kind: 'text', what: 'text' }, '${…}', written);
  }
}

function checkMask(scope: Scope, value: TextExpression, text: string): boolean {
  const entries = parseMask(text);
  // An entry has a place of its own only where the text stands in the file as it is.
  const isPlain = sourceText({ ...value.span, start: value.span.start + 1, end: value.span.end - 1 }) === text;
  const spanOf = (offset: number, length: number): Span => {
    const start = value.span.start + 1 + offset;
    return isPlain ? { ...value.span, start, end: start + Math.max(length, 1) } : value.span;
  };
  const odd = entries.filter((entry) => entry.weight === undefined);
  for (const entry of odd.slice(0, 3))
    scope.report(problem.maskEntry(spanOf(entry.offset, entry.text.length), entry.text));
  if (!MASKS.has(entries.length)) scope.report(problem.maskLength(value.span, entries.length));
  const first = entries[0];
  if (odd.length > 0 || !MASKS.has(entries.length) || first?.weight === undefined) return false;
  if (first.weight !== 1) scope.report(problem.maskFirst(spanOf(first.offset, first.text.length), first.weight));
  return true;
}

const meantTrue = /^(?:true|yes|on|1|enabled?)$/i;
const meantFalse = /^(?:false|no|off|0|disabled?|none)$/i;

function checkBoolean(scope: Scope, type: Type, name: string, written: Written): boolean | undefined {
  const { value } = written;
  if (value.kind === 'word' && (value.text === 'true' || value.text === 'false')) return value.text === 'true';
  const text = value.kind === 'word' ? value.text : value.kind === 'number' ? String(value.value) : plainText(value);
  const meant =
    text === undefined ? undefined : meantTrue.test(text) ? 'true' : meantFalse.test(text) ? 'false' : undefined;
  return wrongType(scope, type, name, written, meant ? { hint: `Write ${meant}`, fix: meant } : {});
}

type SizeType = Extract<Type, { kind: 'size' }>;

function checkSize(scope: Scope, type: SizeType, name: string, written: Written): Size | undefined {
  const { value, via } = written;
  if (value.kind !== 'size') {
    const numbers = value.kind === 'number' ? [String(value.value)] : (plainText(value)?.match(/\d+/g) ?? []);
    const [width, height = width] = numbers;
    const meant = width === undefined || numbers.length > 2 ? undefined : `${width}x${height}`;
    return wrongType(scope, type, name, written, meant ? { hint: `Write ${meant}`, fix: meant } : {});
  }
  const side: NumberType = { ...wholeSteps, min: type.min, max: type.max };
  const { width, height } = value;
  const odd = [width, height].find((length) => !isInRange(side, length));
  if (odd === undefined) return { width, height };
  scope.report(problem.outOfRange(placeOf(written), `each side of ${name}`, side, odd, via));
  return undefined;
}

function checkWord(
  scope: Scope,
  words: readonly string[],
  name: string,
  written: Written,
  type: Type,
): string | undefined {
  const { value, via } = written;
  if (value.kind === 'word' && words.includes(value.text)) return value.text;
  const quoted = plainText(value);
  if (value.kind !== 'word') {
    const meant = quoted !== undefined && words.includes(quoted) ? quoted : undefined;
    return wrongType(scope, type, name, written, meant ? { hint: `Write ${meant}, without quotes`, fix: meant } : {});
  }
  const word = value.text;
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
  return same ?? nearest(word, words) ?? (words.length === 1 ? words[0] : undefined);
}

type ReferenceType = Extract<Type, { kind: 'reference' }>;

function checkReference(scope: Scope, type: ReferenceType, name: string, written: Written): Reference | undefined {
  const { value, via } = written;
  const fitting = [...scope.blocks].filter(([, block]) => type.to.includes(block.kind)).map(([word]) => word);
  if (value.kind !== 'word') {
    const quoted = plainText(value) ?? sourceText(value.span);
    const meant = fitting.includes(quoted) && value.kind === 'text' ? quoted : undefined;
    return wrongType(scope, type, name, written, meant ? { hint: `Write ${meant}, without quotes`, fix: meant } : {});
  }
  const span = placeOf(written);
  const block = scope.blocks.get(value.text);
  if (block === undefined) {
    const meant = nearest(value.text, fitting) ?? nearest(value.text, scope.blocks.keys());
    const wanted = needs(type);
    const available = fitting.map((word) => `"${word}"`);
    scope.report(problem.unknownName(span, { name: value.text, wanted, meant: via ? undefined : meant, available }));
    return undefined;
  }
  // A block of an unknown kind has been complained about; what it would have been is anyone's guess.
  if (block.kind === 'unknown') return undefined;
  if (type.to.includes(block.kind)) return { kind: 'reference', block: value.text, span };
  const details = { attribute: name, needed: type.to, name: value.text, kind: block.kind, definedAt: block.span };
  scope.report(problem.wrongKind(span, details));
  return undefined;
}

type ListType = Extract<Type, { kind: 'list' }>;

function checkList(scope: Scope, type: ListType, name: string, written: Written): readonly unknown[] | undefined {
  const { value } = written;
  if (value.kind !== 'list') {
    const text = sourceText(value.span);
    const isOne = type.length === undefined && (value.kind === 'word' || value.kind === 'text');
    return wrongType(scope, type, name, written, isOne ? { hint: `Write [${text}]`, fix: `[${text}]` } : {});
  }
  if (type.length !== undefined && value.items.length !== type.length) {
    scope.report(problem.wrongLength(placeOf(written), name, type.length, value.items.length));
    return undefined;
  }
  const items = value.items.map((item) => checkValue(scope, type.of, name, item));
  return items.some((item) => item === undefined) ? undefined : items;
}

type EitherType = Extract<Type, { kind: 'either' }>;

/** The alternative whose form fits what is written. Alternatives never share a form. */
function checkEither(scope: Scope, type: EitherType, name: string, written: Written): unknown {
  const fitting = type.of.find((one) => fits(one, written.value));
  return fitting ? checkWritten(scope, fitting, name, written) : wrongType(scope, type, name, written);
}

function fits(type: Type, value: Expression): boolean {
  switch (type.kind) {
    case 'number':
    case 'steps':
      return value.kind === 'number' || value.kind === 'negate' || value.kind === 'binary';
    case 'words':
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
    if (entries === undefined || tag !== undefined) return wrongType(scope, type, name, written);
    return checkFields(scope, { fields: type.fields, entries, owner: `"${name}"`, ownerSpan: value.span, inside: name })
      ?.values;
  }
  const tags = Object.keys(type.variants);
  if (tag === undefined) {
    const only = tags.length === 1 && entries !== undefined ? `${tags[0]} ${sourceText(value.span)}` : undefined;
    return wrongType(
      scope,
      type,
      name,
      written,
      only ? { hint: `Write ${tags[0]} in front of the braces`, fix: only } : {},
    );
  }
  const fields = Object.hasOwn(type.variants, tag.text) ? type.variants[tag.text] : undefined;
  if (fields === undefined) {
    const meant = meantWord(tag.text, tags);
    scope.report(
      problem.unknownWord(written.via?.usedAt ?? tag.span, {
        name,
        word: tag.text,
        words: tags,
        meant,
        via: written.via,
      }),
    );
    return undefined;
  }
  const checked = checkFields(scope, {
    fields,
    entries: entries ?? [],
    owner: tag.text,
    ownerSpan: value.span,
    inside: name,
  });
  return checked && { kind: tag.text, ...checked.values };
}

function checkNetworkBlock(scope: Scope, type: Type, name: string, written: Written): string | undefined {
  const { value } = written;
  const word = value.kind === 'word' ? value.text : plainText(value);
  if (word === undefined) return wrongType(scope, type, name, written);
  if (blocksNamed(word) !== undefined) return word;
  scope.report(problem.unknownBlock(placeOf(written), word));
  return undefined;
}

function checkBlockWeights(scope: Scope, type: Type, name: string, written: Written): object | undefined {
  const { value } = written;
  if (value.kind !== 'record' || value.tag !== undefined) return wrongType(scope, type, name, written);
  const weights = new Map<string, number>();
  const places = new Map<string, Span>();
  let isWhole = true;
  for (const entry of value.entries) {
    const blocks = blocksNamed(entry.name.text)?.join(' ');
    const first = blocks === undefined ? undefined : places.get(blocks);
    const weight = checkValue(scope, { ...wholeSteps, integer: false, min: undefined }, entry.name.text, entry.value);
    if (blocks === undefined) scope.report(problem.unknownBlock(entry.name.span, entry.name.text));
    else if (first !== undefined) scope.report(problem.duplicateAttribute(entry.name, first));
    else places.set(blocks, entry.name.span);
    if (typeof weight === 'number' && blocks !== undefined && first === undefined) weights.set(entry.name.text, weight);
    else isWhole = false;
  }
  return isWhole ? Object.fromEntries(weights) : undefined;
}

function checkSchedule(scope: Scope, type: Type, name: string, written: Written): ScheduleExpression | undefined {
  const { value } = written;
  if (!scope.spend(value.span)) return undefined;
  if (value.kind === 'number') return value.value;
  if (value.kind === 'word' && value.text === 'step') return 'step';
  const part = (of: Expression) => checkValue(scope, type, name, of) as ScheduleExpression | undefined;
  if (value.kind === 'negate') {
    const of = part(value.of);
    return of === undefined ? undefined : { op: 'negate', of };
  }
  if (value.kind === 'binary') {
    const left = part(value.left);
    const right = part(value.right);
    return left === undefined || right === undefined ? undefined : { op: value.operator, left, right };
  }
  if (value.kind !== 'word') return wrongType(scope, type, name, written);
  const names = ['step', ...definitionNames(scope)];
  const available = [`"${names.join('", "')}"`];
  const details = { name: value.text, wanted: needs(type), meant: nearest(value.text, names), available };
  scope.report(problem.unknownName(placeOf(written), details));
  return undefined;
}
