// What sd-scripts takes where nothing is written, as far as lorac takes something else. Read in 0.8 to 0.10,
// library/train_util.py and train_network.py.

import type { Plain } from './plain.ts';

export const sdScriptsDefaults: ReadonlyMap<string, Plain> = new Map<string, Plain>([
  ['caption_extension', '.caption'],
  ['shuffle_caption', false],
  ['flip_aug', false],
  ['min_bucket_reso', 256],
  ['max_bucket_reso', 1024],
  ['bucket_reso_steps', 64],
  ['network_module', 'networks.lora'],
  ['network_dim', 4],
  ['network_alpha', 1],
  ['optimizer_type', 'AdamW'],
  ['learning_rate', 2e-6],
  ['lr_scheduler', 'constant'],
  ['max_grad_norm', 1],
  ['max_train_steps', 1600],
  ['train_batch_size', 1],
  ['gradient_accumulation_steps', 1],
  ['mixed_precision', 'no'],
  ['save_precision', 'float'],
]);
