// The rules about names, against tables that were made by running the field's own tools.

import { expect, test } from 'vitest';
import { SDXL } from '../../../src/parser/blocks.ts';
import { NotSdxl, readArchitecture } from '../../../src/runtime/sdxl/architecture.ts';
import { placeIn } from '../../../src/runtime/sdxl/blocks.ts';
import { checkTargets, loraTargets } from '../../../src/runtime/sdxl/modules.ts';
import { readModuleName } from '../../../src/runtime/sdxl/names.ts';
import { sdxlModules, sdxlShapes } from './sdxl-fixtures.ts';

/** The block of a module of SDXL. */
function blockOf(module: string) {
  const name = readModuleName(module);
  return name && placeIn(SDXL, name)?.block;
}

const table = sdxlModules();
const shapes = sdxlShapes();

test('the architecture of SDXL is read from its names and shapes', () => {
  expect(readArchitecture(shapes, undefined)).toEqual({
    unet: { widths: [320, 640, 1280], depths: [0, 2, 10], timeWidth: 1280, contextWidth: 2048, vectorWidth: 2816 },
    te1: { layers: 12, width: 768, mlpWidth: 3072 },
    te2: { layers: 32, width: 1280, mlpWidth: 5120 },
    pooledWidth: 1280,
    vae: { widths: [128, 256, 512, 512] },
    prediction: 'epsilon',
    zeroTerminalSnr: false,
  });
});

test('empty marks and metadata say what the network predicts', () => {
  const marked = new Map([...shapes, ['v_pred', { shape: [0] }], ['ztsnr', { shape: [0] }]] as const);
  expect(readArchitecture(marked, undefined)).toMatchObject({ prediction: 'v', zeroTerminalSnr: true });
  const stated = new Map([['modelspec.prediction_type', 'v']]);
  expect(readArchitecture(shapes, stated)).toMatchObject({ prediction: 'v', zeroTerminalSnr: false });
});

test('the rule lists the 1,052 modules of preset full, in order and to the letter', () => {
  const targets = loraTargets(readArchitecture(shapes, undefined));
  const ours = targets.map((target) => ({
    lora_key: target.name,
    ldm_key: target.ldmKey,
    ...(target.ldmRows && { ldm_rows: target.ldmRows }),
    diffusers_key: target.diffusersKey,
    kind: target.kind,
    in: target.in,
    out: target.out,
    ...(target.kind !== 'linear' && { stride: target.stride, padding: target.padding }),
    block: target.block,
  }));
  expect(ours).toEqual(table);
  checkTargets(targets, shapes);
});

test('text encoder 1 without the inner name is the same model', () => {
  const renamed = new Map(
    [...shapes].map(([name, entry]) => [name.replace('transformer.text_model.', 'transformer.'), entry]),
  );
  const architecture = readArchitecture(renamed, undefined);
  expect(architecture).toEqual(readArchitecture(shapes, undefined));
  checkTargets(loraTargets(architecture), renamed);
});

const without = (pattern: RegExp) => new Map([...shapes].filter(([name]) => !pattern.test(name)));
const withShape = (name: string, shape: number[]) => new Map([...shapes, [name, { shape }]] as const);
const only = (...names: string[]) => new Map(names.map((name) => [name, { shape: [1] }]));

