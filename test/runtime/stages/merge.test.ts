// Merging: the sum of what LoRAs do, to the bit where nothing has to be rounded.

import { readFile, rename } from 'node:fs/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { type Matrix, relativeError } from '../../helpers/linear-algebra.ts';
import { openFolder } from '../safetensors/files.ts';
import { deltas, metadataOf } from './lab.ts';
import { type Float, IN04, MID00, OUT01, TE1, tensor, writeLora } from './lora-files.ts';
import { combined, file, merged, numbers } from './merge-lab.ts';

test('two LoRAs by hand: the stronger keeps its factors, the other is put in proportion, and alpha says the scale', async () => {
  await using folder = await openFolder();
  const lora = (name: string, alpha: number, up: number[], down: number[]) => {
    const tensors = [
      tensor('lora_unet_out_2.alpha', 'F16', [], [alpha]),
      tensor('lora_unet_out_2.lora_up.weight', 'F16', [3, up.length / 3], up),
      tensor('lora_unet_out_2.lora_down.weight', 'F16', [down.length / 4, 4], down),
    ];
    return writeLora(folder.path(name), [], { extra: tensors });
  };
  const a = await lora('a', 4, [1, 2, 3, 4, 5, 6], [1, 0, 2, 0, 0, 3, 0, 4]); // rank 2, scale 2
  const b = await lora('b', 1, [8, 16, 24], [1, 1, 1, 1]); // rank 1, scale 1
  const { path } = await merged(folder, [
    [a, 1],
    [b, -0.5],
  ]);
  // The strengths are 2 and -0.5, so b's `up` is times -1/4, and alpha is 3 ranks times 2.
  expect(await numbers(path, 'lora_unet_out_2.lora_up.weight')).toEqual([1, 2, -2, 3, 4, -4, 5, 6, -6]);
  expect(await numbers(path, 'lora_unet_out_2.lora_down.weight')).toEqual([1, 0, 2, 0, 0, 3, 0, 4, 1, 1, 1, 1]);
  expect(await numbers(path, 'lora_unet_out_2.alpha')).toEqual([6]);
});

test('any number of LoRAs of any rank, alpha, type and weight add up to the sum in doubles', async () => {
  await using folder = await openFolder();
  const weight = fc.double({ min: -3, max: 3, noNaN: true }).filter((value) => Math.abs(value) > 1e-2);
  const input = fc.record({
    weight,
    rank: fc.integer({ min: 1, max: 9 }),
    alpha: fc.constantFrom(null, 1, 0.25, 16, -2),
    kernel: fc.constantFrom<undefined | 1 | 3>(undefined, 1, 3),
    dtype: fc.constantFrom<Float>('F16', 'BF16', 'F32'),
  });
  const property = fc.asyncProperty(
    fc.array(input, { minLength: 1, maxLength: 4 }),
    fc.constantFrom('fp16' as const, 'bf16' as const, 'fp32' as const),
    async (inputs, precision) => {
      const { kernel } = inputs[0] ?? {};
      const paths = await Promise.all(
        inputs.map(({ rank, alpha, dtype }, index) => {
          const module = { rank, alpha, dtype, strength: index + 1, ...(kernel && { kernel }) };
          return file(folder, `input-${index}`, [{ name: OUT01, ...module }]);
        }),
      );
      const before = await Promise.all(paths.map(deltas));
      const wanted = combined(inputs.map((one, index) => [before[index]?.get(OUT01), one.weight]));
      const { path } = await merged(
        folder,
        inputs.map((one, index) => [paths[index] ?? '', one.weight]),
        precision,
      );
      const found = (await deltas(path)).get(OUT01);
      // One rounding of each factor, measured against all that is added: a sum may nearly cancel.
      const whole = inputs.reduce((sum, one, index) => {
        const { data } = before[index]?.get(OUT01) ?? { data: [] };
        return sum + Math.abs(one.weight) * Math.hypot(...data);
      }, 0);
      const apart = Math.hypot(...(found?.data ?? []).map((value, i) => value - (wanted.data[i] ?? Number.NaN)));
      expect(apart / whole).toBeLessThan({ fp16: 2 ** -10, bf16: 2 ** -7, fp32: 2 ** -21 }[precision]);
    },
  );
  await fc.assert(property, { numRuns: 40 });
});

