// Patterns over the names of SDXL's layers: what fits, and what is near to one that fits nothing.

import { expect, test } from 'vitest';
import { fitsSome, layerNames, namesLike } from '../../../src/runtime/sdxl/layer-names.ts';

test('SDXL has 1052 layers and 255 norms, each once', () => {
  expect(layerNames()).toHaveLength(1052 + 255);
  expect(new Set(layerNames()).size).toBe(1052 + 255);
});

test.each([
  '*_attn2_to_k',
  'lora_unet_output_blocks_[0-2]_*',
  '*layers_3?_mlp_fc[!2]',
  '*_norm2',
  'lora_te1_*',
  '*[z-a]',
])('%s fits some layer, or is left to the worker', (pattern) => {
  expect(fitsSome(pattern)).toBe(true);
});

test.each([
  ['*_atn2_to_k', '_attn2_to_k'],
  ['lora_unet_output_block_1_*', 'lora_unet_output_blocks_1_'],
  ['*.attn2.*', 'attn2'],
  ['lora_te_text_model_encoder_layers_3_mlp_fc1', 'lora_te1_text_model_encoder_layers_3_mlp_fc1'],
])('%s fits none, and names with %s are near', (pattern, near) => {
  expect(fitsSome(pattern)).toBe(false);
  expect(namesLike(pattern).join(' ')).toContain(near);
});
