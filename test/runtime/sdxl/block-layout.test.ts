// The listing of blocks, line for line as chop_blocks prints it, and the % vectors of ComfyUI's loader.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { type BlockName, SDXL, STABLE_DIFFUSION } from '../../../src/parser/blocks.ts';
import { blockLayout, layoutLines } from '../../../src/runtime/sdxl/block-layout.ts';
import { specWeights } from '../../../src/runtime/sdxl/block-spec.ts';
import { groupModules } from '../../../src/runtime/sdxl/lora.ts';

const fixture = join(import.meta.dirname, '../../fixtures/sdxl-lora-modules.json');
const names = (JSON.parse(readFileSync(fixture, 'utf8')) as { lora_key: string }[]).map(({ lora_key }) => lora_key);

function linesFor(modules: readonly string[], others: readonly string[] = []): readonly string[] {
  const suffixes = ['alpha', 'lora_up.weight', 'lora_down.weight'];
  const tensors = modules.flatMap((module) => suffixes.map((suffix) => `${module}.${suffix}`));
  return layoutLines(blockLayout(groupModules([...tensors, ...others])));
}

test('a LoRA of the guide is listed as in the guide', () => {
  const modules = names.filter((name) => !name.startsWith('lora_te') || /_mlp_fc[12]$/.test(name));
  expect(linesFor(modules).join('\n')).toBe(`INFO: Blocks layout:
INFO:   [ 0]  input_blocks.1 layers=9
INFO:   [ 1]  input_blocks.2 layers=9
INFO:   [ 2]  input_blocks.3 layers=3
INFO:   [ 3]  input_blocks.4 layers=78
INFO:   [ 4]  input_blocks.5 layers=75
INFO:   [ 5]  input_blocks.6 layers=3
INFO:   [ 6]  input_blocks.7 layers=318
INFO:   [ 7]  input_blocks.8 layers=315
INFO:   [ 8]  middle_block.0 layers=9
INFO:   [ 9]  middle_block.1 layers=306
INFO:   [10]  middle_block.2 layers=9
INFO:   [11] output_blocks.0 layers=318
INFO:   [12] output_blocks.1 layers=318
INFO:   [13] output_blocks.2 layers=321
INFO:   [14] output_blocks.3 layers=78
INFO:   [15] output_blocks.4 layers=78
INFO:   [16] output_blocks.5 layers=81
INFO:   [17] output_blocks.6 layers=12
INFO:   [18] output_blocks.7 layers=12
INFO:   [19] output_blocks.8 layers=12
INFO: Vector string : "1,INP01,INP02,INP03,INP04,INP05,INP06,INP07,INP08,MID00,MID01,MID02,OUT00,OUT01,OUT02,OUT03,OUT04,OUT05,OUT06,OUT07,OUT08"
INFO: Pass through layers: 264`);
});

test('a block keeps its number where others are missing, and one that no vector counts has none', () => {
  const modules = ['lora_unet_output_blocks_1_0_in_layers_2', 'lora_unet_input_blocks_0_0'];
  const lines = linesFor(modules, ['stranger', 'lora_unet_time_embed_0.diff']);
  expect(lines.slice(1, 3)).toEqual(['INFO:   [ -]  input_blocks.0 layers=3', 'INFO:   [12] output_blocks.1 layers=3']);
  expect(lines.at(-1)).toBe('INFO: Pass through layers: 2');
});

test('blocks of Stable Diffusion 1 stand in the order of their numbers, however its names are spelt', () => {
  const spelt = {
    ldm: ['input_blocks_10_0_in_layers_2', 'input_blocks_2_1_proj_in', 'output_blocks_11_1_proj_in'],
    diffusers: [
      'down_blocks_3_resnets_0_conv1',
      'down_blocks_0_attentions_1_proj_in',
      'up_blocks_3_attentions_2_proj_in',
    ],
  };
  for (const paths of Object.values(spelt)) {
    const modules = [...paths.map((path) => `lora_unet_${path}`), 'lora_te_text_model_encoder_layers_0_mlp_fc1'];
    expect(linesFor(modules)).toEqual([
      'INFO: Blocks layout:',
      'INFO:   [ 1]  input_blocks.2 layers=3',
      'INFO:   [ 9] input_blocks.10 layers=3',
      'INFO:   [25] output_blocks.11 layers=3',
      `INFO: Vector string : "1,${STABLE_DIFFUSION.blocks
        .filter((block) => /\d/.test(block) && block !== 'IN00')
        .map((block) => block.replace('IN', 'INP'))
        .join(',')}"`,
      'INFO: Pass through layers: 3',
    ]);
  }
});

const whole = SDXL.blocks.filter((block) => block !== 'IN00' && block !== 'REST');

function keptBy(spec: string, present: readonly BlockName[] = whole): Record<string, number> | string {
  const found = specWeights(spec, present);
  return found.ok
    ? Object.fromEntries(Object.entries(found.weights).filter(([, weight]) => weight !== 0))
    : found.problem;
}

test.each([
  ['%default=0,base=1,out2=1', { OUT01: 1, TE1: 1, TE2: 1 }],
  ['%default=0,mid=0.5', { MID00: 0.5, MID01: 0.5, MID02: 0.5 }],
  ['%out2=0.5,out=1,default=0,base=0,out4-9=0', { OUT00: 1, OUT01: 0.5, OUT02: 1 }],
  ['%default=0, in7-8 = -1', { IN07: -1, IN08: -1 }],
])('%s', (spec, expected) => {
  expect(keptBy(spec)).toEqual(expected);
});

test('what a % vector does not name has the weight 1, text encoders like the rest', () => {
  expect(keptBy('%in=0')).toEqual(
    Object.fromEntries(whole.filter((block) => !block.startsWith('IN')).map((block) => [block, 1])),
  );
});

test('places of a % vector count the blocks that the file has', () => {
  expect(keptBy('%default=0,in2=1', ['IN04', 'IN05', 'IN07'] as BlockName[])).toEqual({ IN05: 1 });
});

test.each(['%out=', '%base2=1', '%left=1', '%', '%out2=x'])('%s is told to be none', (spec) => {
  expect(keptBy(spec)).toMatch(/is no item of a % vector/);
});
