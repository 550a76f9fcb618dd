// A training of a program as the command that sd-scripts would need, with what sd-scripts cannot do in comments. What it
// prints is a script for a POSIX shell, and lorac import reads it back.

import { isDeepStrictEqual } from 'node:util';
import { cleanLine } from '../parser/clean-text.ts';
import { writeValue } from '../parser/diagnostics/describe.ts';
import {
  type AttributesOf,
  type BlockOf,
  type CheckedProgram,
  nameOfReference,
  type ProgramPath,
} from '../parser/model.ts';
import { fieldsOf } from '../parser/schema/schema.ts';
import { addFlag, addSwitch, type CommandDraft, printCommand, shellWord } from './command-draft.ts';
import { exportImages } from './export-dataset.ts';
import { exportNetwork } from './export-network.ts';
import { exportOptimizer, exportRates, exportScheduler } from './export-rates.ts';

type Train = AttributesOf<'train'>;

export interface ToExport {
  readonly program: CheckedProgram;
  readonly train: BlockOf<'train'>;
  /** Where a path of the program is. */
  readonly at: (path: ProgramPath) => string;
}

export function exportSdScripts({ program, train, at }: ToExport): string {
  const draft: CommandDraft = { flags: [], notes: [] };
  const { attributes } = train;
  const checkpoint = blockOf(program, 'checkpoint', attributes.base.block);
  addFlag(draft, 'pretrained_model_name_or_path', at(checkpoint.attributes.path));
  exportPrediction(draft, checkpoint);
  const learned = blockOf(program, 'dataset', attributes.data.block);
  const kept = attributes.regularization && blockOf(program, 'dataset', attributes.regularization.block);
  const { toml } = exportImages(draft, { learned, kept, at });
  const config = `${train.name.replaceAll(/[^\w.-]/g, '-')}-dataset.toml`;
  if (toml !== undefined) addFlag(draft, 'dataset_config', config);
  exportTarget(draft, program, { train, at });
  exportNetwork(draft, attributes);
  exportBeginning(draft, program, { train, at });
  exportOptimizer(draft, attributes);
  exportRates(draft, attributes);
  exportTextCache(draft, kept === undefined ? [learned] : [learned, kept]);
  exportScheduler(draft, attributes);
  const processes = processesOf(draft, attributes);
  exportLength(draft, attributes, processes);
  exportNoiseAndLoss(draft, attributes);
  exportRest(draft, attributes, at);
  noteTheRest(draft, attributes);
  const comments = [
    `The training "${train.name}" as a command of sd-scripts, printed by lorac export.`,
    'Start it in the folder of sd-scripts. Where sd-scripts does otherwise than lorac:',
    ...draft.notes.map((note) => `  ${note}`),
    '  A step ends with its epoch there, and more: docs/training.md of lorac says all of it.',
  ];
  const file =
    toml === undefined ? '' : `cat > ${shellWord(config)} <<'END_OF_DATASET'\n${toml.trimEnd()}\nEND_OF_DATASET\n\n`;
  const several = processes === 1 ? '' : `--multi_gpu --num_processes=${processes} `;
  const start = `accelerate launch ${several}--num_cpu_threads_per_process=2 sdxl_train_network.py`;
  return `${comments.map((line) => `# ${cleanLine(line)}`).join('\n')}\n\n${file}${printCommand(start, draft.flags)}\n`;
}

function blockOf<K extends 'checkpoint' | 'dataset'>(program: CheckedProgram, kind: K, name: string): BlockOf<K> {
  const found = program.blocks.find((block) => block.kind === kind && block.name === name);
  if (found === undefined) throw new Error(`Internal error: there is no ${kind} "${name}" in a checked program.`);
  return found as BlockOf<K>;
}

function exportPrediction(draft: CommandDraft, { attributes }: BlockOf<'checkpoint'>): void {
  addSwitch(draft, 'v_parameterization', attributes.prediction === 'v');
  addSwitch(draft, 'zero_terminal_snr', attributes.zero_terminal_snr === 'on');
  if (attributes.prediction === 'auto')
    draft.notes.push('prediction = auto: a checkpoint that predicts v needs --v_parameterization there.');
}

