// What a training's attributes mean, however a program says it.

import type { Json } from '../graph/json.ts';
import { numbersByBlock } from '../sdxl/block-weights.ts';
import type { Network } from '../worker/protocol.ts';

/** Settings that came later, as trainings of before had them. Written so or not at all, they are no part of a training. */
const asBefore: { readonly [name: string]: Json } = { crop_conditioning: 'real', latents: 'fresh' };

/** What is not trained has a rate of 0, so these say nothing more: they are always as where nobody writes them. */
const saidByRates = { train_unet: true, train_text_encoder: true };

/** Groups and other spellings of blocks become blocks, and what has no order is sorted. */
export function canonicalTraining(written: { readonly [name: string]: Json }): { readonly [name: string]: Json } {
  const { network, block_lr, ...others } = written;
  if (network === undefined) return written;
  const given = network as unknown as Network;
  const canonical = {
    ...given,
    modules: [...new Set(given.modules)].sort(),
    ...(given.kind === 'full' ? {} : { dims: byBlock(given.dims), conv_dims: byBlock(given.conv_dims) }),
  };
  const rates = block_lr && { block_lr: byBlock(block_lr as { readonly [block: string]: number }) };
  const told = Object.entries(others).filter(([name, value]) => asBefore[name] !== value);
  return { ...Object.fromEntries(told), ...saidByRates, network: canonical, ...rates };
}

const byBlock = (numbers: { readonly [block: string]: number }) => Object.fromEntries(numbersByBlock(numbers));
