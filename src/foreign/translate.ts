// From a recipe in sd-scripts' words to a draft of a program. Where words and meaning part (folders, epochs, defaults that
// are not ours, arguments of libraries), the meaning is carried over; what has none here is left over with the reason.

import { launch } from '../parser/schema/launch.ts';
import { lacking, needless } from '../parser/schema/schema.ts';
import { loss, noise, train } from '../parser/schema/training.ts';
import { variantOf } from '../parser/schema/types.ts';
import { Asked } from './asked.ts';
import { type Draft, type DraftBlock, fitted, isWritable, put, rowOf, type Values } from './draft.ts';
import { partOf } from './layer-patterns.ts';
import { asNumber, type Plain } from './plain.ts';
import type { Left, Recipe, Surroundings } from './recipe.ts';
import { afterTraining } from './translate-after.ts';
import { translateImages } from './translate-dataset.ts';
import { translateNetwork } from './translate-network.ts';
import { ranksOfParts } from './translate-ranks.ts';
import {
  ownRatesOfAdafactor,
  type Rates,
  translateOptimizer,
  translateRates,
  translateScheduler,
} from './translate-rates.ts';
import { epochOf, translateSteps } from './translate-steps.ts';

export function translate(recipe: Recipe, around: Surroundings): Draft {
  const main = recipe.subsets.find((subset) => !subset.isRegularization);
  const asked = new Asked(new Map([...recipe.options, ...(main?.options ?? [])]), recipe.defaults);
  const images = translateImages(recipe, asked, around);
  const values: Values = new Map();
  put(values, 'base', 'model');
  put(values, 'data', 'pictures');
  put(values, 'regularization', images.regularization);
  translateLearning(values, asked);
  translateSteps(values, asked, epochOf(asked, images.visits));
  const checkpoint = translateCheckpoint(asked);
  // As sd-scripts has it: the second one spares the text encoders, whether the first is there or not.
  const [unet, all] = [asked.boolean('fp8_base_unet'), asked.boolean('fp8_base')];
  if (unet || all) put(values, 'fp8_base', unet ? 'unet' : 'on');
  if (asked.boolean('gradient_checkpointing')) {
    const reason = 'It is on where the memory is too small without, and changes no result.';
    asked.leaveValue({ name: 'gradient_checkpointing', value: true, reason, isHarmless: true });
  }
  const target = savePath(asked);
  const begins = translateInit(values, asked);
  translateProcesses(values, asked);
  placeRest(values, asked);
  const blocks: DraftBlock[] = [
    checkpoint,
    ...images.datasets,
    ...begins,
    { kind: 'train', name: 'raw', values },
    ...afterTraining(recipe, values.has('ema') ? 'raw@ema' : 'raw', target),
  ];
  return { from: recipe.from, blocks, ...sortLeft(recipe, asked) };
}

/** There, each process has batches of its own, so all of them are so much larger a batch; here they share a step's. */
function translateProcesses(values: Values, asked: Asked): void {
  const processes = asked.number('num_processes');
  if (processes === undefined || !Number.isInteger(processes) || processes < 2) return;
  const each = asked.number('gradient_accumulation_steps') ?? 1;
  put(values, 'launch', { ...variantOf(launch, 'torchrun'), processes });
  put(values, 'gradient_accumulation_steps', each * processes, `${each} for each of ${processes} processes`);
}

/** `network_weights`: a LoRA that is there, as a block of its own. */
function translateInit(values: Values, asked: Asked): readonly DraftBlock[] {
  const path = asked.text('network_weights');
  if (path === undefined || !isWritable(path)) return [];
  put(values, 'init', 'before');
  const lora: Values = new Map();
  put(lora, 'path', path);
  return [{ kind: 'lora', name: 'before', values: lora }];
}

function translateCheckpoint(asked: Asked): DraftBlock {
  const path = asked.text('pretrained_model_name_or_path');
  const values: Values = new Map();
  const isUsable = path !== undefined && isWritable(path);
  put(
    values,
    'path',
    isUsable ? path : 'model.safetensors',
    isUsable ? noteOnPath(path) : 'which checkpoint is not said: write its path',
  );
  if (asked.boolean('v_parameterization')) put(values, 'prediction', 'v');
  if (asked.boolean('zero_terminal_snr')) put(values, 'zero_terminal_snr', 'on');
  return { kind: 'checkpoint', name: 'model', values };
}

function noteOnPath(path: string): string | undefined {
  if (/\.(ckpt|pt|pth|bin)$/i.test(path))
    return 'lorac reads .safetensors alone: loading this kind runs code of its author';
  return /^[\w.-]+\/[\w.-]+$/.test(path) && !/\.safetensors$/i.test(path)
    ? 'a name on Hugging Face: download the file, and write where it is'
    : undefined;
}

