// What merging says about files that do not fit each other, or that something is wrong with.

import { expect, test } from 'vitest';
import { fromNumbers } from '../../../src/runtime/safetensors/convert.ts';
import type { TensorToWrite } from '../../../src/runtime/safetensors/writer.ts';
import { type Matrix, relativeError } from '../../helpers/linear-algebra.ts';
import { openFolder } from '../safetensors/files.ts';
import { deltas, metadataOf } from './lab.ts';
import { IN04, OUT01, tensor, writeLora } from './lora-files.ts';
import { file, merged, numbers, wide } from './merge-lab.ts';

test('LoRAs for different models are told apart', async () => {
  await using folder = await openFolder();
  const xl = await file(folder, 'xl', [{ name: 'lora_te2_text_model_encoder_layers_3_mlp_fc2' }]);
  const one = await file(folder, 'one', [
    { name: 'lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k', in: 768 },
    { name: 'lora_te_text_model_encoder_layers_3_mlp_fc2' },
  ]);
  await expect(
    merged(folder, [
      [xl, 1],
      [one, 1],
    ]),
  ).rejects.toThrow(
    /LoRAs for different models cannot be merged: ".*xl" is for SDXL \(.*\), and ".*one" is for SD 1\.x \(.*768/,
  );
});

test('metadata that names different bases is warned about', async () => {
  await using folder = await openFolder();
  const a = await file(folder, 'a', [{ name: OUT01 }]);
  const metadata = new Map([['ss_base_model_version', 'sdxl_base_v0-9']]);
  const b = await writeLora(folder.path('b'), [{ name: OUT01, ...wide }], { metadata });
  const { said, path } = await merged(folder, [
    [a, 1],
    [b, 1],
  ]);
  expect(said.map((line) => line.replaceAll(folder.path('/'), ''))).toEqual([
    'The files name different base models: "a" sdxl_base_v1-0, "b" sdxl_base_v0-9. The result names the first.',
  ]);
  expect((await metadataOf(path)).get('ss_base_model_version')).toBe('sdxl_base_v1-0');
});

test('weights of different shapes are refused, naming both', async () => {
  await using folder = await openFolder();
  const a = await file(folder, 'a', [{ name: OUT01 }, { name: IN04 }]);
  const b = await file(folder, 'b', [
    { name: OUT01, out: 23 },
    { name: IN04, in: 19 },
  ]);
  const failure = await merged(folder, [
    [a, 1],
    [b, 1],
  ]).catch((error) => error.failure);
  expect(failure.message.replaceAll(folder.path('/'), '')).toBe(
    `"${IN04}" adapts a weight of 24 × 20 in "a" and of 24 × 19 in "b"; 1 more module cannot be merged either.`,
  );
  expect(failure.problems).toEqual([{ path: OUT01, message: expect.stringContaining('24 × 20') }]);
  expect(failure.hint).toContain('different models');
});

const LARGEST = { F16: 65504, BF16: 2 ** 127 * (2 - 2 ** -7), F32: 2 ** 127 * (2 - 2 ** -23) } as const;
const PRECISIONS = { F16: 'fp16', BF16: 'bf16', F32: 'fp32' } as const;

test.each(['F16', 'BF16', 'F32'] as const)(
  '%s that are not finite numbers are refused, wherever they are',
  async (dtype) => {
    await using folder = await openFolder();
    const withUp = (name: string, up: readonly number[]) =>
      writeLora(folder.path(name), [], {
        extra: [
          tensor(`${OUT01}.lora_up.weight`, dtype, [5, 1], up),
          tensor(`${OUT01}.lora_down.weight`, dtype, [1, 3], [1, 2, 3]),
        ],
      });
    const good = await withUp('good', [LARGEST[dtype], -LARGEST[dtype], 0, -0, LARGEST[dtype]]);
    await merged(folder, [[good, 1]], PRECISIONS[dtype]);
    for (const value of [Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY]) {
      for (const place of [0, 1, 4]) {
        const up = Array.from({ length: 5 }, (_, index) => (index === place ? value : 1));
        const bad = await withUp('bad', up);
        for (const inputs of [
          [[bad, 1]],
          [
            [good, 1],
            [bad, 0.5],
          ],
          [
            [bad, 1],
            [good, 0.1],
          ],
        ] as const) {
          await expect(merged(folder, inputs, PRECISIONS[dtype])).rejects.toThrow(
            `"${OUT01}.lora_up.weight" of "${bad}" has values that are not finite numbers.`,
          );
        }
      }
    }
  },
);

test('an alpha that is not a number is refused', async () => {
  await using folder = await openFolder();
  const a = await file(folder, 'a', [{ name: OUT01, alpha: Number.NaN }]);
  await expect(merged(folder, [[a, 1]])).rejects.toThrow(/alpha" of ".*" is not a finite number/);
});

test('numbers beyond fp16 are refused, with a way out', async () => {
  await using folder = await openFolder();
  const a = await file(folder, 'a', [{ name: OUT01, dtype: 'F32', strength: 1e6 }]);
  const failure = await merged(folder, [[a, 1]]).catch((error) => error.failure);
  expect(failure).toMatchObject({
    kind: 'bad-input',
    message: `"${OUT01}.lora_up.weight" is too strong for the numbers of fp16.`,
    hint: 'Choose the precision bf16 or fp32.',
  });
  expect(
    relativeError(
      (await deltas((await merged(folder, [[a, 1]], 'bf16')).path)).get(OUT01) as Matrix,
      (await deltas(a)).get(OUT01) as Matrix,
    ),
  ).toBeLessThan(2 ** -7);
});

test('tensors of no module stay, from the first file that has them, and are named', async () => {
  await using folder = await openFolder();
  const embedding = (value: number): TensorToWrite => ({
    name: 'bundle_emb.hero.string_to_param.*',
    dtype: 'F16',
    shape: [1],
    source: { kind: 'bytes', bytes: fromNumbers(Float64Array.of(value), 'F16') },
  });
  const a = await file(folder, 'a', [{ name: OUT01 }], [embedding(1)]);
  const b = await file(folder, 'b', [{ name: OUT01 }], [embedding(2)]);
  const { path, said } = await merged(folder, [
    [a, 1],
    [b, 1],
  ]);
  expect(said).toEqual([
    'Kept as they are, from the first file that has them, since they belong to no module: bundle_emb.hero.string_to_param.*.',
  ]);
  expect(await numbers(path, 'bundle_emb.hero.string_to_param.*')).toEqual([1]);
});

test('a file without LoRA modules is refused by name', async () => {
  await using folder = await openFolder();
  const a = await writeLora(folder.path('a'), [], { extra: [tensor('model.weight', 'F16', [1], [1])] });
  await expect(merged(folder, [[a, 1]])).rejects.toThrow(/"[^"]*a" has no LoRA modules/);
});
