// Names of modules, from any format to any other, for every module that SDXL has.

import { describe, expect, test } from 'vitest';
import { LORA_FORMATS, type LoraFormat } from '../../../src/parser/lora-formats.ts';
import { canonicalName, diffusersPath, type Generation, moduleNameIn } from '../../../src/runtime/sdxl/formats.ts';
import { kohyaName, readModuleName } from '../../../src/runtime/sdxl/names.ts';
import { checkpointNames, everyModule, spelt } from './spellings.ts';

function read(name: string) {
  const found = readModuleName(name);
  if (found === undefined) throw new Error(`"${name}" cannot be read`);
  return found;
}

describe.each(LORA_FORMATS)('as %s', (format) => {
  test('every module is named as the tables say', () => {
    for (const module of everyModule)
      expect(moduleNameIn(format, read(module.kohya), 'SDXL')).toBe(spelt(format, module));
  });

  test.each(LORA_FORMATS)('and from there as %s', (other) => {
    for (const module of everyModule)
      expect(moduleNameIn(other, read(spelt(format, module)), 'SDXL')).toBe(spelt(other, module));
  });
});

test('no two modules of SDXL have one name', () => {
  for (const format of LORA_FORMATS) {
    const names = everyModule.map((module) => moduleNameIn(format, read(module.kohya), 'SDXL'));
    expect(new Set(names).size).toBe(everyModule.length);
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
  ['unet.base_model.model.mid_block.attentions.0.proj_in', '…middle_block_1_proj_in'],
  ['text_encoder_2.base_model.model.text_model.encoder.layers.3.mlp.fc1', '…te2_text_model_encoder_layers_3_mlp_fc1'],
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