/** What is trained, and how. */
function translateLearning(values: Values, asked: Asked): void {
  const isLycoris = /^(lycoris|locon)[./]/.test(String(asked.peek('network_module') ?? ''));
  const byBlock = ranksOfParts(asked);
  const { network, blockRates, layerRates, loraPlusRatio, isUnetOnly } = translateNetwork(asked);
  const ranks =
    network.kind === 'full'
      ? {}
      : Object.fromEntries(Object.entries(byBlock).filter(([, one]) => Object.keys(one).length > 0));
  put(values, 'network', { ...network, ...ranks });

  const limit = asked.number('scale_weight_norms') ?? 0;
  if (limit > 0 && (network.kind === 'locon' || network.kind === 'lokr')) put(values, 'scale_weight_norms', limit);
  else if (limit > 0) asked.leave('scale_weight_norms', 'It is for locon and lokr.');

  const optimizer = translateOptimizer(asked);
  put(values, 'optimizer', optimizer);
  const written = translateRates(asked, isLycoris);
  // Where Adafactor finds the rates, those that are written say no more than what is trained at all.
  const isOwn = ownRatesOfAdafactor(asked) !== undefined;
  const rates = isOwn ? onlyZeros(written) : written;
  // Prodigy takes 1 where no rate is written, so that ours have to be, even where they are the defaults.
  const always = optimizer.kind === 'Prodigy';
  placeNumber(values, asked, { name: 'unet_lr', value: rates.unet_lr, always });
  const trainsText = !asked.boolean('network_train_unet_only') && !isUnetOnly;
  if (!trainsText) put(values, 'train_text_encoder', false);
  else placeNumber(values, asked, { name: 'text_encoder_lr', value: rates.text_encoder_lr, always });
  if (asked.boolean('network_train_text_encoder_only')) put(values, 'train_unet', false);
  if (loraPlusRatio !== undefined && loraPlusRatio > 0 && !isOwn) put(values, 'loraplus_lr_ratio', loraPlusRatio);
  const layerFactors = factorsOf(asked, isOwn ? {} : layerRates, rates);
  const factors = isOwn ? {} : { ...blockRates, ...(trainsText && rates.blockRates), ...layerFactors };
  if (Object.keys(factors).length > 0) put(values, 'block_lr', factors);
  put(values, 'lr_scheduler', translateScheduler(asked));

  put(values, 'noise', translateNoise(asked));
  put(values, 'loss', translateLoss(asked));
  const precision = asked.text('mixed_precision');
  if (precision === 'fp16')
    asked.leave(
      'mixed_precision',
      'lorac computes with bf16, which has the range of fp32, or with fp32. bf16 stands in its place.',
    );
  put(values, 'mixed_precision', precision === 'no' || precision === 'fp32' ? 'fp32' : 'bf16');
  const saved = asked.text('save_precision');
  put(values, 'save_precision', saved === 'float' || saved === 'fp32' ? 'fp32' : saved === 'bf16' ? 'bf16' : 'fp16');
}

function onlyZeros({ unet_lr, text_encoder_lr }: Rates): Rates {
  const zero = (rate: number | undefined) => (rate === 0 ? 0 : undefined);
  return { unet_lr: zero(unet_lr), text_encoder_lr: zero(text_encoder_lr), blockRates: {} };
}

/** A rate of a single layer as a factor of the rate that its part of the model has. */
function factorsOf(
  asked: Asked,
  layerRates: { readonly [pattern: string]: number },
  { unet_lr = 0, text_encoder_lr = 0 }: Pick<Rates, 'unet_lr' | 'text_encoder_lr'>,
): { readonly [pattern: string]: number } {
  const found = Object.entries(layerRates).map(([pattern, rate]) => {
    const part = partOf(pattern);
    const usual = part === 'unet' || unet_lr === text_encoder_lr ? unet_lr : part === undefined ? 0 : text_encoder_lr;
    if (usual > 0) return [pattern, rate / usual] as const;
    const reason = `A rate of a layer is a factor of unet_lr or text_encoder_lr here: block_lr = { "${pattern}" = … }.`;
    asked.leaveValue({ name: 'network_reg_lrs', value: `${pattern}=${rate}`, reason });
    return undefined;
  });
  return Object.fromEntries(found.filter((one) => one !== undefined));
}

