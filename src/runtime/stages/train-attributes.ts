// What a training's attributes mean, however a program says it.

import { isLayerPattern } from '../../parser/blocks.ts';
import type { Json } from '../graph/json.ts';
import { numbersByBlock } from '../sdxl/block-weights.ts';
import type { Network, RankedNetwork } from '../worker/protocol.ts';

/** Settings that came later, as trainings of before had them. Written so or not at all, they are no part of a training. */
const asBefore: { readonly [name: string]: Json } = {
  crop_conditioning: 'real',
  latents: 'fresh',
  fp8_base: 'off',
  masked_loss: { unmasked_weight: 0, normalize: false },
};
const networkAsBefore: { readonly [name: string]: Json } = {
  use_scalar: false,
  wd_on_output: true,
  unbalanced_factorization: false,
};

/** What is not trained has a rate of 0, so these say nothing more: they are always as where nobody writes them. */
const saidByRates = { train_unet: true, train_text_encoder: true };

/** Groups and other spellings of blocks become blocks, and what has no order is sorted. */
export function canonicalTraining(written: { readonly [name: string]: Json }): { readonly [name: string]: Json } {
  const { network, block_lr, ...others } = written;
  if (network === undefined) return written;
  const given = network as unknown as Network;
  const canonical = {
    ...without(networkAsBefore, given),
    modules: [...new Set(given.modules)].sort(),
    ...(given.kind === 'full' ? {} : canonicalRanks(given)),
  };
  const rates = block_lr && { block_lr: byBlock(block_lr as { readonly [block: string]: number }) };
  return { ...without(asBefore, others), ...saidByRates, network: canonical, ...rates };
}

function without(usual: { readonly [name: string]: Json }, settings: object): { readonly [name: string]: Json } {
  return Object.fromEntries(
    Object.entries(settings).filter(([name, value]) => JSON.stringify(usual[name]) !== JSON.stringify(value)),
  );
}

/** A 0 once left 3×3 convolutions and norms as they are. Trainings without one are what they were. */
function canonicalRanks({ dims, conv_dims }: RankedNetwork): { readonly [name: string]: Json } {
  const ranks = { dims: byBlock(dims), conv_dims: byBlock(conv_dims) };
  return Object.values(ranks.dims).includes(0) ? { ...ranks, zero_dims: 'all' } : ranks;
}

/** Patterns of layers stay as they are: which layers there are, only the checkpoint tells. */
function byBlock(numbers: { readonly [blockOrPattern: string]: number }): { readonly [name: string]: number } {
  const [patterns, blocks] = [true, false].map((isPattern) =>
    Object.fromEntries(Object.entries(numbers).filter(([key]) => isLayerPattern(key) === isPattern)),
  );
  return { ...Object.fromEntries(numbersByBlock(blocks ?? {})), ...patterns };
}
