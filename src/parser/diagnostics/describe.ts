// Names for things in messages: what an attribute accepts, and what was found in its place.

import type { Expression } from '../reading/ast.ts';
import { writeNumber, writeText } from '../reading/literals.ts';
import { blockKinds, loraKinds } from '../schema/schema.ts';
import type { NumberType, Type } from '../schema/types.ts';
import { nameOfReference, type ProgramPath, type Reference, type Size, type WeightedReference } from '../values.ts';

/** `a, b and c`, or with another last word. */
export function enumerate(words: readonly string[], last = 'and'): string {
  if (words.length < 2) return words.join('');
  return `${words.slice(0, -1).join(', ')} ${last} ${words.at(-1)}`;
}

export function withArticle(noun: string): string {
  return `${/^[aeiou]/i.test(noun) ? 'an' : 'a'} ${noun}`;
}

/** What kind of thing a block is, as other blocks see it. */
export function blockNoun(kind: string): string {
  if ((loraKinds as readonly string[]).includes(kind)) return 'a LoRA';
  if (kind === 'analyze') return 'an analysis';
  if (kind === 'save') return 'a saved file';
  if (kind === 'run') return 'an output of a run';
  return withArticle(kind);
}

/** What a reference accepts: `a checkpoint`, `a LoRA`. */
export function referenceNoun(to: readonly string[]): string {
  return enumerate([...new Set(to.map(blockNoun))], 'or');
}

const textNouns = {
  text: 'text in quotes',
  path: 'a path in quotes',
  mask: 'numbers in quotes',
  color: 'a color in quotes',
} as const;

/** What is needed: "a whole number", "text in quotes", "one of bf16 and fp32". */
export function needs(type: Type): string {
  switch (type.kind) {
    case 'number':
      return type.integer ? 'a whole number' : 'a number';
    case 'text':
      return textNouns[type.what];
    case 'boolean':
      return 'true or false';
    case 'size':
      return 'a size such as 1024x1024';
    case 'duration':
      return 'a duration such as 5min';
    case 'steps':
      return 'a number of steps';
    case 'steps-or-share':
      return 'a number of steps, or a share such as 0.1 or 10%';
    case 'words':
      return enumerate(type.words, 'or');
    case 'reference':
      return `the name of ${referenceNoun(type.to)}`;
    case 'weighted-references':
      return 'a list of LoRAs, or weights in braces such as { a = 0.8  b = 0.5 }';
    case 'list':
      if (type.length !== undefined) return `a list of ${type.length}`;
      if (type.of.kind === 'number') return 'a list of numbers';
      return type.of.kind === 'reference' ? 'a list of names' : 'a list';
    case 'either':
      return enumerate(
        type.of.flatMap((one) => (one.kind === 'words' ? one.words : [needs(one)])),
        'or',
      );
    case 'record':
    case 'arguments':
      return 'settings in braces';
    case 'named':
      return 'names with values in braces, such as { a = … }';
    case 'tagged':
      return `${enumerate(Object.keys(type.variants), 'or')} with settings in braces`;
    case 'network-block':
      return 'a block such as OUT01 or MID';
    case 'block-numbers':
      return `${type.of.integer ? 'whole numbers' : 'numbers'} by block${type.layers ? ' or layer' : ''} in braces, such as { OUT01 = 1 }`;
    case 'schedule':
      return 'a number or arithmetic over step';
  }
}

/** What was found: "text", "a number", "the word "fast"". */
export function found(value: Expression): string {
  switch (value.kind) {
    case 'number':
    case 'negate':
      return 'a number';
    case 'binary':
      return 'arithmetic';
    case 'size':
      return 'a size';
    case 'duration':
      return 'a duration';
    case 'quantity':
      return `a number of ${{ pixels: 'pixels', bytes: 'bytes', share: 'percent' }[value.measures]}`;
    case 'text':
      return 'text';
    case 'word':
      return `the word "${value.text}"`;
    case 'list':
      return 'a list';
    case 'record':
      return value.tag === undefined ? 'settings in braces' : `"${value.tag.text}" with settings in braces`;
    case 'variant':
      return `a variant of "${value.of.text}"`;
    case 'choice':
      return `a step of "${value.of.text}"`;
    case 'call':
      return `"${value.name.text}" with arguments`;
    case 'broken':
      return 'something unreadable';
  }
}

/**
 * "between 0 and 1", "above 0", "a multiple of 32": nothing when every number will do.
 * A limit that only guards against nonsense is worth a word only when `value` is beyond it.
 */
export function rangeOf(type: NumberType, value = 0): string | undefined {
  const { min, openMin, openMax, multipleOf } = type;
  const max = type.max !== undefined && type.max >= 1_000_000 && value <= type.max ? undefined : type.max;
  const parts: string[] = [];
  if (min !== undefined && max !== undefined && !openMin) {
    parts.push(openMax ? `at least ${min} and below ${max}` : `between ${min} and ${max}`);
  } else {
    if (min !== undefined) parts.push(openMin ? `above ${min}` : `at least ${min}`);
    if (max !== undefined) parts.push(openMax ? `below ${max}` : `at most ${max}`);
  }
  if (multipleOf !== undefined) parts.push(`a multiple of ${multipleOf}`);
  return parts.length === 0 ? undefined : enumerate(parts);
}

/** How a value of a type is written in a program. */
export function writeValue(type: Type, value: unknown): string {
  switch (type.kind) {
    case 'number':
    case 'steps-or-share':
      return writeNumber(value as number);
    case 'text':
      return writeText(type.what === 'path' ? (value as ProgramPath).text : (value as string));
    case 'size': {
      const { width, height } = value as Size;
      return `${width}x${height}`;
    }
    case 'duration': {
      const { seconds } = value as { seconds: number };
      return seconds % 60 === 0 ? `${seconds / 60}min` : `${seconds}s`;
    }
    case 'steps':
      return String((value as { steps: number }).steps);
    case 'list':
      return `[${(value as unknown[]).map((item) => writeValue(type.of, item)).join(', ')}]`;
    case 'either':
      return writeValue(type.of.find((one) => isOf(one, value)) ?? (type.of[0] as Type), value);
    case 'record':
    case 'arguments':
    case 'named':
    case 'block-numbers':
      return '{ }';
    case 'tagged':
      return (value as { kind: string }).kind;
    case 'schedule':
      return writeSchedule(value);
    case 'reference':
      return nameOfReference(value as Reference);
    case 'weighted-references':
      return `{ ${(value as WeightedReference[]).map((one) => `${nameOfReference(one)} = ${writeNumber(one.weight)}`).join('  ')} }`;
    case 'boolean':
    case 'words':
    case 'network-block':
      return String(value);
  }
}

function isOf(type: Type, value: unknown): boolean {
  if (type.kind === 'duration') return typeof value === 'object' && value !== null && 'seconds' in value;
  if (type.kind === 'number') return typeof value === 'number';
  return type.kind === 'words' ? type.words.includes(value as string) : typeof value === 'string';
}

function writeSchedule(value: unknown): string {
  if (typeof value === 'number') return writeNumber(value);
  if (typeof value === 'string') return value;
  const tree = value as { op: string; left?: unknown; right?: unknown; of?: unknown };
  if (tree.op === 'negate') return `-(${writeSchedule(tree.of)})`;
  const side = (part: unknown) => (typeof part === 'object' ? `(${writeSchedule(part)})` : writeSchedule(part));
  return `${side(tree.left)} ${tree.op} ${side(tree.right)}`;
}

/** What every program may contain. */
export const allKinds = enumerate(blockKinds);
