// Settings of the kohya_ss GUI, as it saves them in JSON: flags of sd-scripts by their names, and words of its own for
// which flags it writes. Read in kohya_ss 22 to 25 (kohya_gui/lora_gui.py) and its presets.

import { asNumber, asText, isEmpty, type Plain, type PlainRecord } from './plain.ts';
import type { Left, Recipe, Unreadable } from './recipe.ts';
import { optionsOf } from './sd-scripts-command.ts';
import { sdScriptsDefaults } from './sd-scripts-defaults.ts';
import { readShell } from './shell-words.ts';

export function looksLikeKohyaGui(table: PlainRecord): boolean {
  return 'LoRA_type' in table || ('train_batch_size' in table && 'max_resolution' in table);
}

export function readKohyaGui(table: PlainRecord): Recipe | Unreadable {
  const other = Object.keys(others).find((name) => table[name] === true);
  if (other !== undefined) {
    return {
      problem: `lorac trains SDXL, and these settings are for ${others[other]}.`,
      hint: 'Settings for SDXL have "sdxl": true.',
    };
  }
  const options = new Map<string, Plain>();
  const left: Left[] = [];
  for (const [name, value] of Object.entries(table)) {
    if (value === undefined || own.has(name) || isUnused(name, value)) continue;
    options.set(renamed[name] ?? name, value);
  }
  if (table.sdxl === false) {
    left.push({ name: 'sdxl', value: false, reason: 'lorac trains SDXL alone: the checkpoint has to be one of SDXL.' });
  }
  readNetwork(table, options, left);
  readRates(table, options);
  readNoise(table, options);
  readLength(table, options);
  readPrompts(table, options, left);
  const more = asText(table.additional_parameters);
  for (const [name, value] of optionsOf(readShell(more ?? '').commands.flat())) options.set(name, value);
  return {
    from: 'settings of the kohya_ss GUI',
    trainer: 'sd-scripts',
    options,
    defaults: sdScriptsDefaults,
    subsets: [],
    left,
    resize: undefined,
    chop: undefined,
  };
}

const others: { readonly [checkbox: string]: string } = {
  flux1_checkbox: 'FLUX',
  sd3_checkbox: 'Stable Diffusion 3',
  v2: 'Stable Diffusion 2',
};

const renamed: { readonly [theirs: string]: string } = {
  max_resolution: 'resolution',
  optimizer: 'optimizer_type',
  sdxl_no_half_vae: 'no_half_vae',
  sdxl_cache_text_encoder_outputs: 'cache_text_encoder_outputs',
  lora_network_weights: 'network_weights',
  debiased_estimation: 'debiased_estimation_loss',
};

/** What is about the program and not about the training, and what is read below. */
const own = new Set(
  `LoRA_type LyCORIS_preset additional_parameters conv_dim conv_alpha factor decompose_both use_cp use_tucker use_scalar
  rank_dropout module_dropout rank_dropout_scale train_norm dora_wd bypass_mode full_matrix constrain rescaled unit block_dims
  block_alphas conv_block_dims conv_block_alphas down_lr_weight mid_lr_weight up_lr_weight block_lr_zero_threshold epoch
  lr_warmup lr_warmup_steps text_encoder_lr unet_lr learning_rate noise_offset_type noise_offset adaptive_noise_scale
  multires_noise_iterations multires_noise_discount model_list train_on_input save_as_bool use_wandb gpu_ids
  num_machines num_cpu_threads_per_process main_process_port extra_accelerate_launch_args dynamo_mode
  dynamo_use_dynamic dynamo_use_fullgraph no_token_padding max_train_steps max_train_epochs stop_text_encoder_training_pct
  sample_prompts xformers weights_only headless sdxl v2 max_data_loader_n_workers caption_metadata_filename
  flux1_checkbox sd3_checkbox`.split(/\s+/),
);

/** It writes 0 or nothing for what is off. These have a meaning at 0. */
const meantAtZero = new Set(['max_grad_norm', 'network_alpha', 'prior_loss_weight']);

function isUnused(name: string, value: Plain): boolean {
  if (isEmpty(value) || value === false) return true;
  if (typeof value === 'string' && /^(none|\s*)$/i.test(value)) return true;
  return asNumber(value) === 0 && !meantAtZero.has(name);
}

const kinds: { readonly [type: string]: { readonly module: string; readonly algo?: string } } = {
  Standard: { module: 'networks.lora' },
  'Kohya LoCon': { module: 'networks.lora' },
  LoCon: { module: 'networks.lora' },
  'Kohya DyLoRA': { module: 'networks.dylora' },
  'LoRA-FA': { module: 'networks.lora_fa' },
  'LyCORIS/LoCon': { module: 'lycoris.kohya', algo: 'locon' },
  'LyCORIS/LoHa': { module: 'lycoris.kohya', algo: 'loha' },
  'LyCORIS/LoKr': { module: 'lycoris.kohya', algo: 'lokr' },
  'LyCORIS/Native Fine-Tuning': { module: 'lycoris.kohya', algo: 'full' },
};

