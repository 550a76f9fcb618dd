// What lorac inspect says of a file of each family of adapters, in SDXL's shapes: read once, and kept as it was judged right.

import { expect, test } from 'vitest';
import { loraLines } from '../../src/cli/inspect-text.ts';
import { measureNorms } from '../../src/runtime/inspect/norms.ts';
import { reportLora } from '../../src/runtime/inspect/report.ts';
import { warningsOf } from '../../src/runtime/inspect/warnings.ts';
import { whatFile } from '../../src/runtime/inspect/what-file.ts';
import { SafetensorsFile } from '../../src/runtime/safetensors/file.ts';
import { type TensorToWrite, writeSafetensors } from '../../src/runtime/safetensors/writer.ts';
import { openFolder } from '../runtime/safetensors/files.ts';

const { signal } = new AbortController();

/** A linear module of 1280 × 1280, and a convolution of 320 × 320 × 3 × 3. */
const LINEAR = 'lora_unet_middle_block_1_proj_in';
const CONV = 'lora_unet_input_blocks_1_0_in_layers_2';
const TEXT = 'lora_te1_text_model_encoder_layers_3_mlp_fc1';

type Shapes = { readonly [tensor: string]: readonly number[] };

const under = (module: string, shapes: Shapes): Shapes =>
  Object.fromEntries(Object.entries(shapes).map(([suffix, shape]) => [`${module}.${suffix}`, shape]));

const linear: Shapes = { alpha: [], 'lora_up.weight': [1280, 8], 'lora_down.weight': [8, 1280] };
const conv: Shapes = { alpha: [], 'lora_up.weight': [320, 8, 1, 1], 'lora_down.weight': [8, 320, 3, 3] };
const hada: Shapes = { hada_w1_a: [1280, 4], hada_w1_b: [4, 1280], hada_w2_a: [1280, 4], hada_w2_b: [4, 1280] };
const core: Shapes = {
  ...{ hada_t1: [4, 4, 3, 3], hada_w1_a: [4, 320], hada_w1_b: [4, 320] },
  ...{ hada_t2: [4, 4, 3, 3], hada_w2_a: [4, 320], hada_w2_b: [4, 320] },
};

