// The rows of the schema table for networks: what is trained beside the layers of a checkpoint.

import {
  boolean,
  either,
  integer,
  layerNumbers,
  list,
  number,
  positive,
  preset,
  tagged,
  text,
  words,
} from './types.ts';

const layers = {
  preset: preset(
    words('full', 'attn-mlp', 'attn-only', 'unet-only'),
    'full',
    'Which layers get an adapter. full: linear layers and convolutions of all blocks, and both text encoders. attn-mlp: without convolutions and time layers. attn-only: only attention. unet-only: full without the text encoders.',
    { synonyms: ['lycoris_preset', 'target_preset'] },
  ),
  modules: preset(
    list(text()),
    [],
    'Patterns of names, such as "lora_unet_output_blocks_1_*". Of the layers of the preset only those stay whose names in LoRA files fit one. Without any, all stay.',
    { synonyms: ['target_modules', 'include_patterns', 'unet_target_name', 'layers', 'target_layers'] },
  ),
  text_encoder_modules: preset(
    words('all', 'mlp'),
    'all',
    'Which layers of the text encoders get an adapter. mlp: fc1 and fc2 alone, as files of LyCORIS up to 3.1.0 have it.',
    { synonyms: ['text_encoder_target_module', 'te_modules'] },
  ),
};

const rank = integer({ min: 1, max: 4096 });
const rankOrNone = integer({ min: 0, max: 4096 });

const ranks = (usual: { readonly dim: number; readonly alpha: number; readonly conv_dim: number }) => ({
  dim: preset(rank, usual.dim, 'Rank of linear layers and 1x1 convolutions.', {
    synonyms: ['network_dim', 'rank', 'r', 'lora_rank', 'linear', 'network_rank', 'lora_dim'],
  }),
  alpha: preset(positive(), usual.alpha, 'Linear layers are scaled by alpha / dim.', {
    synonyms: ['network_alpha', 'lora_alpha', 'linear_alpha'],
  }),
  conv_dim: preset(rank, usual.conv_dim, 'Rank of 3x3 convolutions.', {
    synonyms: ['conv_rank', 'network_conv_dim', 'conv_lora_dim'],
  }),
  conv_alpha: preset(positive(), usual.alpha, '3x3 convolutions are scaled by conv_alpha / conv_dim.', {
    synonyms: ['network_conv_alpha'],
  }),
  dims: preset(
    layerNumbers(rankOrNone),
    {},
    'Ranks by block or layer in place of dim, such as { OUT01 = 16  MID = 32  "*_attn2_to_k" = 4 }. What has 0 is left alone, also its 3x3 convolutions unless conv_dims gives them a rank.',
    { synonyms: ['block_dims', 'rank_pattern', 'block_ranks', 'ranks', 'network_reg_dims'] },
  ),
  conv_dims: preset(
    layerNumbers(rankOrNone),
    {},
    'Ranks by block or layer in place of conv_dim. 0 leaves the convolutions alone.',
    { synonyms: ['conv_block_dims', 'conv_ranks'] },
  ),
  rs_lora: preset(
    boolean(),
    false,
    'Scale by alpha over the root of the rank. The saved alpha is such that programs that divide by the rank compute the same.',
    { synonyms: ['rslora', 'use_rslora', 'rank_stabilized'] },
  ),
});

const chance = number({ min: 0, max: 1, openMax: true });

const dropouts = {
  dropout: preset(chance, 0, 'Chance of each value that an adapter adds to be left out in training.', {
    synonyms: ['network_dropout', 'lora_dropout'],
  }),
  module_dropout: preset(chance, 0, 'Chance of a whole adapter to be left out for an image.'),
};

const rankDropouts = {
  rank_dropout: preset(
    chance,
    0,
    'Chance of each rank to be left out for an image; of each output, where there is no rank between two matrices.',
  ),
  rank_dropout_scale: preset(boolean(), false, 'Make up for the ranks that were left out.'),
};

const trainNorm = preset(
  boolean(),
  false,
  'Train the norms between the chosen layers of the UNet as well. attn-only has none.',
  { synonyms: ['norm', 'train_norms'] },
);

const useTucker = preset(boolean(), false, '3x3 convolutions get a core of their own between two 1x1 convolutions.', {
  synonyms: ['use_cp', 'use_conv_cp', 'tucker', 'use_effective_conv2d'],
});

const useScalar = preset(
  boolean(),
  false,
  'Give each adapter a number to learn that it is multiplied with and that begins at 0. In files it is a part of a factor.',
  { synonyms: ['scalar', 'learn_scalar'] },
);

const lowRank = (usual: { readonly dim: number; readonly alpha: number; readonly conv_dim: number }) => ({
  ...layers,
  ...ranks(usual),
  use_tucker: useTucker,
  use_scalar: useScalar,
  train_norm: trainNorm,
  ...dropouts,
  ...rankDropouts,
});

export const network = tagged({
  locon: lowRank({ dim: 8, alpha: 4, conv_dim: 256 }),
  dora: {
    ...lowRank({ dim: 8, alpha: 4, conv_dim: 256 }),
    wd_on_output: preset(
      boolean(),
      true,
      'Learn the length of each row of a weight, one for each output. false: of each column, one for each input.',
      { synonyms: ['wd_on_out', 'dora_on_output'] },
    ),
  },
  loha: lowRank({ dim: 8, alpha: 4, conv_dim: 8 }),
  lokr: {
    ...lowRank({ dim: 8, alpha: 4, conv_dim: 8 }),
    factor: preset(
      either(integer({ min: 2, max: 4096 }), words('balanced')),
      'balanced',
      'About the size of the smaller of the two matrices whose Kronecker product is trained. balanced: as near to the other as can be, which LyCORIS writes as -1.',
      { synonyms: ['lokr_factor', 'decompose_factor'] },
    ),
    decompose_both: preset(boolean(), false, 'Give the smaller matrix a rank as well, where that makes it smaller.'),
    full_matrix: preset(boolean(), false, 'Give neither matrix a rank. dim and alpha mean nothing then.'),
    unbalanced_factorization: preset(
      boolean(),
      false,
      'Cut outputs the other way round than inputs, so that the first matrix is tall and the second wide.',
    ),
  },
  full: { ...layers, train_norm: trainNorm, ...dropouts },
});
