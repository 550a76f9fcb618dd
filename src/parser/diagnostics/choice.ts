// Problems with what stands behind "@", sorted by code: which of the LoRAs of a training is meant.

import type { Span } from '../source.ts';
import { blockNoun } from './describe.ts';
import { type Diagnostic, error, replace } from './diagnostic.ts';

export function averageOfOne(
  span: Span,
  { train, saveEvery, steps, header }: { train: string; saveEvery: number; steps: number; header: Span },
): Diagnostic {
  return error('average-of-one', span, {
    message: `"${train}" saves every ${saveEvery} steps and has ${steps}, so there is only one LoRA and no average.`,
    related: [{ message: `"${train}" is trained here`, span: header }],
    hint: 'Write a smaller save_every in it.',
  });
}

export function noBest(span: Span, train: string, header: Span): Diagnostic {
  return error('no-best', span, {
    message: `"${train}" measures nothing, so no step of it is known to be the best.`,
    related: [{ message: `"${train}" is trained here`, span: header }],
    hint: 'Write in it: validation = { share = 0.1 }',
  });
}

export function noKeptAverage(span: Span, train: string, header: Span): Diagnostic {
  return error('no-kept-average', span, {
    message: `"${train}" keeps no average while it trains, so there is no "${train}@ema".`,
    related: [{ message: `"${train}" is trained here`, span: header }],
    hint: `Write ema = 0.99 in it, or ${train}@ema(0.9) for the average of the steps that it saves.`,
  });
}

/** `written` is what stands behind the "@". */
export function oddChoice(span: Span, of: string, written: string): Diagnostic {
  return error('odd-choice', span, {
    message: `"${written}" does not say which LoRA of "${of}" is meant.`,
    hint: `After "@" stands the number of an optimizer step, best, ema, or ema(0.9): ${of}@40`,
  });
}

export function noStepChoice(span: Span, of: string, kind?: string): Diagnostic {
  const reason = kind === undefined ? 'A block is used as a whole here' : `"${of}" is ${blockNoun(kind)} without steps`;
  return error('no-step-choice', span, {
    message: `${reason}: "@" cannot choose one. Only a train block has them.`,
    hint: `Write ${of}`,
    fix: replace(span, of),
  });
}

/** `steps` is how many the training has. */
export function stepBeyond(
  span: Span,
  { train, step, steps, header }: { train: string; step: number; steps: number; header: Span },
): Diagnostic {
  return error('step-beyond', span, {
    message: `"${train}" has ${steps} step${steps === 1 ? '' : 's'}, so there is no step ${step}.`,
    related: [{ message: `"${train}" is trained here`, span: header }],
    hint: `Write a step from 1 to ${steps}, or ${train} for the last.`,
  });
}
