// Layers of text encoders among the weights of a chop, and whose blocks a file has.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { type BlockName, blocksNamed, SDXL, STABLE_DIFFUSION } from '../../../src/parser/blocks.ts';
import { type BlockChoice, blockWeights, weightIn } from '../../../src/runtime/sdxl/block-weights.ts';
import { groupModules } from '../../../src/runtime/sdxl/lora.ts';

const text = (choice: BlockChoice) =>
  Object.fromEntries(Object.entries(blockWeights(choice)).filter(([block]) => block.startsWith('TE')));

const layers = (from: number, to: number, weight: number) =>
  Object.fromEntries(Array.from({ length: to - from }, (_, index) => [`TE1.${from + index}`, weight]));

test.each<[string, BlockChoice, object]>([
  ['a layer that stays is all that stays of its encoder', { keep: ['TE1.3'] }, { 'TE1.3': 1, TE2: 1 }],
  ['a layer that goes leaves the others', { drop: ['TE1.3'] }, { TE1: 1, 'TE1.3': 0, TE2: 1 }],
  ['a layer goes before its encoder', { weights: { 'TE1.3': 0.5, TE1: 1 } }, { TE1: 1, 'TE1.3': 0.5, TE2: 1 }],
  ['… wherever it stands', { weights: { TE1: 1, 'TE1.3': 0.5 } }, { TE1: 1, 'TE1.3': 0.5, TE2: 1 }],
  [
    'a layer goes before a pattern of layers',
    { weights: { 'TE1.*': 0.5, 'TE1.11': 1 } },
    { ...layers(0, 11, 0.5), 'TE1.11': 1, TE2: 1 },
  ],
  ['layers by a pattern', { keep: ['TE1.1*'], text_encoders: 'drop' }, { 'TE1.1': 1, 'TE1.10': 1, 'TE1.11': 1 }],
  ['all layers are the encoder', { keep: ['TE1.*'], text_encoders: 'drop' }, { TE1: 1 }],
  ['all layers one by one are the encoder', { weights: { ...layers(0, 12, 0.5), TE2: 0 } }, { TE1: 0.5 }],
  ['an encoder and all its layers are the encoder', { keep: ['TE', 'TE1.*', 'TE2.31'] }, { TE1: 1, TE2: 1 }],
  ['a layer of the weight of its encoder says nothing', { weights: { TE: 0.5, 'TE2.7': 0.5 } }, { TE1: 0.5, TE2: 0.5 }],
  ['all layers that go are the encoder that goes', { drop: ['TE1.*'] }, { TE2: 1 }],
  [
    'what an encoder has beside its layers can go alone',
    { weights: { TE1: 0, 'TE1.*': 1 } },
    { ...layers(0, 12, 1), TE2: 1 },
  ],
  [
    'encoders that are not named are as text_encoders says',
    { keep: ['TE2.0'], text_encoders: 0.5 },
    { TE1: 0.5, 'TE2.0': 1 },
  ],
])('%s', (_, choice, expected) => {
  expect(text(choice)).toEqual(expected);
});

const words = ['TE', 'TE1', 'TE2', 'TE1.*', 'TE1.1*', 'TE1.3', 'TE2.3', '*.11', 'IN', 'IN04', 'OUT01', 'REST'];
const record = fc.dictionary(fc.constantFrom(...words), fc.constantFrom(0, 0.5, 1, -1), {
  minKeys: 1,
  noNullPrototype: true,
});

/** As a reader of the rules would work it out for one block or layer: the most special word that names it or its encoder. */
function byTheRules(
  weights: Readonly<Record<string, number>>,
  block: BlockName,
  layer?: BlockName,
): number | undefined {
  const whole = (word: string) =>
    (blocksNamed(word) ?? []).flatMap((named) => [named, ...(SDXL.layers.get(named) ?? [])]);
  const naming = Object.keys(weights).filter((word) => whole(word).includes(layer ?? block));
  const [word] = naming.sort((a, b) => whole(a).length - whole(b).length);
  return word === undefined ? undefined : weights[word];
}

