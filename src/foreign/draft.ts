// A program that is about to be written: values by attribute, in the form that a checked program has them, but for
// references, which are names, and schedules, which are the text of an expression.

import { type Fields, isInRange, type Setting, type Type } from '../parser/schema/types.ts';
import { asBoolean, asNumber, asText, isList, type Plain } from './plain.ts';
import type { Left } from './recipe.ts';

export interface DraftValue {
  readonly value: unknown;
  /** Stands behind it as a comment. */
  readonly note: string | undefined;
  /** Written even where it is the default. */
  readonly always?: boolean;
}

export type Values = Map<string, DraftValue>;

export interface DraftBlock {
  readonly kind: 'checkpoint' | 'dataset' | 'train' | 'lora' | 'resize' | 'chop' | 'save';
  /** For `save`, the path. */
  readonly name: string;
  readonly values: Values;
  /** Stands before it as a comment. */
  readonly note?: string;
}

export interface Draft {
  /** What it comes from: "a command of sd-scripts". */
  readonly from: string;
  readonly blocks: readonly DraftBlock[];
  /** What would make another LoRA than the source did: the reader has to know. */
  readonly lost: readonly Left[];
  /** What needs no word here. */
  readonly needless: readonly Left[];
}

export function put(values: Values, name: string, value: unknown, note?: string): void {
  if (value !== undefined) values.set(name, { value, note });
}

/** A value as the table wants it, `undefined` where it does not fit. */
export function fitted(type: Type, value: Plain): unknown {
  switch (type.kind) {
    case 'number': {
      const number = asNumber(value);
      return number !== undefined && isInRange(type, number) ? number : undefined;
    }
    case 'steps-or-share':
      return fitShare(value);
    case 'steps': {
      const steps = asNumber(value);
      return steps !== undefined && Number.isInteger(steps) && steps >= 1 ? { steps } : undefined;
    }
    case 'boolean':
      return asBoolean(value);
    case 'text': {
      const text = asText(value);
      return text !== undefined && isWritable(text) ? text : undefined;
    }
    case 'words': {
      const text = asText(value)?.toLowerCase();
      return type.words.find((word) => word.toLowerCase() === text);
    }
    case 'list': {
      const items = (isList(value) ? value : [value]).map((item) => fitted(type.of, item));
      const fits = items.every((item) => item !== undefined) && (type.length ?? items.length) === items.length;
      return fits ? items : undefined;
    }
    case 'either':
      return type.of.map((one) => fitted(one, value)).find((one) => one !== undefined);
    default:
      return undefined;
  }
}

function fitShare(value: Plain): number | undefined {
  const percent = /^\s*([\d.]+)\s*%\s*$/.exec(asText(value) ?? '')?.[1];
  const number = percent === undefined ? asNumber(value) : Number(percent) / 100;
  if (number === undefined || number < 0) return undefined;
  return number < 1 || Number.isInteger(number) ? number : undefined;
}

/** Text that a program can hold: not empty, on one line, without what a terminal or a path chokes on. */
export function isWritable(text: string): boolean {
  return text.trim() !== '' && !/\p{Cc}|\p{Cs}/u.test(text);
}

/** The row that a word of another trainer means: its own name, or one that the table knows it by. */
export function rowOf(fields: Fields, word: string): readonly [string, Setting] | undefined {
  const lower = word.toLowerCase();
  return Object.entries(fields).find(([name, row]) => name === lower || row.synonyms.includes(lower));
}
