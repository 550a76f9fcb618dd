// Jobs of ai-toolkit, in YAML or JSON. Read in its example configurations and toolkit/config_modules.py (0.12).

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
import { type Left, type Names, type Recipe, type Subset, take, type Unreadable } from './recipe.ts';

export function looksLikeAiToolkit(table: PlainRecord): boolean {
  return isRecord(table.config) && isList(table.config.process);
}

/** What it takes without a word, in sd-scripts' words. */
const defaults: ReadonlyMap<string, Plain> = new Map<string, Plain>([
  ['network_module', 'networks.lora'],
  ['network_dim', 4],
  ['network_alpha', 1],
  ['optimizer_type', 'AdamW'],
  ['learning_rate', 1e-6],
  ['lr_scheduler', 'constant'],
  ['max_grad_norm', 1],
  ['max_train_steps', 1000],
  ['train_batch_size', 1],
  ['gradient_accumulation_steps', 1],
  ['mixed_precision', 'no'],
  ['save_precision', 'fp16'],
  ['enable_bucket', true],
  ['bucket_reso_steps', 64],
  ['caption_extension', '.txt'],
  ['shuffle_caption', false],
  ['flip_aug', false],
]);

export function readAiToolkit(table: PlainRecord): Recipe | Unreadable {
  const config = sectionOf(table.config);
  const process = isList(config.process) ? config.process.filter(isRecord) : [];
  const job = process.find((one) => isRecord(one.train) && isRecord(one.model));
  if (job === undefined)
    return {
      problem: 'This job of ai-toolkit trains nothing.',
      hint: 'One that trains has "train", "model" and "datasets".',
    };
  const model = sectionOf(job.model);
  if (!isSdxl(model)) {
    return {
      problem: `lorac trains SDXL, and this job trains ${asText(model.arch) ?? 'another model'}.`,
      hint: 'A job for SDXL has is_xl: true, or arch: sdxl.',
    };
  }
  const options = new Map<string, Plain>();
  const left: Left[] = [];
  take(options, model, {
    name_or_path: 'pretrained_model_name_or_path',
    is_v_pred: 'v_parameterization',
    vae_path: 'vae',
  });
  readNetwork(sectionOf(job.network), options, left);
  readTraining(sectionOf(job.train), options, left);
  readSaving(sectionOf(job.save), options);
  readSampling(sectionOf(job.sample), left);
  const name = asText(config.name);
  if (name !== undefined) options.set('output_name', name);
  take(options, job, { training_folder: 'output_dir' });
  const trigger = asText(job.trigger_word);
  if (trigger)
    left.push({
      name: 'trigger_word',
      value: trigger,
      reason: 'Write it into the captions, or say caption_prefix = "…" in the dataset.',
    });
  if (process.length > 1)
    left.push({ name: 'process', value: process.length, reason: 'The first process that trains is taken.' });
  const datasets = isList(job.datasets) ? job.datasets.filter(isRecord) : [];
  return {
    from: 'a job of ai-toolkit',
    trainer: 'ai-toolkit',
    options,
    defaults,
    subsets: datasets.map((dataset) => subsetOf(dataset, left)),
    left,
    resize: undefined,
    chop: undefined,
  };
}

function isSdxl(model: PlainRecord): boolean {
  const arch = asText(model.arch);
  return (
    asBoolean(model.is_xl) === true ||
    arch === 'sdxl' ||
    (arch === undefined && /xl|pony|illustrious|noob/i.test(asText(model.name_or_path) ?? ''))
  );
}

/** What stands in a section and has no name in ours. */
function leave(left: Left[], from: PlainRecord, known: readonly string[]): void {
  for (const [name, value] of Object.entries(from)) {
    if (known.includes(name) || value === undefined || value === null || value === false || harmless.has(name))
      continue;
    left.push({ name, value, reason: 'lorac has nothing that corresponds to it.' });
  }
}

/** About speed, memory, logs and copies, or so anyway. */
const harmless = new Set(
  `cache_latents cache_latents_to_disk gradient_checkpointing skip_first_sample disable_sampling quantize quantize_te
  low_vram performance_log_every device push_to_hub hf_repo_id hf_private max_step_saves_to_keep noise_scheduler
  content_or_style linear_timesteps bypass_guidance_embedding timestep_type unload_text_encoder transformer_only
  save_format`.split(/\s+/),
);