function placeNumber(
  values: Values,
  asked: Asked,
  {
    name,
    value,
    always,
  }: { readonly name: 'unet_lr' | 'text_encoder_lr'; readonly value: number | undefined; readonly always: boolean },
): void {
  if (value === undefined) return;
  const fitting = fitted(train[name].type, value);
  if (fitting === undefined) asked.leaveValue({ name, value, reason: 'A rate is not below 0.' });
  else values.set(name, { value: fitting, note: undefined, always });
}

function translateNoise(asked: Asked): { readonly kind: string; readonly [field: string]: unknown } {
  const iterations = asked.number('multires_noise_iterations') ?? 0;
  const discount = asked.number('multires_noise_discount') ?? 0.3;
  const { type } = noise.variants.multires.iterations;
  if (iterations <= 0 || fitted(type, iterations) === undefined) return { kind: 'plain' };
  const fitting = fitted(noise.variants.multires.discount.type, discount);
  return { kind: 'multires', iterations, ...(fitting !== undefined && { discount: fitting }) };
}

function translateLoss(asked: Asked): { readonly kind: string; readonly [field: string]: unknown } {
  const kind = asked.text('loss_type') ?? 'l2';
  const [schedule, c, scale] = ['huber_schedule', 'huber_c', 'huber_scale'].map((name) => asked.get(name));
  if (kind !== 'huber' && kind !== 'smooth_l1') {
    if (kind !== 'l2' && kind !== 'l1') asked.leave('loss_type', 'lorac has l2, l1, huber and smooth_l1.');
    return { kind: kind === 'l1' ? 'l1' : 'l2' };
  }
  const fields = loss.variants[kind];
  const given = {
    c: c && fitted(fields.c.type, c),
    schedule: schedule && fitted(fields.schedule.type, schedule),
    scale: scale && fitted(fields.scale.type, scale),
  };
  return { kind, ...Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined)) };
}

function savePath(asked: Asked): string {
  const folder = asked.text('output_dir');
  const name = asked.text('output_name') ?? 'lora';
  const file = /\.safetensors$/i.test(name) ? name : `${name}.safetensors`;
  const slash = folder?.includes('\\') && !folder.includes('/') ? '\\' : '/';
  const path = folder === undefined || folder === '.' ? file : `${folder.replace(/[\\/]+$/, '')}${slash}${file}`;
  return isWritable(path) ? path : 'lora.safetensors';
}

/** Everything that the table of trainings has a row for under this name. */
function placeRest(values: Values, asked: Asked): void {
  placeMaskedLoss(asked);
  for (const name of asked.rest) {
    if (Object.hasOwn(needless, name)) continue;
    const [field, row] = rowOf(train, name) ?? [];
    if (field === undefined || row === undefined || values.has(field)) continue;
    const value = asked.get(name) as Plain;
    const fitting = fitted(row.type, value);
    if (fitting !== undefined) put(values, field, fitting);
    else if (asked.isGiven(name) && !isSwitchedOff(value)) asked.leave(name, `${field} cannot be that here.`);
  }
}

/** A flag of sd-scripts, and settings here. */
function placeMaskedLoss(asked: Asked): void {
  const value = asked.get('masked_loss');
  if (value === undefined || isSwitchedOff(value)) return;
  const reason = 'Masks count by themselves where a dataset has them.';
  asked.leaveValue({ name: 'masked_loss', value, reason, isHarmless: true });
}

/** Graphical programs write 0 or false for what is not used. */
function isSwitchedOff(value: Plain | undefined): boolean {
  return (
    value === false || asNumber(value) === 0 || (typeof value === 'string' && /^(none|false|0)?$/i.test(value.trim()))
  );
}

/** What has no place: what needs none, and what the reader has to know of. What is switched off is not worth a word. */
function sortLeft(recipe: Recipe, asked: Asked): Pick<Draft, 'lost' | 'needless'> {
  const rest = asked.rest
    .filter((name) => asked.isGiven(name))
    .map((name) => ({ name, value: asked.peek(name) as Plain }));
  const free = rest.filter(({ name }) => Object.hasOwn(needless, name));
  const unknown = rest.filter(({ name, value }) => !Object.hasOwn(needless, name) && !isSwitchedOff(value));
  const all: readonly Left[] = [
    ...asked.left,
    ...recipe.left,
    ...unknown.map((one) => ({ ...one, reason: reasonFor(one.name) })),
  ];
  return {
    lost: all.filter(({ isHarmless }) => !isHarmless),
    needless: [
      ...free.map((one) => ({ ...one, reason: needless[one.name] as string })),
      ...all.filter(({ isHarmless }) => isHarmless),
    ],
  };
}

function reasonFor(name: string): string {
  return Object.hasOwn(lacking, name) ? (lacking[name] as string) : 'lorac does not know this setting.';
}