test('a single file with the weight 1 keeps every bit of every factor', async () => {
  await using folder = await openFolder();
  const modules = [{ name: OUT01, kernel: 3 as const }, { name: IN04 }, { name: TE1, alpha: null }];
  const path = await file(folder, 'a', modules);
  const after = (await merged(folder, [[path, 1]])).path;
  await using old = await SafetensorsFile.open(path);
  await using now = await SafetensorsFile.open(after);
  for (const name of old.header.tensors.keys()) {
    if (name.endsWith('.alpha')) continue;
    expect(now.tensor(name)).toMatchObject({ dtype: 'F16', shape: old.tensor(name).shape });
    expect(await now.bytesOf(name)).toEqual(await old.bytesOf(name));
  }
  expect(await deltas(after)).toEqual(await deltas(path));
});

test('a module in only one of the files is that of the file, times its weight', async () => {
  await using folder = await openFolder();
  const a = await file(folder, 'a', [{ name: IN04 }, { name: OUT01 }]);
  const b = await file(folder, 'b', [
    { name: OUT01, rank: 2 },
    { name: MID00, alpha: 3 },
  ]);
  const { path } = await merged(folder, [
    [a, 0.5],
    [b, -2],
  ]);
  const [first, second, sum] = await Promise.all([a, b, path].map(deltas));
  expect([...(sum?.keys() ?? [])]).toEqual([IN04, MID00, OUT01]);
  expect(sum?.get(IN04)).toEqual(combined([[first?.get(IN04), 0.5]]));
  expect(relativeError(sum?.get(MID00) as Matrix, combined([[second?.get(MID00), -2]]))).toBeLessThan(1e-12);
  expect(await numbers(path, `${MID00}.alpha`)).toEqual([6]);
});

test('what was merged goes away again with the opposite weights, to the last bit where these are powers of two', async () => {
  await using folder = await openFolder();
  const a = await file(folder, 'a', [{ name: OUT01, rank: 4 }]);
  const b = await file(folder, 'b', [{ name: OUT01, rank: 2, alpha: 4, strength: 3 }]);
  const sum = (
    await merged(folder, [
      [a, 1],
      [b, 0.5],
    ])
  ).path;
  await rename(sum, folder.path('sum'));
  const { path } = await merged(
    folder,
    [
      [folder.path('sum'), 1],
      [a, -1],
      [b, -0.5],
    ],
    'fp32',
  );
  const nothing = (await deltas(path)).get(OUT01);
  expect(Math.max(...(nothing?.data ?? [1]).map(Math.abs))).toBeLessThan(1e-14);
});

test('LoRAs of more ranks together than the weight has become one of the rank that it has', async () => {
  await using folder = await openFolder();
  for (const [name, shape] of [
    ['wide', { out: 4, in: 9 }],
    ['tall', { out: 9, in: 4 }],
  ] as const) {
    const a = await file(folder, `${name}-a`, [{ name: OUT01, kernel: 3, rank: 3, ...shape }]);
    const b = await file(folder, `${name}-b`, [{ name: OUT01, kernel: 3, rank: 40, alpha: 7, ...shape }]);
    const { path } = await merged(folder, [
      [a, 0.7],
      [b, 0.3],
    ]);
    await using opened = await SafetensorsFile.open(path);
    const rank = Math.min(shape.out, shape.in * 9);
    expect(opened.tensor(`${OUT01}.lora_up.weight`).shape).toEqual([shape.out, rank, 1, 1]);
    expect(opened.tensor(`${OUT01}.lora_down.weight`).shape).toEqual([rank, shape.in, 3, 3]);
    const [first, second, sum] = await Promise.all([a, b, path].map(deltas));
    const wanted = combined([
      [first?.get(OUT01), 0.7],
      [second?.get(OUT01), 0.3],
    ]);
    expect(relativeError(sum?.get(OUT01) as Matrix, wanted)).toBeLessThan(2 ** -10);
  }
});

