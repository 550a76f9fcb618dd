// Problems with settings of a dataset that do not go together, sorted by code.

import type { Span } from '../source.ts';
import { enumerate } from './describe.ts';
import { type Diagnostic, error, warning } from './diagnostic.ts';

export function bucketOrder(
  name: string,
  min: Span,
  values: { readonly min: number; readonly max: number },
): Diagnostic {
  return error('bucket-order', min, {
    message: `The shortest side of "${name}" is ${values.min}, and its longest is ${values.max}.`,
    hint: 'min must not be above max.',
  });
}

/** `side` is that of a square as large as the resolution. */
export function bucketStep(span: Span, step: number, side: number): Diagnostic {
  return error('bucket-step', span, {
    message: `The resolution is as large as a square of ${side} pixels, and no bucket with sides of ${step}, ${2 * step} … is so small.`,
    hint: `Write a smaller step, or a larger resolution.`,
  });
}

export function idleBucket(span: Span, names: readonly string[]): Diagnostic {
  return warning('idle-bucket', span, {
    message: `Where small images are not enlarged, each has a bucket of its own shape, and ${enumerate(
      names.map((name) => `"${name}"`),
      'and',
    )} ${names.length === 1 ? 'means' : 'mean'} nothing.`,
    hint: `Leave ${names.length === 1 ? `"${names[0]}"` : 'them'} out, or write upscale = true.`,
  });
}

/** `side` is that of a square as large as the resolution. */
export function squareOnly(
  span: Span,
  { min, max }: { readonly min: number; readonly max: number },
  side: number,
): Diagnostic {
  const [bound, isBelow] = min > side ? ([min, 'at least'] as const) : ([max, 'at most'] as const);
  return warning('square-only', span, {
    message: `All images are cropped to squares: no other shape as large as the resolution has sides of ${isBelow} ${bound}.`,
    hint: min > side ? `Write bucket = { min = ${Math.max(64, Math.floor(side / 64) * 32)} }` : `Write a larger max.`,
  });
}