const files: { readonly [file: string]: Shapes } = {
  LoRA: under(LINEAR, linear),
  'LoCon, with convolutions and a text encoder': {
    ...under(LINEAR, linear),
    ...under(CONV, conv),
    ...under(TEXT, { alpha: [], 'lora_up.weight': [3072, 8], 'lora_down.weight': [8, 768] }),
  },
  'LoRA without alpha': under(LINEAR, { 'lora_up.weight': [1280, 8], 'lora_down.weight': [8, 1280] }),
  'LoRA of PEFT': under('unet.mid_block.attentions.0.proj_in', {
    'lora_A.weight': [8, 1280],
    'lora_B.weight': [1280, 8],
  }),
  'LoRA of ComfyUI': under('diffusion_model.middle_block.1.proj_in', linear),
  'Tucker LoCon': under(CONV, {
    ...{ alpha: [], 'lora_up.weight': [320, 8, 1, 1], 'lora_mid.weight': [8, 8, 3, 3] },
    'lora_down.weight': [8, 320, 1, 1],
  }),
  'DoRA by output rows': under(LINEAR, { ...linear, dora_scale: [1280, 1] }),
  'DoRA by input columns': under(CONV, { ...conv, dora_scale: [1, 320, 1, 1] }),
  'DoRA of PEFT': under('unet.mid_block.attentions.0.proj_in', {
    ...{ 'lora_A.weight': [8, 1280], 'lora_B.weight': [1280, 8] },
    lora_magnitude_vector: [1280],
  }),
  LoHa: under(LINEAR, { alpha: [], ...hada }),
  'LoHa, Tucker': under(CONV, { alpha: [], ...core }),
  'LoKr, both factors whole': under(LINEAR, { alpha: [], lokr_w1: [32, 32], lokr_w2: [40, 40] }),
  'LoKr in parts': {
    ...under(LINEAR, { alpha: [], lokr_w1: [32, 32], lokr_w2_a: [40, 4], lokr_w2_b: [4, 40] }),
    ...under(CONV, { alpha: [], lokr_w1: [16, 16], lokr_w2_a: [20, 4], lokr_w2_b: [4, 180] }),
  },
  'LoKr, Tucker': under(CONV, {
    ...{ alpha: [], lokr_w1: [16, 16], lokr_t2: [4, 4, 3, 3] },
    ...{ lokr_w2_a: [4, 20], lokr_w2_b: [4, 20] },
  }),
  GLoRA: under(LINEAR, {
    ...{ alpha: [], 'a1.weight': [1280, 8], 'a2.weight': [8, 1280] },
    ...{ 'b1.weight': [1280, 8], 'b2.weight': [8, 1280] },
  }),
  'GLoRA as old files have it': under(LINEAR, {
    ...{ alpha: [], 'a1.weight': [8, 1280], 'a2.weight': [1280, 8] },
    ...{ 'b1.weight': [8, 1280], 'b2.weight': [1280, 8] },
  }),
  'full, with a bias': under(CONV, { diff: [320, 320, 3, 3], diff_b: [320] }),
  'a bias alone': { ...under(LINEAR, linear), ...under(CONV, { diff_b: [320] }) },
  norms: under('lora_unet_middle_block_1_norm', { w_norm: [1280], b_norm: [1280] }),
  OFT: under(LINEAR, { alpha: [], oft_blocks: [8, 160, 160], rescale: [1280, 1] }),
  BOFT: under(LINEAR, { alpha: [], oft_blocks: [3, 8, 160, 160] }),
  IA3: under(LINEAR, { weight: [1280], on_input: [] }),
  'a stray scalar': under(LINEAR, { ...linear, scalar: [] }),
  "A1111's extras": {
    ...under(LINEAR, { scale: [], dyn_dim: [], 'lora_up.weight': [1280, 8], 'lora_down.weight': [8, 1280] }),
    ...under(CONV, { ...conv, bias: [320, 320, 3, 3] }),
  },
  "ComfyUI's extras": {
    ...under(LINEAR, { set_weight: [1280, 1280] }),
    ...under(CONV, { ...conv, reshape_weight: [4] }),
  },
  'textual inversions bundled': {
    ...under(LINEAR, linear),
    'bundle_emb.cat.clip_l': [2, 768],
    'bundle_emb.cat.clip_g': [2, 1280],
  },
  'several families at once': {
    ...under(LINEAR, { alpha: [], ...hada }),
    ...under(CONV, conv),
    ...under('lora_unet_middle_block_1_norm', { w_norm: [1280], b_norm: [1280] }),
    ...under(TEXT, { weight: [3072], on_input: [] }),
  },
  'Stable Diffusion 1': {
    ...under('lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_k', {
      ...{ alpha: [], 'lora_up.weight': [320, 8], 'lora_down.weight': [8, 768] },
    }),
    ...under('lora_unet_down_blocks_0_attentions_1_proj_in', {
      ...{ alpha: [], 'lora_up.weight': [320, 8, 1, 1], 'lora_down.weight': [8, 320, 1, 1] },
    }),
    ...under('lora_te_text_model_encoder_layers_3_mlp_fc1', {
      ...{ alpha: [], 'lora_up.weight': [3072, 8], 'lora_down.weight': [8, 768] },
    }),
  },
};

const metadata = new Map([
  ['ss_base_model_version', 'sdxl_base_v1-0'],
  ['modelspec.architecture', 'stable-diffusion-xl-v1-base/lora'],
]);

/** Alphas and the like are 2; all else counts up and down a little, so that every norm is another one. */
function tensorOf(name: string, shape: readonly number[]): TensorToWrite {
  const length = shape.reduce((product, size) => product * size, 1);
  const numbers = Float32Array.from({ length }, (_, i) => (shape.length === 0 ? 2 : Math.sin(i) / 64));
  return { name, dtype: 'F32', shape, source: { kind: 'bytes', bytes: new Uint8Array(numbers.buffer) } };
}

test.each(Object.entries(files))('%s', async (title, shapes) => {
  await using folder = await openFolder();
  const path = folder.path('one.safetensors');
  const tensors = Object.entries(shapes).map(([name, shape]) => tensorOf(name, shape));
  const isOld = title === 'Stable Diffusion 1';
  const told = isOld ? new Map([['ss_base_model_version', 'sd_v1']]) : metadata;
  await writeSafetensors({ path, tensors, metadata: told, hashes: false });
  await using file = await SafetensorsFile.open(path);
  expect(whatFile(file).kind).toBe('lora');
  const report = { ...reportLora(file), path: 'one.safetensors' };
  const norms = await measureNorms(file, report.modules, { signal });
  const lines = loraLines(
    {
      report,
      hashes: undefined,
      norms,
      normsFrom: undefined,
      base: undefined,
      warnings: warningsOf(report, { norms }),
    },
    false,
  );
  expect(
    `\n${lines.filter((line) => !/^INFO: Vector|^metadata|^ {2}(?:ss_|modelspec)/.test(line)).join('\n')}\n`,
  ).toMatchSnapshot();
});
