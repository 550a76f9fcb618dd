// Problems with learning rates and with what changes them, sorted by code.

import { writeNumber } from '../reading/literals.ts';
import type { Span } from '../source.ts';
import { type Diagnostic, error, warning } from './diagnostic.ts';
import type { Via } from './meaning.ts';

export function adafactorSchedule(span: Span, optimizer: string, place: Span): Diagnostic {
  return error('adafactor-schedule', span, {
    message: `The schedule adafactor is a part of the optimizer Adafactor, and this training has ${optimizer}.`,
    related: [{ message: 'The optimizer is said here', span: place }],
    hint: 'Write optimizer = Adafactor, or choose another schedule.',
  });
}

/** `example`: a class of that kind. */
export function className(span: Span, name: string, example: string): Diagnostic {
  return error('class-name', span, {
    message: `"${name}" does not say which Python class is meant.`,
    hint: `Write the module and the class, with dots: "${example}".`,
  });
}

export function nothingToTrain(span: Span): Diagnostic {
  return error('nothing-to-train', span, {
    message: 'Neither the UNet nor a text encoder is trained: both have a rate of 0.',
    hint: 'Give unet_lr or text_encoder_lr a rate above 0, and leave its train_unet or train_text_encoder at true.',
  });
}

export function prodigyFactors(span: Span, name: string): Diagnostic {
  return error('prodigy-rates', span, {
    message: `Prodigy has one rate for all that is trained, and "${name}" asks for several.`,
    hint: `Leave "${name}" out, or choose another optimizer.`,
  });
}

export function prodigyRates(span: Span, unet: number, text: number): Diagnostic {
  return error('prodigy-rates', span, {
    message: `Prodigy has one rate for all that is trained; unet_lr is ${writeNumber(unet)}, and text_encoder_lr is ${writeNumber(text)}.`,
    hint: 'Make them equal, or one of them 0, or leave both out: then they are 1.',
  });
}

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

export function smallAdafactorRate(span: Span, rate: number): Diagnostic {
  return warning('small-adafactor-rate', span, {
    message: `The schedule adafactor finds the rate itself; ${writeNumber(rate)} is a factor of it, and leaves little to learn with.`,
    hint: 'Leave the rates out: then they are 1.',
  });
}

export function smallProdigyRate(span: Span, rate: number): Diagnostic {
  return warning('small-prodigy-rate', span, {
    message: `Prodigy finds the rate itself; ${writeNumber(rate)} is a factor of it, and leaves little to learn with.`,
    hint: 'Leave the rates out: then they are 1.',
  });
}