test.each([
  ['nothing', new Map(), 'has no tensors'],
  ['a LoRA', only('lora_unet_input_blocks_1_0_op.lora_up.weight'), 'is a LoRA'],
  ['a PEFT LoRA', only('unet.down_blocks.0.attentions.0.proj_in.lora_A.weight'), 'is a LoRA'],
  ['a LoKr', only('lycoris_down_blocks_0_x.lokr_w1'), 'is a LoRA'],
  ['SD 1.x', new Map([...shapes, ...only('cond_stage_model.transformer.x')]), 'Stable Diffusion 1 or 2'],
  ['a refiner', only('conditioner.embedders.0.model.positional_embedding'), 'SDXL refiner'],
  ['a diffusers UNet', only('down_blocks.0.resnets.0.conv1.weight'), 'as diffusers names it'],
  ['a text encoder', only('text_model.encoder.layers.0.mlp.fc1.weight'), 'a text encoder alone'],
  ['a VAE', only('decoder.conv_in.weight'), 'a VAE alone'],
  ['Flux', only('double_blocks.0.img_attn.qkv.weight'), 'another family'],
  ['an EDM model', new Map([...shapes, ...only('edm_vpred.sigma_max')]), 'EDM'],
  [
    'inpainting',
    withShape('model.diffusion_model.input_blocks.0.0.weight', [320, 9, 3, 3]),
    'is an inpainting checkpoint: its UNet takes 9',
  ],
  ['editing', withShape('model.diffusion_model.input_blocks.0.0.weight', [320, 8, 3, 3]), 'instruction-editing'],
  ['no VAE', without(/^first_stage_model/), 'has no VAE inside'],
  [
    'no text encoder 2',
    without(/^conditioner\.embedders\.1/),
    'lacks the tensor "conditioner.embedders.1.model.token_embedding.weight"',
  ],
  ['a missing block', without(/output_blocks\.8\./), 'has a UNet of 8 output blocks'],
  ['a gap among blocks', without(/input_blocks\.3\./), 'lacks number 3'],
  ['a pruned model', without(/output_blocks\.1\.1\.transformer_blocks\.9\./), 'as pruned models do'],
  [
    'another context',
    withShape('model.diffusion_model.input_blocks.4.1.transformer_blocks.0.attn2.to_k.weight', [640, 768]),
    '768 values wide',
  ],
])('%s is refused and called by its name', (_, tensors, message) => {
  expect(() => readArchitecture(tensors, undefined)).toThrow(NotSdxl);
  expect(() => readArchitecture(tensors, undefined)).toThrow(message);
});

test('a missing or misshapen weight is named', () => {
  const targets = loraTargets(readArchitecture(shapes, undefined));
  const name = 'model.diffusion_model.output_blocks.1.1.proj_out.weight';
  expect(() => checkTargets(targets, without(/output_blocks\.1\.1\.proj_out\.weight/))).toThrow(
    `lacks the tensor "${name}"`,
  );
  expect(() => checkTargets(targets, withShape(name, [1280, 640]))).toThrow(`"${name}" in the shape [1280,640]`);
});

/** `input_blocks.4` as people write it in a program. */
function nameOf(block: string): string {
  if (block.startsWith('te')) return block.slice(0, 3).toUpperCase();
  const [section = '', index = ''] = block.split('.');
  return `${{ input_blocks: 'IN', middle_block: 'MID', output_blocks: 'OUT' }[section]}${index.padStart(2, '0')}`;
}

test('every module is found in its block, however it is spelt', () => {
  for (const { lora_key, diffusers_key, block } of table) {
    const name = nameOf(block);
    const isUnet = lora_key.startsWith('lora_unet_');
    const underscored = diffusers_key.replaceAll('.', '_');
    const component = isUnet ? 'unet' : name === 'TE1' ? 'text_encoder' : 'text_encoder_2';
    const spellings = isUnet
      ? [
          lora_key,
          `lora_unet_${underscored}`,
          `lycoris_${underscored}`,
          `unet.${diffusers_key}`,
          `base_model.model.${diffusers_key}`,
        ]
      : [lora_key, `${component}.${diffusers_key}`];
    for (const spelling of spellings) expect([spelling, blockOf(spelling)]).toEqual([spelling, name]);
  }
});

test.each([
  ['lora_unet_input_blocks_0_0', 'IN00'],
  ['lora_unet_conv_in', 'IN00'],
  ['lora_unet_time_embed_0', 'REST'],
  ['lora_unet_time_embedding_linear_1', 'REST'],
  ['lora_unet_label_emb_0_2', 'REST'],
  ['lora_unet_add_embedding_linear_2', 'REST'],
  ['lora_unet_out_2', 'REST'],
  ['lora_unet_conv_out', 'REST'],
  ['diffusion_model.output_blocks.1.1.proj_in', 'OUT01'],
  ['lora_te2_text_projection', 'TE2'],
  ['lora_unet_output_blocks_11_1_proj_in', undefined],
  ['lora_unet_double_blocks_1_x', undefined],
  ['bundle_emb.cat', undefined],
  ['outrageous', undefined],
])('%s belongs to %s', (module, block) => {
  expect(blockOf(module)).toBe(block);
});

test('no block is without a name and none is missing', () => {
  const met = new Set(table.map(({ block }) => nameOf(block)));
  expect(SDXL.blocks.filter((block) => !met.has(block))).toEqual(['IN00', 'REST']);
});
