// Numbers with a unit: pixels, bytes and percent. A unit is understood where it says what a number is anyway, and told
// where it does not. Durations and sizes are values of their own.

import { readNumber } from '../reading/literals.ts';
import type { NumberType } from '../schema/types.ts';

export interface Quantity {
  /** In what `measures` counts: pixels, bytes, or the whole that percent are a share of. */
  readonly value: number;
  readonly measures: 'pixels' | 'bytes' | 'share';
}

const bytesPer: { readonly [unit: string]: number } = {
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KIB: 2 ** 10,
  MIB: 2 ** 20,
  GIB: 2 ** 30,
  TIB: 2 ** 40,
};

/** The lexer has made sure of the form. */
export function readQuantity(text: string): Quantity {
  const [, digits = '', unit = ''] = /^(.*?)(%|px|[kKMGT]i?B)$/.exec(text) ?? [];
  if (unit === 'px') return { value: readNumber(digits), measures: 'pixels' };
  if (unit !== '%') return { value: readNumber(digits) * (bytesPer[unit.toUpperCase()] ?? 1), measures: 'bytes' };
  // 1.1 / 100 is not the number that 0.011 is.
  const isPlain = /^[\d_.]+$/.test(digits);
  return { value: isPlain ? readNumber(`${digits}e-2`) : readNumber(digits) / 100, measures: 'share' };
}

/** The number that a row takes; `undefined` where it takes no such unit. */
export function numberIn({ unit, min, max }: NumberType, { value, measures }: Quantity): number | undefined {
  if (measures === 'share') return min === 0 && max === 1 ? value : undefined;
  if (measures === 'pixels') return unit === 'px' ? value : undefined;
  return unit === 'MiB' ? value / 2 ** 20 : undefined;
}

/** What a row takes, for a hint. */
export function unitsOf({ unit, min, max }: NumberType): string {
  if (unit === 'px') return 'It counts pixels, as in 1024 or 1024px.';
  if (unit === 'MiB') return 'It counts MiB, as in 20, 20MiB or 20MB.';
  return min === 0 && max === 1 ? 'It is a share, as in 0.1 or 10%.' : 'It takes no unit.';
}
