// How long a training is, and what it keeps, shows and measures on the way. Here all of that is counted in optimizer
// steps, elsewhere often in epochs: how many steps one has follows from the images, where they are at hand.

import type { Asked } from './asked.ts';
import { put, type Values } from './draft.ts';
import { asNumber } from './plain.ts';

export interface Epoch {
  /** Optimizer steps of an epoch, `undefined` where the images are not at hand. */
  readonly steps: number | undefined;
}

/** ⌈⌈visits / batch⌉ / processes / accumulation⌉, as sd-scripts counts; buckets that stay short make it a little more. */
export function epochOf(asked: Asked, visits: number | undefined): Epoch {
  const batch = asNumber(asked.peek('train_batch_size')) ?? 1;
  const accumulation = asNumber(asked.peek('gradient_accumulation_steps')) ?? 1;
  const processes = asNumber(asked.peek('num_processes')) ?? 1;
  if (visits === undefined || batch < 1 || accumulation < 1 || processes < 1) return { steps: undefined };
  return { steps: Math.max(1, Math.ceil(Math.ceil(visits / batch) / (processes * accumulation))) };
}

const MOST_STEPS = 10_000_000;

export function translateSteps(values: Values, asked: Asked, epoch: Epoch): void {
  const steps = lengthOf(values, asked, epoch);
  const saving = intervalOf(asked, epoch, { steps: 'save_every_n_steps', epochs: 'save_every_n_epochs' });
  const ratio = asked.number('save_n_epoch_ratio');
  if (ratio !== undefined && ratio > 0 && saving === undefined && steps !== undefined)
    put(values, 'save_every', Math.max(1, Math.floor(steps / ratio)));
  else if (saving !== undefined) put(values, 'save_every', saving);
  else if (steps !== undefined && steps > 10) put(values, 'save_every', steps, 'only the last');
  keeping(values, asked, epoch);
  sampling(values, asked, epoch);
  measuring(values, asked, epoch);
}

/** How far back LoRAs are kept, where any but the last are. There each of the two goes with its own interval. */
function keeping(values: Values, asked: Asked, epoch: Epoch): void {
  const [steps, epochs] = [asked.number('save_last_n_steps'), asked.number('save_last_n_epochs')];
  const bySteps = asked.peek('save_every_n_steps') !== undefined;
  if (steps !== undefined && bySteps && Number.isInteger(steps) && steps >= 0) put(values, 'save_last_n_steps', steps);
  const every = asNumber(asked.peek('save_every_n_epochs'));
  if (bySteps || epochs === undefined || every === undefined || !isCount(epochs)) return;
  if (epoch.steps !== undefined) put(values, 'save_last_n_steps', (epochs - 1) * every * epoch.steps);
  else asked.leave('save_last_n_epochs', 'It is said in steps here, and the images are not here to count them.');
}

function lengthOf(values: Values, asked: Asked, epoch: Epoch): number | undefined {
  const epochs = asked.number('max_train_epochs');
  const written = asked.number('max_train_steps');
  if (epochs !== undefined && epochs > 0) {
    const counted = epoch.steps === undefined ? undefined : epochs * epoch.steps;
    if (counted !== undefined && isCount(counted)) {
      put(values, 'steps', counted, `${epochs} epochs of ${epoch.steps} steps each`);
      return counted;
    }
    values.set('steps', { value: 80, note: `to be set: ${epochs} epochs are asked for, see below`, always: true });
    asked.leave(
      'max_train_epochs',
      `The length of a training is said in steps here: ${epochs} × images × repeats / (batch_size × gradient_accumulation_steps). The images are not here, so this is to be done by hand.`,
    );
    return undefined;
  }
  if (written === undefined || !isCount(written)) {
    asked.leave('max_train_steps', 'A number of steps is a whole number of at least 1 here.');
    return undefined;
  }
  put(values, 'steps', written);
  return written;
}

const isCount = (value: number) => Number.isInteger(value) && value >= 1 && value <= MOST_STEPS;

/** Of both, sd-scripts takes the epochs for pictures and either for saves; the steps are what counts here. */
function intervalOf(
  asked: Asked,
  epoch: Epoch,
  names: { readonly steps: string; readonly epochs: string },
): number | undefined {
  const steps = asked.number(names.steps);
  const epochs = asked.number(names.epochs);
  if (steps !== undefined && isCount(steps)) return steps;
  if (epochs === undefined || !isCount(epochs)) return undefined;
  if (epoch.steps !== undefined) return epochs * epoch.steps;
  asked.leave(names.epochs, 'It is said in steps here, and the images are not here to count how many an epoch has.');
  return undefined;
}

function sampling(values: Values, asked: Asked, epoch: Epoch): void {
  const every = intervalOf(asked, epoch, { steps: 'sample_every_n_steps', epochs: 'sample_every_n_epochs' });
  const prompts = asked.text('sample_prompts');
  const sampler = asked.text('sample_sampler');
  const isAsked = asked.boolean('sample_at_first');
  const isRefused = !isAsked && asked.isGiven('sample_at_first');
  if (prompts === undefined) return;
  if (every === undefined) {
    const some = 'sample = { every = 10  prompts = "…" }';
    asked.leave('sample_prompts', `Nothing says how often pictures are made. Write ${some} for some.`);
    return;
  }
  if (sampler !== undefined && sampler !== 'euler_a' && sampler !== 'k_euler_a')
    asked.leave('sample_sampler', 'Pictures are made with euler_a here.');
  if (/\.(json|toml)$/i.test(prompts))
    asked.leave('sample_prompts', 'A file of prompts is text here, with one prompt in each line.');
  // Who says nothing gets pictures of the base more: they cost little, and show what the others are to be held against.
  const note = isAsked || isRefused ? undefined : 'also before the first step, unless at_first = false';
  put(values, 'sample', { every, prompts, ...(isRefused && { at_first: false }) }, note);
}

function measuring(values: Values, asked: Asked, epoch: Epoch): void {
  const share = asked.number('validation_split');
  const every = intervalOf(asked, epoch, { steps: 'validate_every_n_steps', epochs: 'validate_every_n_epochs' });
  for (const name of ['validation_seed', 'max_validation_steps']) {
    asked.leave(name, 'Which images are held out follows from their content here, and all of them are measured.');
  }
  if (share === undefined || share <= 0) return;
  if (share >= 1) asked.leave('validation_split', 'The share of images that is held out is below 1.');
  else put(values, 'validation', { share, ...(every !== undefined && { every }) });
}
