// Sums of modules of every family, held against the definition of each family, computed in doubles from the files.

import { expect, test } from 'vitest';
import { toFloat64 } from '../../../src/runtime/safetensors/convert.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import type { TensorToWrite } from '../../../src/runtime/safetensors/writer.ts';
import { type Adapter, adapters, adapterTensors, biasOf, deltaOf, MODULE, titleOf } from '../../helpers/adapters.ts';
import { at, matrix, multiply } from '../../helpers/linear-algebra.ts';
import { openFolder } from '../safetensors/files.ts';
import { deltas } from './lab.ts';
import { randomNumbers, tensor, writeLora } from './lora-files.ts';
import { merged } from './merge-lab.ts';

type Folder = Awaited<ReturnType<typeof openFolder>>;

const write = (folder: Folder, name: string, adapter: Adapter, seed?: number) =>
  writeLora(folder.path(name), [], { extra: adapterTensors(adapter, 'F32', seed) });

async function numbersOf(path: string, name: string): Promise<readonly number[] | undefined> {
  await using file = await SafetensorsFile.open(path);
  const info = file.header.tensors.get(name);
  return info && [...(toFloat64(await file.bytesOf(name), info.dtype) ?? [])];
}

async function namesIn(path: string): Promise<readonly string[]> {
  await using file = await SafetensorsFile.open(path);
  return [...file.header.tensors.keys()].map((name) => name.slice(MODULE.length + 1)).sort();
}

/** What a merged file does to the weight, whichever form it says it in. */
async function mergedDelta(path: string): Promise<readonly number[]> {
  return (await numbersOf(path, `${MODULE}.diff`)) ?? [...((await deltas(path)).get(MODULE)?.data ?? [])];
}

function expectSum(
  found: readonly number[],
  first: readonly number[],
  second: readonly number[],
  [a, b]: readonly [number, number],
): void {
  expect(found).toHaveLength(first.length);
  const apart = Math.hypot(
    ...found.map((value, i) => value - a * (first[i] ?? Number.NaN) - b * (second[i] ?? Number.NaN)),
  );
  // Each factor is rounded once to singles.
  expect(apart).toBeLessThan(2 ** -20 * (Math.abs(a) * Math.hypot(...first) + Math.abs(b) * Math.hypot(...second)));
}

/** Families whose ΔW a file says by itself. */
const additive = adapters.filter(({ delta, unmeasured, family }) => delta && !unmeasured && family !== 'norm');
const pairs = additive.flatMap((first) =>
  additive
    .filter(({ kernel }) => kernel === first.kernel)
    .map((second) => [titleOf(first), titleOf(second), first, second] as const),
);

test.each(pairs)('%s and %s add up, and so do their biases', async (_one, _other, first, second) => {
  await using folder = await openFolder();
  const [a, b] = [await write(folder, 'a', first), await write(folder, 'b', second, 23)];
  const weights = [0.75, -1.5] as const;
  const { path } = await merged(
    folder,
    [
      [a, weights[0]],
      [b, weights[1]],
    ],
    'fp32',
  );
  expectSum(await mergedDelta(path), await deltaOf(a, first), await deltaOf(b, second), weights);
  const bias = await numbersOf(path, `${MODULE}.diff_b`);
  expect(bias !== undefined).toBe([first, second].some((adapter) => adapter.bias !== undefined));
  if (bias !== undefined) expectSum(bias, await biasOf(a, first), await biasOf(b, second), weights);
});

test.each(additive.map((adapter) => [titleOf(adapter), adapter] as const))(
  '%s in one file alone stays what it is, times its weight',
  async (_, adapter) => {
    await using folder = await openFolder();
    const before = await write(folder, 'a', adapter);
    const { path } = await merged(folder, [[before, -0.7]], 'fp32');
    const isPlain = adapter.family === 'LoRA';
    const found = isPlain ? await mergedDelta(path) : await deltaOf(path, adapter);
    const wanted = await deltaOf(before, adapter);
    expectSum(found, wanted, wanted, [-0.7, 0]);
    if (!isPlain) expect(await namesIn(path)).toEqual(await namesIn(before));
  },
);

