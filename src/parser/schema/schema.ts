// The schema table: every word that a user can write, one row per attribute of each kind of block.
// Checking, defaults, the language reference, hints and the TypeScript types of a checked program all come from here.
// Adding a setting is adding a row.

import { checkpoint } from './checkpoint.ts';
import { dataset } from './dataset.ts';
import { run } from './run.ts';
import { analyze, chop, lora, merge, preview, resize, save } from './surgery.ts';
import { train } from './training.ts';
import type { Fields, FieldValues } from './types.ts';

export { lacking, needless, saidElsewhere } from './elsewhere.ts';
export { loraKinds, pictureKinds } from './surgery.ts';

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
  run,
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
  run: 'A command of your own, run when something that it reads has changed. What it writes is stored, and can be saved.',
  save: 'A LoRA as a .safetensors file of yours, a picture as a .png file, or what a run wrote. The name of the block is the path, in quotes.',
};

export function isBlockKind(word: string): word is BlockKind {
  return Object.hasOwn(schema, word);
}

export function fieldsOf(kind: BlockKind): Fields {
  return schema[kind];
}
