// From the name of a LoRA's module to the block that it belongs to.
// A block has the same name whatever else a file holds, and however the file spells its modules.

import { type BlockName, type Network, SDXL, STABLE_DIFFUSION } from '../../parser/blocks.ts';
import type { ModuleName } from './names.ts';

/** Where a module is: in `OUT01`, in the layer `TE1.3` of `TE1`, in `REST`. */
export interface Place {
  readonly block: BlockName;
  /** `undefined` outside of text encoders, and for what an encoder has beside its layers. */
  readonly layer: BlockName | undefined;
}

/** `undefined` where the module belongs to no part of the network that has a name. */
export function placeIn(network: Network, { component, path }: ModuleName): Place | undefined {
  const block = component === 'unet' ? unetBlock(path) : encoderBlock(network, component);
  if (!network.blocks.includes(block as BlockName)) return undefined;
  const [, index] = component === 'unet' ? [] : (/^text_model_encoder_layers_(\d+)(?:_|$)/.exec(path) ?? []);
  const layer = index === undefined ? undefined : network.layers.get(block as BlockName)?.[Number(index)];
  return { block: block as BlockName, layer };
}

/** Diffusers calls the first text encoder of SDXL and the only one of Stable Diffusion 1 and 2 alike. */
function encoderBlock(network: Network, component: 'te' | 'te1' | 'te2'): string {
  return network === STABLE_DIFFUSION && component === 'te1' ? 'TE' : component.toUpperCase();
}

function unetBlock(path: string): string {
  const [, section = '', index = ''] = /^(input_blocks|middle_block|output_blocks)_(\d+)(?:_|$)/.exec(path) ?? [];
  const word = { input_blocks: 'IN', middle_block: 'MID', output_blocks: 'OUT' }[section];
  return word === undefined ? 'REST' : `${word}${index.padStart(2, '0')}`;
}

/** What networks are told apart by. */
export interface NetworkClue {
  readonly name: ModuleName;
  /** How many inputs the adapted weight has, where that is known. */
  readonly width: number | undefined;
}

/**
 * Whose blocks a file has. Both networks name most of them alike, so it is what only one of them has that decides,
 * then how wide the text is that attention reads; where nothing does, it is SDXL.
 */
export function networkOf(clues: Iterable<NetworkClue>): Network {
  let found: Network | undefined;
  for (const { name, width } of clues) {
    const sign = signOf(name, width);
    // What only SDXL has is beyond doubt; a foreign module in such a file changes nothing.
    if (sign === SDXL) return SDXL;
    found ??= sign;
  }
  return found ?? SDXL;
}

/** SDXL has no attention at the finest level and nine blocks on each side; Stable Diffusion has no deeper transformers than one. */
function signOf({ component, path }: ModuleName, width: number | undefined): Network | undefined {
  if (component === 'te') return STABLE_DIFFUSION;
  if (component === 'te2') return SDXL;
  if (component === 'te1') return undefined;
  if (/^label_emb_|_transformer_blocks_[1-9]/.test(path)) return SDXL;
  if (/_attn2_to_[kv]$/.test(path) && width !== undefined) {
    if (width === 2048) return SDXL;
    if (width === 768 || width === 1024) return STABLE_DIFFUSION;
  }
  if (/^(?:input|output)_blocks_(?:9|1\d)_|^input_blocks_[12]_1_|^output_blocks_[678]_1_(?!conv)/.test(path))
    return STABLE_DIFFUSION;
  return undefined;
}
