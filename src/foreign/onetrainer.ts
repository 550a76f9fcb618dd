// Configurations of OneTrainer, in JSON: of today, with a section for each part, and of 2023, flat. Read in its presets
// and modules/util/config/TrainConfig.py. Concepts, its folders of images, may stand in a file of their own.

import { parseFile } from './parse-file.ts';
import {
  asBoolean,
  asNumber,
  asNumbers,
  asText,
  isList,
  isRecord,
  type Plain,
  type PlainRecord,
  sectionOf,
} from './plain.ts';
import { type Left, type Names, type Recipe, type Subset, type Surroundings, take, type Unreadable } from './recipe.ts';

export function looksLikeOneTrainer(table: PlainRecord): boolean {
  return 'training_method' in table || ('base_model_name' in table && 'model_type' in table);
}

const defaults: ReadonlyMap<string, Plain> = new Map<string, Plain>([
  ['network_module', 'networks.lora'],
  ['network_dim', 16],
  ['network_alpha', 1],
  ['optimizer_type', 'AdamW'],
  ['learning_rate', 3e-6],
  ['lr_scheduler', 'constant'],
  ['max_grad_norm', 1],
  ['max_train_epochs', 100],
  ['train_batch_size', 4],
  ['gradient_accumulation_steps', 1],
  ['mixed_precision', 'fp16'],
  ['save_precision', 'float'],
  ['enable_bucket', true],
  ['caption_extension', '.txt'],
  ['shuffle_caption', false],
  ['flip_aug', false],
]);

export function readOneTrainer(table: PlainRecord, around: Surroundings): Recipe | Unreadable {
  const type = asText(table.model_type) ?? '';
  if (type !== '' && !/XL/.test(type))
    return {
      problem: `lorac trains SDXL, and this configuration trains ${type}.`,
      hint: 'One for SDXL has the model_type STABLE_DIFFUSION_XL_10_BASE.',
    };
  const method = asText(table.training_method) ?? 'LORA';
  if (method !== 'LORA')
    return {
      problem: `lorac trains LoRAs, and this configuration has the training_method ${method}.`,
      hint: 'Choose LoRA in OneTrainer, and save the configuration again.',
    };
  const options = new Map<string, Plain>();
  const left: Left[] = [];
  take(options, table, names);
  readTarget(table, options);
  if (table.ema !== undefined && isOn(table.ema)) options.set('ema_decay', asNumber(table.ema_decay) ?? 0.999);
  readNetwork(table, options, left);
  readOptimizer(table, options, left);
  readRates(table, options, left);
  readNoiseAndLoss(table, options, left);
  readIntervals(table, options, left);
  for (const [name, reason] of Object.entries(unused)) {
    const value = table[name];
    if (value !== undefined && isOn(value)) left.push({ name, value, reason });
  }
  return {
    from: 'a configuration of OneTrainer',
    trainer: 'OneTrainer',
    options,
    defaults,
    subsets: conceptsOf(table, left, around),
    left,
    resize: undefined,
    chop: undefined,
  };
}

const names: Names = {
  base_model_name: 'pretrained_model_name_or_path',
  lora_model_name: 'network_weights',
  batch_size: 'train_batch_size',
  gradient_accumulation_steps: 'gradient_accumulation_steps',
  epochs: 'max_train_epochs',
  learning_rate: 'learning_rate',
  clip_grad_norm: 'max_grad_norm',
  seed: 'seed',
  offset_noise_weight: 'noise_offset',
  perturbation_noise_weight: 'ip_noise_gamma',
  force_v_prediction: 'v_parameterization',
  rescale_noise_scheduler_to_zero_terminal_snr: 'zero_terminal_snr',
  aspect_ratio_bucketing: 'enable_bucket',
  lora_rank: 'network_dim',
  lora_alpha: 'network_alpha',
};

const unused: { readonly [theirs: string]: string } = {
  masked_training:
    'Masks lie in a folder of their own, under the names of their images, and not beside them as name-masklabel.png: masks = "folder".',
  text_encoder_layer_skip: 'Text encoders are read as SDXL is made.',
};