function readNetwork(table: PlainRecord, options: Map<string, Plain>, left: Left[]): void {
  const type = asText(table.LoRA_type) ?? 'Standard';
  const kind = kinds[type];
  if (kind === undefined)
    left.push({ name: 'LoRA_type', value: type, reason: 'lorac has locon, dora, loha, lokr and full.' });
  const { module, algo } = kind ?? { module: 'networks.lora' };
  const hasConvolutions = type !== 'Standard' && type !== 'LoRA-FA';
  const names = [
    ...(hasConvolutions ? ['conv_dim', 'conv_alpha'] : []),
    ...(algo === undefined
      ? ['block_dims', 'block_alphas', 'down_lr_weight', 'mid_lr_weight', 'up_lr_weight']
      : lycorisArguments),
    ...(algo === 'lokr' ? ['factor', 'decompose_both', 'full_matrix'] : []),
    'rank_dropout',
    'module_dropout',
  ];
  const args = names.flatMap((name) => {
    const value = table[name];
    return value === undefined || isUnused(name, value) ? [] : [`${name}=${value === true ? 'True' : asText(value)}`];
  });
  const preset = asText(table.LyCORIS_preset);
  if (algo !== undefined) args.push(`algo=${algo}`, ...(preset ? [`preset=${preset}`] : []));
  options.set('network_module', module);
  options.set('network_args', args);
}

const lycorisArguments = [
  'use_cp',
  'use_tucker',
  'use_scalar',
  'rank_dropout_scale',
  'train_norm',
  'dora_wd',
  'bypass_mode',
];

/** A rate of 0 means that the part is not trained; two of them, that learning_rate holds for both. */
function readRates(table: PlainRecord, options: Map<string, Plain>): void {
  const [both, unet, text] = [table.learning_rate, table.unet_lr, table.text_encoder_lr].map(
    (value) => asNumber(value) ?? 0,
  ) as [number, number, number];
  if (both !== 0) options.set('learning_rate', both);
  if (unet !== 0) options.set('unet_lr', unet);
  if (text !== 0) options.set('text_encoder_lr', text);
  if (unet !== 0 && text === 0) options.set('network_train_unet_only', true);
  if (unet === 0 && text !== 0) options.set('network_train_text_encoder_only', true);
  const warmup = asNumber(table.lr_warmup_steps) ?? 0;
  const percent = asNumber(table.lr_warmup) ?? 0;
  // It tells constant from constant_with_warmup by itself, as sd-scripts refuses the two together.
  if (asText(table.lr_scheduler) === 'constant') return;
  if (warmup > 0) options.set('lr_warmup_steps', warmup);
  else if (percent > 0) options.set('lr_warmup_steps', `${percent}%`);
}

/** Older files have both kinds of noise, and say which counts. */
function readNoise(table: PlainRecord, options: Map<string, Plain>): void {
  const type = asText(table.noise_offset_type);
  const names = [
    ...(type === 'Multires' ? [] : ['noise_offset', 'adaptive_noise_scale']),
    ...(type === 'Original' ? [] : ['multires_noise_iterations', 'multires_noise_discount']),
  ];
  for (const name of names) {
    const value = table[name];
    if (value !== undefined && !isUnused(name, value)) options.set(name, value);
  }
}

/** Steps go before epochs where both are written, and max_train_epochs before either. */
function readLength(table: PlainRecord, options: Map<string, Plain>): void {
  const [epochs, steps, most] = [table.epoch, table.max_train_steps, table.max_train_epochs].map(
    (value) => asNumber(value) ?? 0,
  ) as [number, number, number];
  if (most > 0) options.set('max_train_epochs', most);
  else if (steps > 0) options.set('max_train_steps', steps);
  else if (epochs > 0) options.set('max_train_epochs', epochs);
}

/** The prompts themselves stand in the file, and it writes them into one of their own before it starts. */
function readPrompts(table: PlainRecord, options: Map<string, Plain>, left: Left[]): void {
  const prompts = asText(table.sample_prompts)?.trim() ?? '';
  if (prompts === '') {
    options.delete('sample_sampler');
    return;
  }
  if (/\.(txt|json|toml)$/i.test(prompts) && !/\s--\w/.test(prompts)) options.set('sample_prompts', prompts);
  else
    left.push({
      name: 'sample_prompts',
      value: prompts,
      reason:
        'Put the prompts into a text file, one in each line, and write sample = { every = 10  prompts = "prompts.txt" }.',
    });
}