const named = (family: string, form?: string): Adapter => {
  const found = adapters.find((adapter) => adapter.family === family && (form === undefined || adapter.form === form));
  if (found === undefined) throw new Error(`there is no ${family}`);
  return found;
};
const lora = named('LoRA');

test.each(
  [named('DoRA'), named('OFT'), named('BOFT'), named('GLoRA')].map((adapter) => [adapter.family, adapter] as const),
)('%s is refused beside another, and kept to the bit alone', async (_, adapter) => {
  await using folder = await openFolder();
  const [a, b] = [await write(folder, 'a', adapter), await write(folder, 'b', lora)];
  const inputs = [
    [a, 1],
    [b, 1],
  ] as const;
  const failure = await merged(folder, inputs).catch((error) => error.failure);
  expect(failure.message).toMatch(new RegExp(`^"${MODULE}" is (?:DoRA|OFT|GLoRA) in ".*a", (?:which|whose) .*\\.$`));
  expect(failure.hint).toContain('lorac chop --drop');
  const { path } = await merged(folder, [[a, 1]], 'fp32');
  expect(await namesIn(path)).toEqual(await namesIn(a));
  for (const name of await namesIn(a)) {
    expect(await numbersOf(path, `${MODULE}.${name}`)).toEqual(await numbersOf(a, `${MODULE}.${name}`));
  }
});

test.each([named('DoRA'), named('OFT')])('$family takes no weight', async (adapter) => {
  await using folder = await openFolder();
  const a = await write(folder, 'a', adapter);
  await expect(merged(folder, [[a, 0.5]])).rejects.toThrow(
    `is ${adapter.family} in "${a}" and cannot be multiplied by 0.5`,
  );
});

test('a LoHa with magnitudes is no LoHa that could be added to', async () => {
  await using folder = await openFolder();
  const tensors = [...adapterTensors(named('LoHa')), tensor(`${MODULE}.dora_scale`, 'F32', [6, 1], [1, 2, 3, 4, 5, 6])];
  const a = await writeLora(folder.path('a'), [], { extra: tensors });
  const b = await write(folder, 'b', lora);
  for (const inputs of [
    [[a, 0.5]],
    [
      [a, 1],
      [b, 1],
    ],
  ] as const) {
    await expect(merged(folder, inputs)).rejects.toThrow(`"${MODULE}" is `);
  }
});

test.each([
  ['LoHa', 'bias'],
  ['LoKr', 'set_weight'],
  ['norm', 'diff'],
] as const)('%s with "%s" is not added up, since a part of it would be lost', async (family, role) => {
  await using folder = await openFolder();
  const tensors = [...adapterTensors(named(family)), tensor(`${MODULE}.${role}`, 'F32', [6], [1, 2, 3, 4, 5, 6])];
  const a = await writeLora(folder.path('a'), [], { extra: tensors });
  const b = await write(folder, 'b', named(family));
  await expect(
    merged(folder, [
      [a, 1],
      [b, 1],
    ]),
  ).rejects.toThrow(`"${MODULE}" has "${role}" in "${a}", which cannot be added to others.`);
});

test('a module of no network that we know has the scale that PEFT says for it', async () => {
  await using folder = await openFolder();
  const [up, down] = [
    tensor('enc.block.lora_B.weight', 'F32', [2, 1], [1, 2]),
    tensor('enc.block.lora_A.weight', 'F32', [1, 3], [3, 4, 5]),
  ];
  const metadata = new Map([['lora_adapter_metadata', '{"unet.lora_alpha":8,"unet.r":1}']]);
  const a = await writeLora(folder.path('a'), [], { extra: [up, down], metadata });
  const alone = await merged(folder, [[a, 0.5]], 'fp32');
  expect([...((await deltas(alone.path)).get('enc.block')?.data ?? [])]).toEqual([12, 16, 20, 24, 32, 40]);
  const twice = await merged(
    folder,
    [
      [a, 0.5],
      [a, 0.5],
    ],
    'fp32',
  );
  expect([...((await deltas(twice.path)).get('enc.block')?.data ?? [])]).toEqual([24, 32, 40, 48, 64, 80]);
});

