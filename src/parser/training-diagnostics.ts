// Problems with settings of a training that do not go together, sorted by code.

import { type Diagnostic, error } from './diagnostic.ts';
import type { Span } from './source.ts';

export function scaleOfSnr(span: Span, loss: { readonly kind: string; readonly scale: number }): Diagnostic {
  return error('scale-of-snr', span, {
    message: `The schedule snr does not read "scale", which is ${loss.scale} here.`,
    hint: `Leave "scale" out, or write schedule = exponential or schedule = constant in ${loss.kind} { … }.`,
  });
}