test('factors of small numbers keep their digits in fp16', async () => {
  await using folder = await openFolder();
  const shape = { out: 4, in: 9, rank: 5, strength: 1e-5 };
  const a = await file(folder, 'a', [{ name: OUT01, ...shape }]);
  const b = await file(folder, 'b', [{ name: OUT01, ...shape, alpha: 3 }]);
  const { path } = await merged(folder, [
    [a, 0.7],
    [b, 0.3],
  ]);
  const [first, second, sum] = await Promise.all([a, b, path].map(deltas));
  const wanted = combined([
    [first?.get(OUT01), 0.7],
    [second?.get(OUT01), 0.3],
  ]);
  expect(relativeError(sum?.get(OUT01) as Matrix, wanted)).toBeLessThan(2 ** -10);
});

test('modules that do nothing are left out, and a file of nothing else is refused', async () => {
  await using folder = await openFolder();
  const a = await file(folder, 'a', [{ name: OUT01, alpha: 0 }, { name: IN04 }]);
  const b = await file(folder, 'b', [{ name: OUT01, alpha: 0 }]);
  const { path } = await merged(folder, [
    [a, 1],
    [b, 1],
  ]);
  expect([...(await deltas(path)).keys()]).toEqual([IN04]);
  const c = await file(folder, 'c', [{ name: OUT01, alpha: 0 }]);
  await expect(
    merged(folder, [
      [b, 1],
      [c, 1],
    ]),
  ).rejects.toThrow('Nothing would be left');
});

test('a module of any spelling is the same module', async () => {
  await using folder = await openFolder();
  const a = await file(folder, 'a', [{ name: OUT01 }]);
  const b = await file(folder, 'b', [{ name: 'lora_unet_up_blocks_0_resnets_1_conv1', rank: 2 }]);
  const { path } = await merged(folder, [
    [a, 1],
    [b, 1],
  ]);
  await using opened = await SafetensorsFile.open(path);
  expect(opened.tensor(`${OUT01}.lora_down.weight`).shape).toEqual([6, 20]);
  expect(opened.header.tensors.size).toBe(3);
});

test('the metadata is that of the first, with what is true now', async () => {
  await using folder = await openFolder();
  const a = await file(folder, 'a', [{ name: OUT01, kernel: 3 }, { name: IN04 }]);
  const b = await file(folder, 'b', [
    { name: OUT01, kernel: 3, rank: 2 },
    { name: IN04, rank: 2 },
  ]);
  const { path } = await merged(folder, [
    [a, 1],
    [b, 0.5],
  ]);
  const metadata = await metadataOf(path);
  expect(metadata.get('ss_output_name')).toBe('before');
  expect(metadata.get('ss_base_model_version')).toBe('sdxl_base_v1-0');
  expect(metadata.get('ss_network_dim')).toBe('6');
  expect(metadata.get('ss_network_alpha')).toBe('3');
  expect(JSON.parse(metadata.get('ss_network_args') ?? '')).toEqual({ conv_dim: '6', conv_alpha: '3', algo: 'locon' });
  expect(JSON.parse(metadata.get('lorac.history') ?? '')).toEqual([
    { stage: 'merge', weights: [1, 0.5], precision: 'fp16' },
  ]);
  expect(metadata.get('sshs_model_hash')).toMatch(/^[0-9a-f]{64}$/);
});

test('a base that only the second file names is kept, since readers take a file without one for SD 1', async () => {
  await using folder = await openFolder();
  const a = await writeLora(folder.path('a'), [{ name: OUT01 }], { metadata: undefined });
  const b = await file(folder, 'b', [{ name: IN04 }]);
  const { path } = await merged(folder, [
    [a, 1],
    [b, 1],
  ]);
  expect((await metadataOf(path)).get('ss_base_model_version')).toBe('sdxl_base_v1-0');
});

test('equal inputs give equal bytes', async () => {
  await using folder = await openFolder();
  const a = await file(folder, 'a', [{ name: OUT01 }, { name: IN04 }]);
  const b = await file(folder, 'b', [{ name: IN04, rank: 3 }, { name: OUT01 }]);
  const once = await readFile(
    (
      await merged(folder, [
        [a, 0.3],
        [b, 0.6],
      ])
    ).path,
  );
  expect(
    await readFile(
      (
        await merged(folder, [
          [a, 0.3],
          [b, 0.6],
        ])
      ).path,
    ),
  ).toEqual(once);
});
