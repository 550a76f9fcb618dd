// Numbers with a unit: a unit is understood where it says what a number is anyway, and told where it does not.
// Durations and sizes are values of their own.

import type { Quantity } from '../reading/literals.ts';
import type { NumberType } from '../schema/types.ts';

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
