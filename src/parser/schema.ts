// The schema table: every word that a user can write, one row per attribute of each kind of block.
// Checking, defaults, the language reference, hints and the TypeScript types of a checked program all come from here.
// Adding a setting is adding a row.

import { analyze, chop, lora, merge, preview, resize, save } from './schema-surgery.ts';
import { checkpoint, dataset, train } from './schema-training.ts';
import type { Fields, FieldValues } from './schema-types.ts';

export { loraKinds, pictureKinds } from './schema-surgery.ts';

export const schema = {
  checkpoint,
  dataset,
  train,
  lora,
  resize,
  chop,
  merge,
  preview,
  analyze,
  save,
} as const satisfies {
  readonly [kind: string]: Fields;
};

export type BlockKind = keyof typeof schema;
export type AttributesOf<K extends BlockKind> = FieldValues<(typeof schema)[K]>;

export const blockKinds = Object.keys(schema) as readonly BlockKind[];

export const blockDocs: { readonly [K in BlockKind]: string } = {
  checkpoint: 'A base model: to train on, to compare with, to render with.',
  dataset: 'Images and their captions.',
  train: 'A LoRA, trained on a checkpoint with a dataset. The settings of the ten-minute guide are the defaults.',
  lora: 'A LoRA that is there already, as a file.',
  resize: 'A smaller LoRA: only those directions of another whose score is high enough.',
  chop: 'A LoRA with only some blocks of another. Give exactly one of keep, drop, mask and weights.',
  merge: 'A weighted sum of LoRAs.',
  preview: 'One picture of many: each prompt with each LoRA at each strength, labelled. Save it as a .png file.',
  analyze:
    'Which blocks of a LoRA carry what: their norms beside those of the base, and with prompts, what each does to pictures.',
  save: 'A LoRA as a .safetensors file of yours, or a picture as a .png file. The name of the block is the path, in quotes.',
};

/** Words that also begin a block, though no program can ask for one: they still close an open block. */
export const otherKinds: readonly string[] = ['run'];

export function isBlockKind(word: string): word is BlockKind {
  return Object.hasOwn(schema, word);
}

export function fieldsOf(kind: BlockKind): Fields {
  return schema[kind];
}

/** Settings of other trainers that have no row, and why none is needed. */
export const needless: { readonly [flag: string]: string } = {
  algo: 'The word after "network =" says it: network = locon { }.',
  cache_latents: 'Latents are always cached.',
  cache_latents_to_disk: 'Latents are always cached on the disk.',
  clip_skip: 'It is always 2, as SDXL is made.',
  bypass_mode: 'Adapters are always computed beside their layers.',
  combination_type: 'A merge is always exact: ranks add up, and a resize behind it makes it small.',
  concat: 'A merge is always exact: ranks add up, and a resize behind it makes it small.',
  dora_wd: 'It is a network of its own: network = dora { }.',
  enable_bucket: 'Buckets are always used; "bucket" says which.',
  epochs: 'The length of a training is said in optimizer steps: steps = 80.',
  log_prefix: 'Each training has a folder of its own under .lorac/runs.',
  log_with: 'Metrics are always written to .lorac/runs.',
  logging_dir: 'Metrics are always written to .lorac/runs.',
  lr_scheduler_args: 'Arguments stand in the braces: lr_scheduler = cosine { num_cycles = 0.375 }.',
  max_data_loader_n_workers: 'Images are encoded once, before training, so there is nothing to load.',
  max_train_epochs: 'The length of a training is said in optimizer steps: steps = 80.',
  network_args: 'Arguments stand in the braces: network = locon { conv_dim = 256 }.',
  no_half_vae: 'Write vae_precision = fp32, which is the default.',
  num_cpu_threads_per_process: 'Set LORAC_THREADS where the number of processor cores is not what you want.',
  num_train_epochs: 'The length of a training is said in optimizer steps: steps = 80.',
  output_dir: 'A save block names the whole path: save "folder/name.safetensors" { from = … }.',
  output_name: 'A save block names the whole path: save "folder/name.safetensors" { from = … }.',
  ratios: 'Weights stand beside the names: from = { a = 0.8  b = 0.5 }.',
  save_model_as: 'Files are always safetensors.',
  save_to: 'A save block names the whole path: save "folder/name.safetensors" { from = … }.',
  sdpa: 'It is always on.',
  use_scalar: 'It is always off.',
  xformers: "PyTorch's own attention is always used.",
};