test('every block and layer has the weight of the most special word, and no layer is told apart that need not be', () => {
  const property = fc.property(record, (weights) => {
    const canonical = blockWeights({ weights });
    for (const block of SDXL.blocks) {
      const layers = SDXL.layers.get(block) ?? [];
      const isNamed = [block, ...layers].some((each) => byTheRules(weights, block, each) !== undefined);
      const rest = layers.length > 0 && !isNamed ? 1 : 0;
      for (const layer of layers) {
        const wanted = byTheRules(weights, block, layer) ?? rest;
        expect([weights, layer, weightIn(canonical, { block, layer })]).toEqual([weights, layer, wanted]);
        expect(canonical[layer]).not.toBe(canonical[block] ?? 0);
      }
      const own = byTheRules(weights, block);
      if (own !== undefined)
        expect([weights, block, weightIn(canonical, { block, layer: undefined })]).toEqual([weights, block, own]);
    }
    // Said once more in its own words, with the encoders' weights, it is the same.
    expect(blockWeights({ weights: { TE1: 0, TE2: 0, ...canonical } })).toEqual(canonical);
  });
  fc.assert(property, { numRuns: 300 });
});

test('a module in no layer goes with its encoder, and one in a layer with its layer', () => {
  const [fc1, projection] = groupModules([
    'lora_te2_text_model_encoder_layers_3_mlp_fc1.diff',
    'lora_te2_text_projection.diff',
  ]).modules;
  const weights = blockWeights({ weights: { TE2: 0.5, 'TE2.3': 2 } });
  const weightOf = (module: typeof fc1) =>
    module?.block && weightIn(weights, { block: module.block, layer: module.layer });
  expect([weightOf(fc1), weightOf(projection)]).toEqual([2, 0.5]);
});

const attention = 'middle_block_1_transformer_blocks_0_attn2_to_k';
const reads = (width: number) => new Map([[`lora_unet_${attention}.lora_down.weight`, { shape: [4, width] }]]);

test.each([
  ['the one text encoder', ['lora_te_text_model_encoder_layers_0_mlp_fc1.diff'], undefined, STABLE_DIFFUSION],
  ['the second text encoder', ['lora_te2_text_model_encoder_layers_0_mlp_fc1.diff'], undefined, SDXL],
  ['a tenth block', ['lora_unet_input_blocks_10_0_in_layers_2.diff'], undefined, STABLE_DIFFUSION],
  ['attention at the finest level', ['lora_unet_down_blocks_0_attentions_0_proj_in.diff'], undefined, STABLE_DIFFUSION],
  ['the last upsampler of SDXL', ['lora_unet_output_blocks_5_2_conv.diff'], undefined, SDXL],
  ['deep transformers', ['lora_unet_middle_block_1_transformer_blocks_4_ff_net_2.diff'], undefined, SDXL],
  [
    'text 768 values wide',
    [`lora_unet_${attention}.lora_down.weight`, `lora_unet_${attention}.lora_up.weight`],
    reads(768),
    STABLE_DIFFUSION,
  ],
  [
    'text 2048 values wide',
    [`lora_unet_${attention}.lora_down.weight`, `lora_unet_${attention}.lora_up.weight`],
    reads(2048),
    SDXL,
  ],
  ['what both have', ['lora_unet_middle_block_1_proj_in.diff'], undefined, SDXL],
  [
    'a foreign module in a file of SDXL',
    ['lora_unet_input_blocks_10_0_in_layers_2.diff', 'lora_unet_label_emb_0_0.diff'],
    undefined,
    SDXL,
  ],
])('%s tells whose blocks these are', (_, names, shapes, network) => {
  expect(groupModules(names, shapes).network.title).toBe(network.title);
});

test('the first text encoder of diffusers is the only one of Stable Diffusion', () => {
  const { modules } = groupModules([
    'text_encoder.text_model.encoder.layers.3.mlp.fc1.diff',
    'unet.down_blocks.3.resnets.0.conv1.diff',
  ]);
  expect(modules.map(({ block, layer }) => [block, layer])).toEqual([
    ['TE', 'TE.3'],
    ['IN10', undefined],
  ]);
});