test('norms are added number by number, also where one file has only one of the two', async () => {
  await using folder = await openFolder();
  const a = await write(folder, 'a', named('norm'));
  const b = await writeLora(folder.path('b'), [], {
    extra: [tensor(`${MODULE}.w_norm`, 'F32', [6], [1, 2, 3, 4, 5, 6])],
  });
  const { path } = await merged(
    folder,
    [
      [a, 2],
      [b, 0.5],
    ],
    'fp32',
  );
  const [w = [], bias = []] = [await numbersOf(a, `${MODULE}.w_norm`), await numbersOf(a, `${MODULE}.b_norm`)];
  expect(await numbersOf(path, `${MODULE}.w_norm`)).toEqual(
    w.map((value, i) => Math.fround(2 * value + 0.5 * (i + 1))),
  );
  expect(await numbersOf(path, `${MODULE}.b_norm`)).toEqual(bias.map((value) => 2 * value));
});

test('IA³ is added on the same side, and refused across sides', async () => {
  await using folder = await openFolder();
  const outputs = named('IA3', 'on outputs');
  const [a, b] = [await write(folder, 'a', outputs), await write(folder, 'b', outputs, 3)];
  const { path } = await merged(
    folder,
    [
      [a, 1],
      [b, -1],
    ],
    'fp32',
  );
  const [first = [], second = []] = [await numbersOf(a, `${MODULE}.weight`), await numbersOf(b, `${MODULE}.weight`)];
  expect(await numbersOf(path, `${MODULE}.weight`)).toEqual(
    first.map((value, i) => Math.fround(value - (second[i] ?? 0))),
  );
  expect(await numbersOf(path, `${MODULE}.on_input`)).toEqual([0]);
  const c = await write(folder, 'c', named('IA3', 'on inputs'));
  await expect(
    merged(folder, [
      [a, 1],
      [c, 1],
    ]),
  ).rejects.toThrow(`"${MODULE}" multiplies inputs in one file and outputs in another`);
});

test.each([
  ['norm', lora],
  ['IA3', lora],
] as const)('%s cannot be added to a LoRA', async (family, other) => {
  await using folder = await openFolder();
  const [a, b] = [await write(folder, 'a', named(family)), await write(folder, 'b', other)];
  await expect(
    merged(folder, [
      [a, 1],
      [b, 1],
    ]),
  ).rejects.toThrow(`"${MODULE}" is of different kinds: ${family} in "${a}", LoRA in "${b}".`);
});

test('a bias alone joins what another file does to the weight', async () => {
  await using folder = await openFolder();
  const a = await write(folder, 'a', lora);
  const b = await writeLora(folder.path('b'), [], {
    extra: [tensor(`${MODULE}.diff_b`, 'F32', [6], [1, 2, 3, 4, 5, 6])],
  });
  const { path } = await merged(
    folder,
    [
      [a, 1],
      [b, 3],
    ],
    'fp32',
  );
  expect(await mergedDelta(path)).toEqual(await mergedDelta(a));
  expect(await numbersOf(path, `${MODULE}.diff_b`)).toEqual([3, 6, 9, 12, 15, 18]);
});