const isOn = (value: Plain) => value !== 'OFF' && value !== false && value !== '' && value !== 0 && value !== null;

function readTarget(table: PlainRecord, options: Map<string, Plain>): void {
  const target = asText(table.output_model_destination)?.replaceAll('\\', '/');
  if (target) {
    const at = target.lastIndexOf('/');
    if (at >= 0) options.set('output_dir', target.slice(0, at));
    options.set('output_name', target.slice(at + 1).replace(/\.\w+$/, ''));
  }
  options.set('mixed_precision', precision(table.train_dtype) ?? 'fp16');
  const saved = precision(table.output_dtype);
  if (saved !== undefined) options.set('save_precision', saved === 'no' ? 'float' : saved);
  const sides = asNumbers(table.resolution);
  if (sides !== undefined) options.set('resolution', Math.max(...sides));
  const bucketed = asBoolean(table.aspect_ratio_bucketing);
  // Its buckets are quotients of sides in steps of 64 pixels.
  if (bucketed !== false)
    for (const [name, value] of [
      ['bucket_reso_steps', 64],
      ['min_bucket_reso', 256],
      ['max_bucket_reso', 2048],
    ] as const)
      options.set(name, value);
}

function precision(value: Plain | undefined): string | undefined {
  const word = asText(value);
  if (word === undefined || word === 'NONE') return undefined;
  return word === 'FLOAT_32' ? 'no' : word === 'BFLOAT_16' ? 'bf16' : 'fp16';
}

/** Its LoRA has one rank for all kinds of layers. */
function readNetwork(table: PlainRecord, options: Map<string, Plain>, left: Left[]): void {
  const kind = asText(table.peft_type) ?? 'LORA';
  const algo = { LORA: 'locon', LOHA: 'loha', LOKR: 'lokr' }[kind];
  if (algo === undefined)
    left.push({ name: 'peft_type', value: kind, reason: 'lorac has locon, dora, loha, lokr and full.' });
  const filter = asText(table.layer_filter_preset) ?? (table.layer_filter === undefined ? 'full' : '');
  const preset = { full: 'full', 'attn-mlp': 'attn-mlp', 'attn-only': 'attn-only', '': 'full' }[filter];
  if (preset === undefined)
    left.push({
      name: 'layer_filter_preset',
      value: filter,
      reason: 'lorac has full, attn-mlp, attn-only and unet-only, and modules = ["…"] for choices of your own.',
    });
  options.set('network_module', 'lycoris.kohya');
  options.set('network_args', [
    `algo=${algo ?? 'locon'}`,
    `preset=${preset ?? 'full'}`,
    ...(asBoolean(table.lora_decompose) ? ['dora_wd=True'] : []),
    'bypass_mode=True',
  ]);
  const dropout = asNumber(table.dropout_probability);
  if (dropout) options.set('network_dropout', dropout);
}

const optimizers: { readonly [theirs: string]: string } = {
  ADAMW: 'AdamW',
  ADAMW_8BIT: 'AdamW8bit',
  ADAFACTOR: 'Adafactor',
  PRODIGY: 'Prodigy',
  LION: 'Lion',
  LION_8BIT: 'Lion8bit',
  CAME: 'came.CAME',
  SGD: 'torch.optim.SGD',
};

