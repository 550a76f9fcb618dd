// The rows of the schema table for LoRAs that are there: shrunk, chopped, merged, looked at, and saved.

import { LORA_FORMATS } from '../lora-formats.ts';
import {
  blockNumbers,
  boolean,
  either,
  integer,
  list,
  listOfDifferent,
  networkBlock,
  number,
  optional,
  positive,
  preset,
  reference,
  required,
  text,
  weightedReferences,
  words,
} from './types.ts';

/** The blocks that are LoRAs, and can be shrunk, chopped, merged, looked at and saved. */
export const loraKinds = ['train', 'lora', 'resize', 'chop', 'merge'] as const;

/** The blocks that make a picture, which can be saved. */
export const pictureKinds = ['preview', 'analyze'] as const;

const storedIn = preset(words('fp16', 'fp32', 'bf16'), 'fp16', 'Numbers that the result is stored in.', {
  synonyms: ['save_precision', 'dtype', 'save_dtype', 'output_dtype'],
});

const baseSynonyms = ['model', 'base_model', 'checkpoint', 'ckpt', 'sd_model', 'pretrained_model_name_or_path'];

const promptSynonyms = ['prompt', 'sample_prompts', 'prompt_file', 'prompts_file', 'from_file'];

const sampler = preset(words('euler_a'), 'euler_a', 'How the pictures are sampled.', {
  synonyms: ['sample_sampler', 'sampler_name'],
});

const mixedPrecision = preset(words('bf16', 'fp32'), 'bf16', 'Numbers that the network computes with.', {
  synonyms: ['precision', 'dtype'],
});

export const lora = {
  path: required(text('path'), 'A LoRA of any trainer in a .safetensors file, whatever its modules are called.', {
    synonyms: [
      'file',
      'filename',
      'lora_path',
      'lora_name',
      'lora_model',
      'network_weights',
      'weights',
      'name_or_path',
      'pretrained_lora',
    ],
  }),
  base: optional(
    reference('checkpoint'),
    'The checkpoint that it was trained on. A resize that compares with it, a preview and an analyze ask for it.',
    { synonyms: [...baseSynonyms, 'trained_on'] },
  ),
};

/** The largest rank that other families can be made LoRA of. */
export const LARGEST_EXTRACT = 1024;

export const resize = {
  from: required(reference(...loraKinds), 'The LoRA to shrink.', { synonyms: ['lora', 'input', 'source', 'of'] }),
  fro_ckpt: optional(
    number(),
    'Weight of the Frobenius norm of the base weight in the score. 1 when no score key is written.',
  ),
  spn_ckpt: optional(number(), 'Weight of the largest singular value of the base weight in the score.'),
  spn_lora: optional(number(), 'Weight of the largest singular value of the module in the score.'),
  fro_lora: optional(number(), 'Weight of the Frobenius norm of the module in the score.'),
  subspace: optional(number(), 'Weight, in the score, of what the base weight does to the same direction.'),
  params: optional(number(), 'Weight of the parameters that a direction costs in the score.'),
  thr: optional(
    number(),
    'Directions whose score (a base-10 logarithm) is below this are dropped. The default holds where nothing else says what goes.',
    {
      synonyms: ['threshold', 'cutoff'],
      default: -3.55,
    },
  ),
  size: optional(
    number({ min: 0, openMin: true, unit: 'MiB' }),
    'Drop directions until this many MiB are left, in place of thr.',
    {
      synonyms: ['target_size', 'max_size', 'mib', 'megabytes'],
    },
  ),
  max_rank: optional(integer({ min: 1 }), 'At most the best so many directions of each module.', {
    synonyms: ['new_rank', 'rank', 'dim', 'network_dim', 'max_dim'],
  }),
  min_rank: optional(
    integer({ min: 1 }),
    'At least the best so many directions of each module, whatever else is written.',
    {
      synonyms: ['min_dim'],
    },
  ),
  sv_ratio: optional(
    number({ min: 1 }),
    'Drop directions of a module whose singular value is not above its largest, divided by this.',
  ),
  sv_fro: optional(
    number({ min: 0, max: 1, openMin: true }),
    'Keep the fewest directions of each module that have this share of its Frobenius norm.',
  ),
  sv_cumulative: optional(
    number({ min: 0, max: 1, openMin: true }),
    'Keep the fewest directions of each module whose singular values have this share of their sum.',
  ),
  rescale: preset(positive(), 1, 'Multiplies the whole LoRA.', { synonyms: ['scale', 'strength', 'multiplier'] }),
  extract: optional(
    integer({ min: 1, max: LARGEST_EXTRACT }),
    'Modules of LoHa, LoKr, GLoRA and full become LoRA of at most this rank before anything is dropped. Without it they are kept whole, and listed.',
    { synonyms: ['extract_rank', 'extract_dim', 'fixed_dim', 'linear_dim'] },
  ),
  precision: storedIn,
};

