// The forms that values take once a program is checked. Everything else is a number, text, a boolean or a list of those.

import type { SourceFile, Span } from './source.ts';
import type { Picked } from './sweeps/exclude.ts';
import { unreachable } from './unreachable.ts';

/** Pixels: `1024x768`. */
export interface Size {
  readonly width: number;
  readonly height: number;
}

/** `5min`, `30s`, `2h`. */
export interface Duration {
  readonly seconds: number;
}

/** A plain number where a duration could stand: so many optimizer steps. */
export interface Steps {
  readonly steps: number;
}

/** A path as it is written. Where it is relative, it starts at the folder of the file that wrote it. */
export interface ProgramPath {
  readonly text: string;
  readonly writtenIn: SourceFile;
}

/** The name of another block of the same program, of a kind that fits. */
export interface Reference {
  readonly kind: 'reference';
  readonly block: string;
  /** Which of the LoRAs that a training gives. Absent: the last, or the only one. */
  readonly step?: StepChoice;
  /** `report.text`, `raw.montage`: which output of a run, or which picture of a training. */
  readonly output?: RunOutput;
  /** `small[thr=-3]`: of which variant. Only until variants have names of their own: a checked program has none. */
  readonly picks?: readonly Picked[];
  readonly span: Span;
}

export interface RunOutput {
  readonly name: string;
  /** How its path ends, in lower case: `.safetensors` for a LoRA, `.png` for a picture. '' where that is not written out. */
  readonly suffix: string;
}

/** Which of the LoRAs that a training saves. */
export type StepChoice =
  /** `raw@40`: what it saved after that optimizer step. */
  | { readonly kind: 'step'; readonly step: number }
  /** `raw@best`: that of the measured step with the lowest held-out loss. */
  | { readonly kind: 'best' }
  /** `raw@ema`: the moving average that it kept while it trained. */
  | { readonly kind: 'kept-ema' }
  /** `raw@ema(0.9)`: the moving average over all that it saved. */
  | { readonly kind: 'ema'; readonly decay: number };

interface Saving {
  readonly steps: number;
  readonly save_every: number;
  readonly save_last_n_steps?: number | undefined;
}

/** The steps that `save_every` keeps, of which `save_last_n_steps` leaves those that the last one is so near to. */
export function keptSteps({ steps, save_every, save_last_n_steps = steps }: Saving): number[] {
  const last = Math.floor(steps / save_every) * save_every;
  const all = Array.from({ length: last / save_every }, (_, index) => (index + 1) * save_every);
  return all.filter((step) => step >= last - save_last_n_steps);
}

/** The steps of a training that are kept, and the last. */
export function savedSteps(saving: Saving): number[] {
  const { steps } = saving;
  const whole = keptSteps(saving);
  return whole.at(-1) === steps ? whole : [...whole, steps];
}

/** A reference as programs write it: `raw`, `raw@40`, `raw[dim=8]@40`, `report.text`. */
export function nameOfReference({
  block: whole,
  step,
  output,
  picks = [],
}: Pick<Reference, 'block' | 'step' | 'output' | 'picks'>): string {
  const block = output === undefined ? whole : `${whole}.${output.name}`;
  const picked = picks.map(({ name, label }) => `${name.text}=${label}`);
  const variant = picked.length === 0 ? block : `${block}[${picked.join(',')}]`;
  return step === undefined ? variant : `${variant}@${nameOfChoice(step)}`;
}

function nameOfChoice(choice: StepChoice): string {
  switch (choice.kind) {
    case 'step':
      return `${choice.step}`;
    case 'best':
      return 'best';
    case 'kept-ema':
      return 'ema';
    case 'ema':
      return `ema(${choice.decay})`;
    default:
      return unreachable(choice);
  }
}

/** A LoRA as a part of a sum. */
export interface WeightedReference extends Reference {
  /** Never 0. */
  readonly weight: number;
}

/** Arithmetic over `step`, kept as a tree and never evaluated as code. */
export type ScheduleExpression =
  | number
  | 'step'
  | {
      readonly op: '+' | '-' | '*' | '/' | '**';
      readonly left: ScheduleExpression;
      readonly right: ScheduleExpression;
    }
  | { readonly op: 'negate'; readonly of: ScheduleExpression };

/** Settings for something that lorac does not know: names, and plain values. `none` is null. */
export interface Arguments {
  readonly [name: string]: Argument;
}

export type Argument = number | string | boolean | null | readonly Argument[] | Arguments;
