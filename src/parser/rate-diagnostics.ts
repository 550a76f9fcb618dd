// Problems with learning rates and with what changes them, sorted by code.

import { type Diagnostic, error } from './diagnostic.ts';
import { writeNumber } from './literals.ts';
import type { Via } from './meaning-diagnostics.ts';
import type { Span } from './source.ts';

/** A rate that is to fall would have to rise, or stay. */
export function rateEnd(span: Span, end: number, rate: { readonly name: string; readonly value: number }): Diagnostic {
  return error('rate-end', span, {
    message: `The rates fall to ${writeNumber(end)}, and ${rate.name} begins at ${writeNumber(rate.value)}.`,
    hint: `lr_end must be below ${rate.name}.`,
  });
}

export function shareTooLarge(span: Span, name: string, text: string, via?: Via): Diagnostic {
  return error('share-too-large', span, {
    message: `"${name}" is a part of all steps, and this is ${text} of them.`,
    related: via === undefined ? [] : [{ message: `"${via.name}" is defined here`, span: via.definedAt }],
    hint: 'A share is below 100%.',
  });
}

/** `parts` are the phases of a schedule, with their steps. */
export function scheduleLength(
  span: Span,
  parts: readonly { readonly name: string; readonly steps: number }[],
  steps: number,
): Diagnostic {
  const phases = parts.map((part) => `${part.name} has ${part.steps}`).join(', and ');
  return error('schedule-length', span, {
    message: `The training has ${steps} steps; its ${phases}.`,
    hint: `Make ${parts.map(({ name }) => name).join(' or ')} shorter, or the training longer.`,
  });
}

export function stepRules(span: Span, piece: string, why: string): Diagnostic {
  return error('step-rules', span, {
    message: `"${piece}" ${why}.`,
    hint: 'Write factors with the steps that they end before, and the last factor alone: "1:10,0.1:20,0.01".',
  });
}
