// What can be built, and is most likely not what is wanted: warnings that save a night. Sorted by code.

import { writeNumber } from '../reading/literals.ts';
import type { Span } from '../source.ts';
import { type Diagnostic, type Related, warning } from './diagnostic.ts';

export interface Strength {
  readonly alpha: { readonly name: string; readonly value: number };
  readonly rank: { readonly name: string; readonly value: number };
  /** False where the alpha is the default. */
  readonly isWritten: boolean;
}

export function alphaAboveRank(span: Span, { alpha, rank, isWritten }: Strength): Diagnostic {
  const factor = Number((alpha.value / rank.value).toPrecision(3));
  return warning('alpha-above-rank', span, {
    message: `"${alpha.name}" is ${alpha.value}${isWritten ? '' : ' unless it is written'}, and "${rank.name}" is ${rank.value}: all that is learned counts ${factor} times, as with a higher learning rate.`,
    hint: `Usual is an alpha from half the rank up to the rank: ${alpha.name} = ${writeNumber(rank.value / 2)}`,
  });
}

/** `usual` is what others use with that optimizer. */
export function farRate(
  span: Span,
  rate: { readonly name: string; readonly value: number; readonly usual: number; readonly optimizer: string },
): Diagnostic {
  const { name, value, usual, optimizer } = rate;
  const [far, effect] =
    value > usual
      ? [`${factorOf(value / usual)} times as high as`, 'trainings break with it']
      : [`${factorOf(usual / value)} times as low as`, 'next to nothing is learned with it'];
  return warning('far-rate', span, {
    message: `"${name}" is ${writeNumber(value)}, ${far} usual with ${optimizer}: most likely ${effect}.`,
    hint: `Usual is about ${name} = ${writeNumber(usual)}`,
  });
}

const factorOf = (factor: number): string => writeNumber(Number(factor.toPrecision(2)));

export function idleProcesses(span: Span, processes: number, images: number): Diagnostic {
  return warning('idle-processes', span, {
    message: `${processes} processes share the images of a step, and it has ${images}: ${processes - images} would have nothing to do.`,
    hint: 'Raise batch_size or gradient_accumulation_steps, or start fewer.',
  });
}

/** `what` is what is done at every so many steps. */
export function lateInterval(
  span: Span,
  {
    name,
    every,
    steps,
    what,
  }: { readonly name: string; readonly every: number; readonly steps: number; readonly what: string },
): Diagnostic {
  return warning('late-interval', span, {
    message: `The training has ${steps} step${steps === 1 ? '' : 's'}, so with ${name} = ${every} ${what}.`,
    hint: `Write a smaller number, such as ${name} = ${Math.max(1, Math.floor(steps / 4))}`,
  });
}

export function unusedBlock(span: Span, name: string, saves: Span): Diagnostic {
  const related: readonly Related[] = [{ message: 'What is saved is something else', span: saves }];
  return warning('unused-block', span, {
    message: `Nothing is made from "${name}", and it is not saved.`,
    related,
    hint: `Write its name where it belongs, or save it, or take it out: it takes its time in every build.`,
  });
}

export function unusedDefinition(span: Span, kind: 'let' | 'param', name: string): Diagnostic {
  return warning('unused-definition', span, {
    message: `The ${kind} "${name}" is used nowhere.`,
    hint:
      kind === 'param' ? `What -p ${name}=… sets changes nothing. Use it, or take it out.` : 'Use it, or take it out.',
  });
}