export const chop = {
  from: required(reference(...loraKinds), 'The LoRA to chop.', { synonyms: ['lora', 'input', 'source', 'of'] }),
  keep: optional(list(networkBlock()), 'Blocks that stay; all others go.', {
    synonyms: ['only', 'include', 'blocks', 'keep_blocks'],
  }),
  drop: optional(list(networkBlock()), 'Blocks that go; all others stay.', {
    synonyms: ['remove', 'exclude', 'without', 'delete', 'drop_blocks'],
  }),
  mask: optional(
    text('mask'),
    'A vector of 12, 20 or 21 weights, as ComfyUI and chop_blocks write it (first all that lies outside the blocks), or the name of a preset of the Inspire pack, such as SDXL-LyC-OUTALL.',
    { synonyms: ['vector', 'block_vector', 'lbw', 'block_vector_string'] },
  ),
  weights: optional(blockNumbers(), 'A weight for each named block; all others go. 0.5 halves what a block does.', {
    synonyms: ['block_weights', 'block_weight', 'weight'],
  }),
  text_encoders: preset(
    either(words('keep', 'drop'), number()),
    'keep',
    'What becomes of TE1 and TE2 where the blocks above do not name them: keep, drop, or a weight.',
    { synonyms: ['text_encoder', 'te', 'clip'] },
  ),
};

export const merge = {
  from: required(
    weightedReferences(...loraKinds),
    'The LoRAs to add up: a list, each with weight 1, or a record of weights, which may be negative and not 0. The sum is exact: ranks add up, and a resize behind it makes it small.',
    {
      synonyms: ['loras', 'lora', 'models', 'inputs', 'sources', 'of', 'adapters', 'weights', 'adapter_weights'],
    },
  ),
  precision: storedIn,
};

export const preview = {
  loras: required(listOfDifferent(reference(...loraKinds)), 'The LoRAs to look at: a column each.', {
    synonyms: ['lora', 'from', 'of', 'models', 'adapters', 'inputs'],
  }),
  strengths: preset(
    listOfDifferent(number()),
    [1],
    'How strong each LoRA is applied: a column for each LoRA and strength. May be negative, not 0.',
    {
      synonyms: [
        'strength',
        'weights',
        'weight',
        'scales',
        'scale',
        'lora_scale',
        'multipliers',
        'multiplier',
        'network_mul',
      ],
    },
  ),
  base: optional(
    reference('checkpoint'),
    'The checkpoint to render with. Without it the one that the LoRAs were trained on.',
    { synonyms: baseSynonyms },
  ),
  prompts: required(text('path'), 'Text file with one prompt per line: a row each.', { synonyms: promptSynonyms }),
  without: preset(boolean(), true, 'Begin with a column without any LoRA.', {
    synonyms: ['baseline', 'no_lora', 'with_base', 'compare'],
  }),
  sampler,
  mixed_precision: mixedPrecision,
};

export const analyze = {
  from: required(reference(...loraKinds), 'The LoRA to look into.', {
    synonyms: ['lora', 'loras', 'input', 'source', 'of'],
  }),
  base: optional(
    reference('checkpoint'),
    'The checkpoint to compare with, and to render with. Without it the one that the LoRA was trained on.',
    { synonyms: baseSynonyms },
  ),
  prompts: optional(
    text('path'),
    'Text file with one prompt per line. Each is rendered with one block at a time on, and off. Without it there are numbers only.',
    { synonyms: promptSynonyms },
  ),
  share: preset(
    number({ min: 0, max: 1, openMin: true }),
    0.8,
    'The share of the effect that the proposed list of blocks to keep has to have.',
    { synonyms: ['fraction', 'coverage', 'target'] },
  ),
  sampler,
  mixed_precision: mixedPrecision,
};

export const save = {
  from: required(
    reference(...loraKinds, ...pictureKinds, 'run'),
    'The LoRA to put there, what made the picture (a preview, or an analyze that has prompts), an output of a run, or of a training that makes pictures raw.montage (a .png file) or raw.animation (.webp).',
    { synonyms: ['lora', 'input', 'source', 'of', 'picture', 'image'] },
  ),
  format: preset(
    words(...LORA_FORMATS),
    'kohya',
    'What modules are called in the file of a LoRA. kohya is what most programs read; diffusers is for PEFT as well.',
    { synonyms: ['naming', 'save_format', 'output_format', 'convert_to', 'style'] },
  ),
  overwrite: preset(boolean(), false, 'Replace a file that lorac did not put there.', {
    synonyms: ['force', 'replace'],
    fingerprint: false,
  }),
};