/** A section with settings of every optimizer, most of them null. */
function readOptimizer(table: PlainRecord, options: Map<string, Plain>, left: Left[]): void {
  const section = isRecord(table.optimizer)
    ? table.optimizer
    : { optimizer: table.optimizer, weight_decay: table.weight_decay };
  const name = asText(section.optimizer) ?? 'ADAMW';
  const known = optimizers[name];
  if (known === undefined)
    left.push({
      name: 'optimizer',
      value: name,
      reason:
        'AdamW stands in its place. Any class can be named: optimizer = python { class = "package.module.Class" }.',
    });
  options.set('optimizer_type', known ?? 'AdamW');
  if (known === undefined) return;
  const beta1 = asNumber(section.beta1);
  const beta2 = asNumber(section.beta2);
  // Adafactor finds no rates itself there unless it is told to.
  const args: { [name: string]: Plain } = name === 'ADAFACTOR' ? { relative_step: false, scale_parameter: false } : {};
  if (beta1 !== undefined && beta2 !== undefined && name !== 'ADAFACTOR') args.betas = [beta1, beta2];
  const own = [
    'weight_decay',
    ...(name === 'PRODIGY' ? ['d_coef', 'd0', 'use_bias_correction', 'safeguard_warmup', 'decouple'] : []),
    ...(name === 'ADAFACTOR'
      ? ['scale_parameter', 'relative_step', 'warmup_init', 'clip_threshold', 'decay_rate']
      : []),
    ...(/^ADAMW/.test(name) ? ['eps'] : []),
  ];
  for (const key of own) {
    const value = section[key];
    if (value !== undefined && value !== null) args[key] = value;
  }
  options.set('optimizer_args', args);
}

function readRates(table: PlainRecord, options: Map<string, Plain>, left: Left[]): void {
  const unet = sectionOf(table.unet);
  const [one, two] = [sectionOf(table.text_encoder), sectionOf(table.text_encoder_2)];
  const trainsUnet = asBoolean(unet.train ?? table.train_unet) !== false;
  const trainsText = [one.train ?? table.train_text_encoder, two.train].some((value) => asBoolean(value) === true);
  if (trainsText && (asBoolean(one.train) === false || asBoolean(two.train) === false)) {
    const other = asBoolean(one.train) === false ? 'TE1' : 'TE2';
    left.push({
      name: 'text_encoder',
      value: 'one of two',
      reason: `Write block_lr = { ${other} = 0 } to leave the other alone.`,
    });
  }
  if (!trainsUnet) options.set('network_train_text_encoder_only', true);
  if (!trainsText) options.set('network_train_unet_only', true);
  const unetRate = asNumber(unet.learning_rate ?? table.unet_learning_rate);
  const textRate = asNumber(one.learning_rate ?? table.text_encoder_learning_rate);
  if (unetRate !== undefined) options.set('unet_lr', unetRate);
  if (textRate !== undefined) options.set('text_encoder_lr', textRate);

  const scheduler = asText(table.learning_rate_scheduler) ?? 'CONSTANT';
  const warmup = asNumber(table.learning_rate_warmup_steps) ?? 0;
  const known = {
    CONSTANT: warmup > 0 ? 'constant_with_warmup' : 'constant',
    LINEAR: 'linear',
    COSINE: 'cosine',
    COSINE_WITH_HARD_RESTARTS: 'cosine_with_restarts',
  }[scheduler];
  if (known === undefined)
    left.push({
      name: 'learning_rate_scheduler',
      value: scheduler,
      reason: 'lorac has no such scheduler. The rates are constant in its place.',
    });
  options.set('lr_scheduler', known ?? (warmup > 0 ? 'constant_with_warmup' : 'constant'));
  if (warmup > 0) options.set('lr_warmup_steps', warmup);
  const cycles = asNumber(table.learning_rate_cycles);
  if (known === 'cosine_with_restarts' && cycles !== undefined) options.set('lr_scheduler_num_cycles', cycles);
}

function readNoiseAndLoss(table: PlainRecord, options: Map<string, Plain>, left: Left[]): void {
  for (const [theirs, ours] of [
    ['min_noising_strength', 'min_timestep'],
    ['max_noising_strength', 'max_timestep'],
  ] as const) {
    const strength = asNumber(table[theirs]);
    if (strength !== undefined && strength !== (ours === 'min_timestep' ? 0 : 1))
      options.set(ours, Math.round(strength * 1000));
  }
  const weight = asText(table.loss_weight_fn) ?? 'CONSTANT';
  if (weight === 'MIN_SNR_GAMMA') options.set('min_snr_gamma', asNumber(table.loss_weight_strength) ?? 5);
  else if (weight === 'DEBIASED_ESTIMATION') options.set('debiased_estimation_loss', true);
  else if (weight !== 'CONSTANT')
    left.push({ name: 'loss_weight_fn', value: weight, reason: 'lorac has min_snr_gamma and debiased_estimation.' });
  const [squared, absolute] = [asNumber(table.mse_strength) ?? 1, asNumber(table.mae_strength) ?? 0];
  if (squared === 0 && absolute > 0) options.set('loss_type', 'l1');
  else if (absolute > 0)
    left.push({
      name: 'mae_strength',
      value: absolute,
      reason: 'Losses are not mixed here: l2 is taken. huber and smooth_l1 lie between.',
    });
}

