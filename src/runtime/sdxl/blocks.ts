// From the name of a LoRA's module to the block that it belongs to, in every spelling that trainers use:
// the checkpoint's own (`lora_unet_output_blocks_1_1_…`), diffusers' with underscores or with dots (`unet.up_blocks.0.…`).
// A block has the same name whatever else a file holds.

import { BLOCKS, type BlockName } from '../../parser/blocks.ts';

const byName: ReadonlyMap<string, BlockName> = new Map(BLOCKS.map((block) => [block, block]));

/** `undefined` where the name belongs to no part of SDXL that has a name. */
export function blockOf(module: string): BlockName | undefined {
  const path = module.replaceAll('.', '_').replace(/^(?:base_model_model_)+/, '');
  const text = /^(?:lora_)?(te1|te2|text_encoder_2|text_encoder)_/.exec(path)?.[1];
  if (text !== undefined) return byName.get(text === 'te2' || text === 'text_encoder_2' ? 'TE2' : 'TE1');
  const inner = path.replace(/^(?:lora_unet_|lycoris_|unet_|model_diffusion_model_|diffusion_model_)/, '');
  return checkpointBlock(inner) ?? diffusersBlock(inner) ?? outsideBlock(inner);
}

function checkpointBlock(path: string): BlockName | undefined {
  const [, section, index] = /^(input_blocks|middle_block|output_blocks)_(\d+)_/.exec(path) ?? [];
  if (section === undefined || index === undefined) return undefined;
  return numbered({ input_blocks: 'IN', middle_block: 'MID', output_blocks: 'OUT' }[section] ?? '', Number(index));
}

function diffusersBlock(path: string): BlockName | undefined {
  const [, middle, place] = /^mid_block_(resnets|attentions)_(\d+)_/.exec(path) ?? [];
  if (middle !== undefined) return numbered('MID', middle === 'attentions' ? 1 : 2 * Number(place));
  const [, side, levelText, part, placeText] =
    /^(down|up)_blocks_(\d+)_(resnets|attentions|downsamplers|upsamplers)_(\d+)_/.exec(path) ?? [];
  if (side === undefined) return undefined;
  const level = Number(levelText);
  if (side === 'down') return numbered('IN', 1 + 3 * level + (part === 'downsamplers' ? 2 : Number(placeText)));
  return numbered('OUT', 3 * level + (part === 'upsamplers' ? 2 : Number(placeText)));
}

function outsideBlock(path: string): BlockName | undefined {
  if (/^conv_in(_|$)/.test(path)) return byName.get('IN00');
  const rest = /^(?:time_embed|time_embedding|label_emb|add_embedding|out|conv_out|conv_norm_out)(?:_|$)/;
  return rest.test(path) ? byName.get('REST') : undefined;
}

function numbered(section: string, index: number): BlockName | undefined {
  return byName.get(`${section}${String(index).padStart(2, '0')}`);
}
