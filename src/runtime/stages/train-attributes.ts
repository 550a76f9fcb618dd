// What a training's attributes mean, however a program says it.

import type { Json } from '../graph/json.ts';
import { numbersByBlock } from '../sdxl/block-weights.ts';
import type { Network } from '../worker/protocol.ts';

/** Settings that came later, as trainings of before had them. Written so or not at all, they are no part of a training. */
const asBefore: { readonly [name: string]: Json } = {
  crop_conditioning: 'real',
  latents: 'fresh',
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
    ...(given.kind === 'full' ? {} : { dims: byBlock(given.dims), conv_dims: byBlock(given.conv_dims) }),
  };
  const rates = block_lr && { block_lr: byBlock(block_lr as { readonly [block: string]: number }) };
  return { ...without(asBefore, others), ...saidByRates, network: canonical, ...rates };
}

function without(usual: { readonly [name: string]: Json }, settings: object): { readonly [name: string]: Json } {
  return Object.fromEntries(
    Object.entries(settings).filter(([name, value]) => JSON.stringify(usual[name]) !== JSON.stringify(value)),
  );
}

const byBlock = (numbers: { readonly [block: string]: number }) => Object.fromEntries(numbersByBlock(numbers));