/** Intervals have a unit; those in minutes and seconds have no counterpart. */
function readIntervals(table: PlainRecord, options: Map<string, Plain>, left: Left[]): void {
  for (const [theirs, ours] of [
    ['save_every', 'save'],
    ['save_after', 'save'],
    ['sample_after', 'sample'],
  ] as const) {
    const amount = asNumber(table[theirs]);
    const unit = asText(table[`${theirs}_unit`]) ?? 'NEVER';
    if (amount === undefined || amount <= 0 || unit === 'NEVER') continue;
    if (unit === 'STEP') options.set(`${ours}_every_n_steps`, amount);
    else if (unit === 'EPOCH') options.set(`${ours}_every_n_epochs`, amount);
    else
      left.push({
        name: theirs,
        value: `${amount} ${unit}`,
        reason: `It is said in steps here: ${ours === 'save' ? 'save_every = 10' : 'sample = { every = 10  prompts = "…" }'}.`,
      });
  }
}

function conceptsOf(table: PlainRecord, left: Left[], around: Surroundings): readonly Subset[] {
  const file = asText(table.concept_file_name);
  const text = isList(table.concepts) || file === undefined ? undefined : around.readText(file);
  const parsed = text === undefined ? undefined : parseFile('JSON', text);
  const list = isList(table.concepts)
    ? table.concepts
    : parsed !== undefined && 'value' in parsed && isList(parsed.value)
      ? parsed.value
      : undefined;
  if (list === undefined) {
    left.push({
      name: 'concept_file_name',
      value: file ?? '',
      reason:
        'Which folders hold the images, and how often each is used, is said there, and there is no such file here.',
    });
    return [{ images: 'images', isRegularization: false, options: new Map() }];
  }
  const usable = list
    .filter(isRecord)
    .filter((concept) => asBoolean(concept.enabled) !== false && asText(concept.type) !== 'VALIDATION');
  return usable.map((concept) => subsetOf(concept, left));
}

function subsetOf(concept: PlainRecord, left: Left[]): Subset {
  const [text, image] = [sectionOf(concept.text), sectionOf(concept.image)];
  const options = new Map<string, Plain>();
  const set = (name: string, value: Plain | undefined) =>
    value !== undefined && value !== null && options.set(name, value);
  set('shuffle_caption', text.enable_tag_shuffling);
  if (asText(text.tag_delimiter)) set('caption_separator', text.tag_delimiter);
  if (asNumber(text.keep_tags_count)) set('keep_tokens', text.keep_tags_count);
  set('flip_aug', image.enable_random_flip);
  const balancing = asNumber(concept.balancing) ?? 1;
  if (asText(concept.balancing_strategy) === 'SAMPLES')
    left.push({
      name: 'balancing',
      value: `${balancing} samples`,
      reason: 'Repeats are whole numbers here, and not numbers of images.',
    });
  else if (Number.isInteger(balancing) && balancing > 0) set('num_repeats', balancing);
  else left.push({ name: 'balancing', value: balancing, reason: 'Repeats are whole numbers of at least 1 here.' });
  if (asText(text.prompt_source) === 'filename' || asText(text.prompt_source) === 'concept') {
    left.push({
      name: 'prompt_source',
      value: text.prompt_source ?? '',
      reason: 'Captions lie beside their images here, each in a text file of its own.',
    });
  }
  return { images: asText(concept.path) ?? '', isRegularization: asText(concept.type) === 'PRIOR_PREDICTION', options };
}