/** The file that a save block puts this very training in, else a file that is called like the training. */
function exportTarget(
  draft: CommandDraft,
  program: CheckedProgram,
  { train, at }: Pick<ToExport, 'train' | 'at'>,
): void {
  const saves = program.blocks.filter((block) => block.kind === 'save' && block.attributes.from.block === train.name);
  const save = saves.find((block) => block.kind === 'save' && block.attributes.from.step === undefined) ?? saves[0];
  const path = at({
    text: save?.name ?? `${train.name}.safetensors`,
    writtenIn: (save ?? train).span.source,
  });
  const slash = Math.max(path.lastIndexOf('/'), path.lastIndexOf('\\'));
  addFlag(draft, 'output_dir', slash < 0 ? '.' : path.slice(0, Math.max(slash, 1)));
  addFlag(draft, 'output_name', path.slice(slash + 1).replace(/\.safetensors$/i, ''));
  addFlag(draft, 'save_model_as', 'safetensors');
}

/** A LoRA that is a file, or what another training of the program makes. */
function exportBeginning(
  draft: CommandDraft,
  program: CheckedProgram,
  { train, at }: Pick<ToExport, 'train' | 'at'>,
): void {
  const { init, scale_weight_norms } = train.attributes;
  if (scale_weight_norms !== undefined && scale_weight_norms > 0)
    addFlag(draft, 'scale_weight_norms', scale_weight_norms);
  if (init === undefined) return;
  const file = program.blocks.find((block) => block.kind === 'lora' && block.name === init.block);
  if (file?.kind === 'lora') addFlag(draft, 'network_weights', at(file.attributes.path));
  else draft.notes.push(`init = ${nameOfReference(init)}: build it first, and write --network_weights with its file.`);
}

/** lorac keeps what encoders make that are not trained. sd-scripts has to be told, and refuses where captions change. */
function exportTextCache(draft: CommandDraft, datasets: readonly BlockOf<'dataset'>[]): void {
  const areFixed = datasets.every(
    ({ attributes: captions }) =>
      !captions.shuffle_caption &&
      !captions.wildcards &&
      captions.token_warmup_step === 0 &&
      captions.caption_dropout_rate === 0 &&
      captions.caption_dropout_every_n_epochs === 0 &&
      captions.caption_tag_dropout_rate === 0,
  );
  const isUnetOnly = draft.flags.some(({ name }) => name === 'network_train_unet_only');
  addSwitch(draft, 'cache_text_encoder_outputs', isUnetOnly && areFixed);
}

/** There, each process has batches of its own: fewer of them make the same step. */
function processesOf(draft: CommandDraft, { launch, gradient_accumulation_steps: batches }: Train): number {
  if (launch.kind === 'single') return 1;
  const { machines, processes = 1 } = launch;
  if (machines === 1 && batches % processes === 0) return processes;
  const why =
    machines > 1 ? 'accelerate starts each machine by itself' : `${processes} do not share ${batches} batches`;
  draft.notes.push(`launch = torchrun: ${why}, so this is for one process.`);
  return 1;
}

function exportLength(draft: CommandDraft, train: Train, processes: number): void {
  addFlag(draft, 'max_train_steps', train.steps);
  addFlag(draft, 'train_batch_size', train.batch_size);
  addFlag(draft, 'gradient_accumulation_steps', train.gradient_accumulation_steps / processes);
  addFlag(draft, 'max_grad_norm', train.max_grad_norm);
  addFlag(draft, 'seed', train.seed);
  if (train.save_every < train.steps) {
    addFlag(draft, 'save_every_n_steps', train.save_every);
    if (train.save_last_n_steps !== undefined) addFlag(draft, 'save_last_n_steps', train.save_last_n_steps);
  }
}

