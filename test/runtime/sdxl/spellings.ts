// What each format calls each module of SDXL, from tables that were made by running the field's own tools.
// There is no rule of ours in here.

import type { LoraFormat } from '../../../src/parser/lora-formats.ts';
import { sdxlModules, sdxlShapes } from './sdxl-fixtures.ts';

/** kohya's name of a module, and the path that diffusers has for it. */
export interface Named {
  readonly kohya: string;
  readonly diffusers: string;
}

/** Layers of SDXL outside of what preset `full` adapts. */
const outside: readonly Named[] = [
  ['input_blocks_0_0', 'conv_in'],
  ['time_embed_0', 'time_embedding.linear_1'],
  ['time_embed_2', 'time_embedding.linear_2'],
  ['label_emb_0_0', 'add_embedding.linear_1'],
  ['label_emb_0_2', 'add_embedding.linear_2'],
  ['out_0', 'conv_norm_out'],
  ['out_2', 'conv_out'],
  ['input_blocks_4_0_in_layers_0', 'down_blocks.1.resnets.0.norm1'],
  ['middle_block_2_out_layers_0', 'mid_block.resnets.1.norm2'],
  ['output_blocks_5_1_norm', 'up_blocks.1.attentions.2.norm'],
  ['output_blocks_5_1_transformer_blocks_1_norm3', 'up_blocks.1.attentions.2.transformer_blocks.1.norm3'],
].map(([kohya, diffusers]) => ({ kohya: `lora_unet_${kohya}`, diffusers: diffusers as string }));

const textProjection = { kohya: 'lora_te2_text_projection', diffusers: 'text_projection' };

/** All that preset `full` adapts, and more. */
export const everyModule: readonly Named[] = [
  ...sdxlModules().map(({ lora_key, diffusers_key }) => ({ kohya: lora_key, diffusers: diffusers_key })),
  ...outside,
  textProjection,
];

/** The module's name in a format. */
export function spelt(format: LoraFormat, { kohya, diffusers }: Named): string {
  const underscored = diffusers.replaceAll('.', '_');
  if (kohya.startsWith('lora_te')) {
    const isFirst = kohya.startsWith('lora_te1_');
    if (format === 'diffusers') return `${isFirst ? 'text_encoder' : 'text_encoder_2'}.${diffusers}`;
    if (format === 'comfyui') return `text_encoders.${isFirst ? 'clip_l' : 'clip_g'}.transformer.${diffusers}`;
    return kohya;
  }
  switch (format) {
    case 'kohya':
      return kohya;
    case 'kohya-diffusers':
      return `lora_unet_${underscored}`;
    case 'diffusers':
      return `unet.${diffusers}`;
    case 'lycoris':
      return `lycoris_${underscored}`;
    case 'comfyui': {
      const weight = checkpointNames.get(kohya.replace('lora_unet_', ''));
      return `diffusion_model.${weight}`;
    }
  }
}

/** Layers of the UNet by their names with underscores, from the tensors of a checkpoint. */
export const checkpointNames = new Map(
  [...sdxlShapes().keys()]
    .filter((key) => key.startsWith('model.diffusion_model.') && key.endsWith('.weight'))
    .map((key) => key.slice('model.diffusion_model.'.length, -'.weight'.length))
    .map((layer) => [layer.replaceAll('.', '_'), layer]),
);