test('LoHa and LoKr of low rank stay factors of a LoRA when they are added to one', async () => {
  await using folder = await openFolder();
  const [out, width] = [40, 30];
  const random = randomNumbers(31);
  const made = (name: string, ...shape: readonly number[]): TensorToWrite => {
    const length = shape.reduce((product, side) => product * side, 1);
    return tensor(`${MODULE}.${name}`, 'F32', shape, Array.from({ length }, random));
  };
  const alpha = tensor(`${MODULE}.alpha`, 'F32', [], [3]);
  const haTensors = [
    made('hada_w1_a', out, 2),
    made('hada_w1_b', 2, width),
    made('hada_w2_a', out, 2),
    made('hada_w2_b', 2, width),
  ];
  const ha = await writeLora(folder.path('ha'), [], { extra: [alpha, ...haTensors] });
  const krTensors = [made('lokr_w1', 4, 2), made('lokr_w2_a', 10, 3), made('lokr_w2_b', 3, 15)];
  const kr = await writeLora(folder.path('kr'), [], { extra: [alpha, ...krTensors] });
  const plain = await writeLora(folder.path('plain'), [
    { name: MODULE, out, in: width, rank: 3, alpha: 5, dtype: 'F32' },
  ]);
  const { path } = await merged(
    folder,
    [
      [ha, 0.5],
      [kr, -2],
      [plain, 1],
    ],
    'fp32',
  );
  await using file = await SafetensorsFile.open(path);
  // 2 · 2 of LoHa, min(4, 2) · 3 of LoKr, and 3.
  expect(file.tensor(`${MODULE}.lora_up.weight`).shape).toEqual([out, 13]);

  const read = async (from: string, name: string, rows: number) => {
    const numbers = (await numbersOf(from, `${MODULE}.${name}`)) ?? [];
    return matrix(rows, numbers.length / rows, numbers);
  };
  const [one, two] = [
    multiply(await read(ha, 'hada_w1_a', out), await read(ha, 'hada_w1_b', 2)),
    multiply(await read(ha, 'hada_w2_a', out), await read(ha, 'hada_w2_b', 2)),
  ];
  const [w1, w2] = [
    await read(kr, 'lokr_w1', 4),
    multiply(await read(kr, 'lokr_w2_a', 10), await read(kr, 'lokr_w2_b', 3)),
  ];
  const both = Array.from({ length: out * width }, (_, index) => {
    const [o, i] = [Math.floor(index / width), index % width];
    const loha = (3 / 2) * at(one, o, i) * at(two, o, i);
    const lokr = (3 / 3) * at(w1, Math.floor(o / 10), Math.floor(i / 15)) * at(w2, o % 10, i % 15);
    return 0.5 * loha - 2 * lokr;
  });
  expectSum(await mergedDelta(path), both, await mergedDelta(plain), [1, 1]);
});

test('a kernel that flattened factors hide is known from the network, and from the layer where that is unknown', async () => {
  await using folder = await openFolder();
  const conv = async (module: string, [out, width]: readonly number[], side: number, name: string) => {
    const flat = ['hada_w1_a', 'hada_w1_b', 'hada_w2_a', 'hada_w2_b'].map((role) => {
      const shape = role.endsWith('a') ? [out ?? 0, 1] : [1, (width ?? 0) * side * side];
      return tensor(`${module}.${role}`, 'F32', shape, new Array((shape[0] ?? 0) * (shape[1] ?? 0)).fill(0.5));
    });
    return writeLora(folder.path(name), [], { extra: flat });
  };
  const convolution = 'lora_unet_input_blocks_1_0_in_layers_2';
  const skip = 'lora_unet_input_blocks_4_0_skip_connection';
  for (const [module, sizes, side] of [
    [convolution, [320, 320], 3],
    [convolution, [12, 10], 3],
    [skip, [640, 320], 1],
    [skip, [12, 10], 1],
  ] as const) {
    const [a, b] = [await conv(module, sizes, side, 'a'), await conv(module, sizes, side, 'b')];
    const { path } = await merged(folder, [
      [a, 1],
      [b, 1],
    ]);
    await using file = await SafetensorsFile.open(path);
    expect(file.tensor(`${module}.lora_down.weight`).shape).toEqual([2, sizes[1], side, side]);
    expect(file.tensor(`${module}.lora_up.weight`).shape).toEqual([sizes[0], 2, 1, 1]);
  }
});
