// Every spelling of a module's name leads to the one that kohya's trainers give it.

import { expect, test } from 'vitest';
import { groupModules } from '../../../src/runtime/sdxl/lora.ts';
import { kohyaName, readModuleName, type Scheme } from '../../../src/runtime/sdxl/names.ts';
import { type ModuleEntry, sdxlModules } from './sdxl-fixtures.ts';

const table = sdxlModules();

/** What a trainer calls the module, by how it spells. */
function spellings({ lora_key, ldm_key, diffusers_key }: ModuleEntry): readonly (readonly [Scheme, string])[] {
  const underscored = diffusers_key.replaceAll('.', '_');
  if (lora_key.startsWith('lora_unet_')) {
    const ldm = ldm_key.replace(/^model\.diffusion_model\./, '').replace(/\.weight$/, '');
    return [
      ['kohya', lora_key],
      ['kohya-diffusers', `lora_unet_${underscored}`],
      ['diffusers', `unet.${diffusers_key}`],
      ['peft', `base_model.model.${diffusers_key}`],
      ['comfyui', `diffusion_model.${ldm}`],
      ['comfyui', `model.diffusion_model.${ldm}`],
      ['lycoris', `lycoris_${underscored}`],
      ['bare', diffusers_key],
    ];
  }
  const isFirst = lora_key.startsWith('lora_te1_');
  return [
    ['kohya', lora_key],
    ['diffusers', `${isFirst ? 'text_encoder' : 'text_encoder_2'}.${diffusers_key}`],
    ['comfyui', `text_encoders.${isFirst ? 'clip_l' : 'clip_g'}.transformer.${diffusers_key}`],
  ];
}

test('every spelling of all 1,052 modules is the same module', () => {
  for (const entry of table) {
    for (const [scheme, spelling] of spellings(entry)) {
      const name = readModuleName(spelling);
      expect([spelling, name && kohyaName(name), name?.scheme]).toEqual([spelling, entry.lora_key, scheme]);
    }
  }
});

test.each([
  ['lora_unet_conv_in', 'lora_unet_input_blocks_0_0'],
  ['lora_unet_time_embedding_linear_2', 'lora_unet_time_embed_2'],
  ['unet.add_embedding.linear_1', 'lora_unet_label_emb_0_0'],
  ['lora_unet_conv_out', 'lora_unet_out_2'],
  ['lora_unet_down_blocks_0_resnets_1_norm2', 'lora_unet_input_blocks_2_0_out_layers_0'],
  ['unet.mid_block.attentions.0.transformer_blocks.3.norm1', 'lora_unet_middle_block_1_transformer_blocks_3_norm1'],
  [
    'unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out',
    'lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0',
  ],
  ['lora_te2_text_projection', 'lora_te2_text_projection'],
  ['lora_te1_encoder_layers_0_mlp_fc1', 'lora_te1_text_model_encoder_layers_0_mlp_fc1'],
  ['lora_te_text_model_encoder_layers_0_mlp_fc1', 'lora_te_text_model_encoder_layers_0_mlp_fc1'],
  ['lora_unet_up_blocks_3_resnets_2_conv1', 'lora_unet_output_blocks_11_0_in_layers_2'],
])('%s is %s', (spelling, name) => {
  const read = readModuleName(spelling);
  expect(read && kohyaName(read)).toBe(name);
});

test.each([
  'lora_unet_double_blocks_0_img_attn_qkv',
  'transformer.layers.0',
  'bundle_emb.cat',
  'base_model.model.text_model.encoder.layers.0.mlp.fc1',
])('%s is no module that we can place', (spelling) => {
  expect(readModuleName(spelling)).toBeUndefined();
});

const attention = 'down_blocks.1.attentions.0.transformer_blocks.0.attn1';

test.each([
  ['kohya', 'lora_unet_input_blocks_4_1_proj_in', ['lora_down.weight', 'lora_up.weight']],
  ['PEFT', `unet.${attention}.to_q`, ['lora_A.weight', 'lora_B.weight']],
  ['PEFT, named adapter', `base_model.model.${attention}.to_q`, ['lora_A.default.weight', 'lora_B.default.weight']],
  ['PEFT, bare', `unet.${attention}.to_q`, ['lora_A', 'lora_B']],
  ['diffusers, attached', `unet.${attention}.to_q`, ['lora.down.weight', 'lora.up.weight']],
  [
    'diffusers, text encoder',
    'text_encoder.text_model.encoder.layers.0.self_attn.q_proj',
    ['lora_linear_layer.down.weight', 'lora_linear_layer.up.weight'],
  ],
])('down and up are found in the spelling of %s', (_, module, suffixes) => {
  const { modules, strangers } = groupModules(suffixes.map((suffix) => `${module}.${suffix}`));
  expect(strangers).toEqual([]);
  expect(modules.map(({ name, family, tensors }) => [name, family, [...tensors.keys()]])).toEqual([
    [module, 'LoRA', ['down', 'up']],
  ]);
});

test('down and up are found in the spelling of early diffusers', () => {
  const start = `unet.${attention}.processor.to_out_lora`;
  const { modules, strangers } = groupModules([`${start}.down.weight`, `${start}.up.weight`]);
  expect(strangers).toEqual([]);
  expect(modules).toMatchObject([{ name: `unet.${attention}.processor.to_out`, block: 'IN04', family: 'LoRA' }]);
});
