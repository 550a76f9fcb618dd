// ‖W‖ of what a LoRA adapts, against sums over the weights themselves.

import { expect, test } from 'vitest';
import { measureBase } from '../../../src/runtime/inspect/base-norms.ts';
import { openBase } from '../../../src/runtime/inspect/base-weights.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { openFolder } from '../safetensors/files.ts';
import { narrowShapes } from '../sdxl/sdxl-fixtures.ts';
import { type Float, randomNumbers, tensor, writeLora } from '../stages/lora-files.ts';
import { reportOf } from './files.ts';

const IN_PROJ = 'conditioner.embedders.1.model.transformer.resblocks.0.attn.in_proj_weight';
const PROJ_IN = 'model.diffusion_model.middle_block.1.proj_in.weight';

test.each<Float>(['F16', 'BF16', 'F32'])('in %s; text encoder 2 has three weights in one tensor', async (dtype) => {
  await using folder = await openFolder();
  const tensors = [...narrowShapes()].map(([name, { shape }]) => {
    const length = shape.reduce((product, size) => product * size, 1);
    if (name !== IN_PROJ && name !== PROJ_IN) {
      return {
        name,
        dtype,
        shape,
        source: { kind: 'bytes', bytes: new Uint8Array(length * (dtype === 'F32' ? 4 : 2)) },
      } as const;
    }
    // Multiples of 1/16 below 4, which every type holds exactly; query, key and value differ in size.
    const random = randomNumbers(5);
    const third = length / 3;
    return tensor(
      name,
      dtype,
      shape,
      Array.from(
        { length },
        (_, i) => (Math.round(random() * 16) / 16) * (name === IN_PROJ ? 1 + Math.floor(i / third) : 1),
      ),
    );
  });
  await writeSafetensors({ path: folder.path('base'), tensors, metadata: undefined, hashes: false });
  await writeLora(folder.path('lora'), [
    { name: 'lora_te2_text_model_encoder_layers_0_self_attn_k_proj' },
    { name: 'lora_unet_mid_block_attentions_0_proj_in' },
    { name: 'lora_unet_strange' },
  ]);
  const { modules } = await reportOf(folder.path('lora'));
  await using base = await SafetensorsFile.open(folder.path('base'));
  const norms = await measureBase(openBase(base), modules, { signal: new AbortController().signal });
  const random = randomNumbers(5);
  const [width, all] = [32, 3 * 32 * 32];
  const numbers = Array.from({ length: all }, () => Math.round(random() * 16) / 16);
  const square = (list: readonly number[]): number => list.reduce((sum, value) => sum + value * value, 0);
  const keys = numbers.slice(width * width, 2 * width * width).map((value) => 2 * value);
  expect(Object.fromEntries(norms)).toEqual({
    TE2: expect.closeTo(Math.sqrt(square(keys)), 9),
    MID01: expect.closeTo(Math.sqrt(square(numbers.slice(0, width * width))), 9),
  });
});