function exportNoiseAndLoss(draft: CommandDraft, train: Train): void {
  const { noise, loss } = train;
  if (noise.kind === 'multires') {
    addFlag(draft, 'multires_noise_iterations', noise.iterations);
    addFlag(draft, 'multires_noise_discount', noise.discount);
    if (noise.std_axes !== 'batch' && train.parity === 'none')
      draft.notes.push(
        'noise = multires: sd-scripts divides by the deviation of the whole batch, lorac by that of each image.',
      );
  }
  for (const name of [
    'noise_offset',
    'adaptive_noise_scale',
    'ip_noise_gamma',
    'min_timestep',
    'v_pred_like_loss',
  ] as const) {
    if (train[name] !== 0) addFlag(draft, name, train[name]);
  }
  addSwitch(draft, 'noise_offset_random_strength', train.noise_offset_random_strength);
  addSwitch(draft, 'ip_noise_gamma_random_strength', train.ip_noise_gamma_random_strength);
  if (train.max_timestep !== 1000) addFlag(draft, 'max_timestep', train.max_timestep);
  if (loss.kind !== 'l2') addFlag(draft, 'loss_type', loss.kind);
  if ('c' in loss) {
    addFlag(draft, 'huber_schedule', loss.schedule);
    addFlag(draft, 'huber_c', loss.c);
    addFlag(draft, 'huber_scale', loss.scale);
  }
  if (train.min_snr_gamma !== undefined) addFlag(draft, 'min_snr_gamma', train.min_snr_gamma);
  addSwitch(draft, 'debiased_estimation_loss', train.debiased_estimation);
  addSwitch(draft, 'scale_v_pred_loss_like_noise_pred', train.scale_v_pred_loss_like_noise_pred);
  if (train.prior_loss_weight !== 1) addFlag(draft, 'prior_loss_weight', train.prior_loss_weight);
}

function exportRest(draft: CommandDraft, train: Train, at: ToExport['at']): void {
  const { sample, validation } = train;
  addFlag(draft, 'mixed_precision', train.mixed_precision === 'fp32' ? 'no' : train.mixed_precision);
  addFlag(draft, 'save_precision', train.save_precision === 'fp32' ? 'float' : train.save_precision);
  if (train.max_token_length !== 75) addFlag(draft, 'max_token_length', train.max_token_length);
  addSwitch(draft, 'no_half_vae', train.vae_precision === 'fp32');
  addSwitch(draft, 'gradient_checkpointing', train.gradient_checkpointing !== 'off');
  addSwitch(draft, 'torch_compile', train.compile);
  if (train.fp8_base !== 'off') addFlag(draft, train.fp8_base === 'unet' ? 'fp8_base_unet' : 'fp8_base');
  for (const name of ['cache_latents', 'cache_latents_to_disk', 'sdpa']) addFlag(draft, name);
  if (sample !== undefined) {
    addFlag(draft, 'sample_prompts', at(sample.prompts));
    addFlag(draft, 'sample_every_n_steps', sample.every);
    addSwitch(draft, 'sample_at_first', sample.at_first);
    addFlag(draft, 'sample_sampler', sample.sampler);
  }
  if (validation === undefined) return;
  if (validation.data !== undefined)
    draft.notes.push(
      'validation: sd-scripts holds out a share of the images, and no others: validation = { share = 0.1 }.',
    );
  else addFlag(draft, 'validation_split', validation.share ?? 0.1);
  if (validation.data === undefined) addFlag(draft, 'validate_every_n_steps', validation.every);
}

/** What is said above, or what sd-scripts has no part in. */
const told: ReadonlySet<string> = new Set(
  [
    'base data regularization prior_loss_weight network optimizer unet_lr text_encoder_lr train_unet train_text_encoder',
    'loraplus_lr_ratio block_lr lr_scheduler max_grad_norm steps batch_size gradient_accumulation_steps noise noise_offset',
    'noise_offset_random_strength adaptive_noise_scale ip_noise_gamma ip_noise_gamma_random_strength min_timestep max_timestep',
    'init scale_weight_norms loss min_snr_gamma debiased_estimation scale_v_pred_loss_like_noise_pred v_pred_like_loss max_token_length',
    'mixed_precision save_precision fp8_base compile save_every save_last_n_steps sample validation seed',
    'gradient_checkpointing vae_precision state_every launch',
  ].flatMap((line) => line.split(' ')),
);

/** A setting that the table has and this file does not know is not passed over in silence. */
function noteTheRest(draft: CommandDraft, train: Train): void {
  for (const [name, row] of Object.entries(fieldsOf('train'))) {
    const value = (train as { readonly [name: string]: unknown })[name];
    if (told.has(name) || value === undefined || isDeepStrictEqual(value, row.default)) continue;
    draft.notes.push(`${name} = ${writeValue(row.type, value)}: it has no flag there, or is as lorac makes it alone.`);
  }
}