function readNetwork(network: PlainRecord, options: Map<string, Plain>, left: Left[]): void {
  const type = (asText(network.type) ?? 'lora').toLowerCase();
  const conv = asNumber(network.conv);
  const args: string[] =
    conv === undefined ? [] : [`conv_dim=${conv}`, `conv_alpha=${asNumber(network.conv_alpha) ?? conv}`];
  if (type === 'lokr') {
    const factor = asNumber(network.lokr_factor);
    args.push(
      'algo=lokr',
      ...(factor === undefined ? [] : [`factor=${factor}`]),
      ...(asBoolean(network.lokr_full_rank) ? ['full_matrix=True'] : []),
    );
  } else if (!['lora', 'locon', 'lycoris'].includes(type)) {
    left.push({ name: 'network.type', value: type, reason: 'lorac has locon, dora, loha, lokr and full.' });
  }
  options.set('network_module', type === 'lokr' ? 'lycoris.kohya' : 'networks.lora');
  options.set('network_args', args);
  take(options, network, {
    linear: 'network_dim',
    rank: 'network_dim',
    linear_alpha: 'network_alpha',
    alpha: 'network_alpha',
    dropout: 'network_dropout',
  });
  leave(left, network, [
    'type',
    'linear',
    'rank',
    'linear_alpha',
    'alpha',
    'conv',
    'conv_alpha',
    'dropout',
    'lokr_factor',
    'lokr_full_rank',
    'network_kwargs',
  ]);
}

const training: Names = {
  batch_size: 'train_batch_size',
  steps: 'max_train_steps',
  gradient_accumulation_steps: 'gradient_accumulation_steps',
  gradient_accumulation: 'gradient_accumulation_steps',
  lr: 'learning_rate',
  unet_lr: 'unet_lr',
  text_encoder_lr: 'text_encoder_lr',
  optimizer: 'optimizer_type',
  optimizer_params: 'optimizer_args',
  lr_scheduler: 'lr_scheduler',
  lr_scheduler_params: 'lr_scheduler_args',
  max_grad_norm: 'max_grad_norm',
  min_snr_gamma: 'min_snr_gamma',
  snr_gamma: 'min_snr_gamma',
  noise_offset: 'noise_offset',
  seed: 'seed',
  training_seed: 'seed',
  min_denoising_steps: 'min_timestep',
  max_denoising_steps: 'max_timestep',
};

function readTraining(train: PlainRecord, options: Map<string, Plain>, left: Left[]): void {
  take(options, train, training);
  // Adafactor finds no rates itself there unless it is told to.
  if (/^adafactor$/i.test(asText(train.optimizer) ?? ''))
    options.set('optimizer_args', {
      relative_step: false,
      scale_parameter: false,
      ...sectionOf(train.optimizer_params),
    });
  const precision = asText(train.dtype);
  options.set(
    'mixed_precision',
    precision === undefined || /^(fp32|float32|float)$/.test(precision)
      ? 'no'
      : /^bf|bfloat/.test(precision)
        ? 'bf16'
        : 'fp16',
  );
  if (asBoolean(train.train_text_encoder) !== true) options.set('network_train_unet_only', true);
  if (asBoolean(train.train_unet) === false) options.set('network_train_text_encoder_only', true);
  const loss = asText(train.loss_type);
  if (loss !== undefined && loss !== 'mse') options.set('loss_type', loss === 'mae' ? 'l1' : loss);
  const ema = sectionOf(train.ema_config);
  if (asBoolean(ema.use_ema) === true) options.set('ema_decay', asNumber(ema.ema_decay) ?? 0.99);
  leave(left, train, [
    ...Object.keys(training),
    'dtype',
    'train_text_encoder',
    'train_unet',
    'loss_type',
    'ema_config',
  ]);
}

function readSaving(save: PlainRecord, options: Map<string, Plain>): void {
  take(options, save, { save_every: 'save_every_n_steps' });
  const precision = asText(save.dtype);
  if (precision !== undefined)
    options.set(
      'save_precision',
      /^(fp32|float32|float)$/.test(precision) ? 'float' : /^bf/.test(precision) ? 'bf16' : 'fp16',
    );
}

function readSampling(sample: PlainRecord, left: Left[]): void {
  const prompts = isList(sample.prompts) ? sample.prompts.map((prompt) => asText(prompt) ?? '') : [];
  if (prompts.length === 0) return;
  const every = asNumber(sample.sample_every) ?? 100;
  left.push({
    name: 'sample.prompts',
    value: prompts,
    reason: `Put them into a text file, one in each line, and write sample = { every = ${every}  prompts = "prompts.txt" }.`,
  });
}

function subsetOf(dataset: PlainRecord, left: Left[]): Subset {
  const options = new Map<string, Plain>();
  const names: Names = {
    caption_ext: 'caption_extension',
    caption_dropout_rate: 'caption_dropout_rate',
    shuffle_tokens: 'shuffle_caption',
    keep_tokens: 'keep_tokens',
    token_dropout_rate: 'caption_tag_dropout_rate',
    flip_x: 'flip_aug',
    num_repeats: 'num_repeats',
    random_crop: 'random_crop',
  };
  take(options, dataset, names);
  const sides = asNumbers(dataset.resolution) ?? [512];
  options.set('resolution', Math.max(...sides));
  if (sides.length > 1)
    left.push({ name: 'resolution', value: sides, reason: 'A dataset has one resolution here: the largest is taken.' });
  leave(left, dataset, [...Object.keys(names), 'folder_path', 'resolution', 'is_reg', 'caption_type', 'type']);
  return { images: asText(dataset.folder_path) ?? '', isRegularization: asBoolean(dataset.is_reg) === true, options };
}
