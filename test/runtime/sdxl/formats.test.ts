// Names of modules, from any format to any other, for every module that SDXL has.

import { describe, expect, test } from 'vitest';
import { LORA_FORMATS, type LoraFormat } from '../../../src/parser/lora-formats.ts';
import { canonicalName, diffusersPath, type Generation, moduleNameIn } from '../../../src/runtime/sdxl/formats.ts';
import { kohyaName, readModuleName } from '../../../src/runtime/sdxl/names.ts';
import { sdxlModules, sdxlShapes } from './sdxl-fixtures.ts';

/** kohya's name of a module, and the path that diffusers has for it. */
interface Named {
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

const all: readonly Named[] = [
  ...sdxlModules().map(({ lora_key, diffusers_key }) => ({ kohya: lora_key, diffusers: diffusers_key })),
  ...outside,
  textProjection,
];

/** Made from the tables alone, without any rule of ours. */
function expected(format: LoraFormat, { kohya, diffusers }: Named): string {
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
const checkpointNames = new Map(
  [...sdxlShapes().keys()]
    .filter((key) => key.startsWith('model.diffusion_model.') && key.endsWith('.weight'))
    .map((key) => key.slice('model.diffusion_model.'.length, -'.weight'.length))
    .map((layer) => [layer.replaceAll('.', '_'), layer]),
);

function read(name: string) {
  const found = readModuleName(name);
  if (found === undefined) throw new Error(`"${name}" cannot be read`);
  return found;
}

describe.each(LORA_FORMATS)('as %s', (format) => {
  test('every module is named as the tables say', () => {
    for (const module of all) expect(moduleNameIn(format, read(module.kohya), 'SDXL')).toBe(expected(format, module));
  });

  test.each(LORA_FORMATS)('and from there as %s', (other) => {
    for (const module of all)
      expect(moduleNameIn(other, read(expected(format, module)), 'SDXL')).toBe(expected(other, module));
  });
});

test('no two modules of SDXL have one name', () => {
  for (const format of LORA_FORMATS) {
    const names = all.map((module) => moduleNameIn(format, read(module.kohya), 'SDXL'));
    expect(new Set(names).size).toBe(all.length);
  }
});

test('every layer of the UNet has a name in every format, norms as well', () => {
  expect(checkpointNames.size).toBeGreaterThan(1000);
  for (const layer of checkpointNames.keys()) {
    const path = diffusersPath(layer);
    expect([layer, path === undefined]).toEqual([layer, false]);
    for (const format of LORA_FORMATS) {
      const name = moduleNameIn(format, read(`lora_unet_${layer}`), 'SDXL') ?? '';
      expect(kohyaName(read(name))).toBe(`lora_unet_${layer}`);
    }
  }
});

test.each<readonly [string, Generation, { readonly [format in LoraFormat]: string }]>([
  [
    'lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn1_to_out_0',
    'SD1',
    {
      kohya: 'lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn1_to_out_0',
      'kohya-diffusers': 'lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn1_to_out_0',
      diffusers: 'unet.up_blocks.3.attentions.2.transformer_blocks.0.attn1.to_out.0',
      comfyui: 'diffusion_model.output_blocks.11.1.transformer_blocks.0.attn1.to_out.0',
      lycoris: 'lycoris_up_blocks_3_attentions_2_transformer_blocks_0_attn1_to_out_0',
    },
  ],
  [
    // The only upsampler without attention before it.
    'unet.up_blocks.0.upsamplers.0.conv',
    'SD1',
    {
      kohya: 'lora_unet_up_blocks_0_upsamplers_0_conv',
      'kohya-diffusers': 'lora_unet_up_blocks_0_upsamplers_0_conv',
      diffusers: 'unet.up_blocks.0.upsamplers.0.conv',
      comfyui: 'diffusion_model.output_blocks.2.1.conv',
      lycoris: 'lycoris_up_blocks_0_upsamplers_0_conv',
    },
  ],
  [
    'text_encoder.text_model.encoder.layers.11.mlp.fc2',
    'SD1',
    {
      kohya: 'lora_te_text_model_encoder_layers_11_mlp_fc2',
      'kohya-diffusers': 'lora_te_text_model_encoder_layers_11_mlp_fc2',
      diffusers: 'text_encoder.text_model.encoder.layers.11.mlp.fc2',
      comfyui: 'text_encoders.clip_l.transformer.text_model.encoder.layers.11.mlp.fc2',
      lycoris: 'lora_te_text_model_encoder_layers_11_mlp_fc2',
    },
  ],
  [
    'lora_te_text_model_encoder_layers_11_mlp_fc2',
    'SD2',
    {
      kohya: 'lora_te_text_model_encoder_layers_11_mlp_fc2',
      'kohya-diffusers': 'lora_te_text_model_encoder_layers_11_mlp_fc2',
      diffusers: 'text_encoder.text_model.encoder.layers.11.mlp.fc2',
      comfyui: 'text_encoders.clip_h.transformer.text_model.encoder.layers.11.mlp.fc2',
      lycoris: 'lora_te_text_model_encoder_layers_11_mlp_fc2',
    },
  ],
])('%s of %s', (written, generation, names) => {
  for (const format of LORA_FORMATS) {
    expect(moduleNameIn(format, read(written), generation)).toBe(names[format]);
    // And back: what ComfyUI calls it is read as the same module.
    expect(canonicalName(read(names[format]), generation)).toBe(names.kohya);
  }
});

test.each([
  ['unet.down_blocks.0.attentions.1.transformer_blocks.0.attn1.processor.to_out', '…_attn1_to_out_0'],
  ['base_model.model.mid_block.attentions.0.proj_in', '…middle_block_1_proj_in'],
  ['lora_te1_encoder_layers_3_mlp_fc1', '…te1_text_model_encoder_layers_3_mlp_fc1'],
])('"%s" of an older trainer gets the name that loaders know', (written, end) => {
  expect(canonicalName(read(written), 'SDXL').endsWith(end.slice(1))).toBe(true);
});

test.each([
  ['lora_unet_input_blocks_4_1_foo', ['comfyui', 'diffusers']],
  ['lora_unet_input_blocks_3_1_proj_in', ['kohya-diffusers', 'diffusers', 'lycoris']],
  ['lora_te2_text_model_head', ['diffusers', 'comfyui']],
] as const)('%s, which no SDXL has, has no name in %j', (written, formats) => {
  const without = LORA_FORMATS.filter((format) => moduleNameIn(format, read(written), 'SDXL') === undefined);
  expect([...without].sort()).toEqual([...formats].sort());
});
