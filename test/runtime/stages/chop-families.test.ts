// A weight multiplies what a module does by exactly that weight, in every family of adapters that this can be said of.
// Held against the definition of each family, computed in doubles before and after.

import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { chop } from '../../../src/runtime/stages/chop.ts';
import { type Adapter, adapters, adapterTensors, biasOf, deltaOf, titleOf } from '../../helpers/adapters.ts';
import { openFolder } from '../safetensors/files.ts';
import { runAlone } from './lab.ts';
import { type Float, tensor } from './lora-files.ts';

type Folder = Awaited<ReturnType<typeof openFolder>>;

async function chopped(folder: Folder, adapter: Adapter, weight: number, dtype: Float = 'F32') {
  const before = folder.path('before.safetensors');
  await writeSafetensors({ path: before, tensors: adapterTensors(adapter, dtype), metadata: undefined, hashes: false });
  const { outputs } = await runAlone({
    stage: chop,
    attributes: { weights: { MID01: weight } },
    inputs: { lora: before },
    work: folder.path('.'),
  });
  return { before, after: outputs.lora ?? '' };
}

const NOT_LINEAR = ['DoRA', 'DoRA (by input)', 'OFT', 'BOFT'];
const linear = adapters.filter(({ family }) => !NOT_LINEAR.includes(family));
const titled = (some: readonly Adapter[]) => some.map((adapter) => [titleOf(adapter), adapter] as const);

/** One rounding of a factor to its type, and as much again for the order of sums. */
const ROUNDING = { F32: 2 ** -22, F16: 2 ** -10, BF16: 2 ** -7 };

test.each(titled(linear))('%s: w scales ΔW and bias by w', async (_, adapter) => {
  await using folder = await openFolder();
  const weight = fc.double({ min: -4, max: 4, noNaN: true }).filter((value) => Math.abs(value) > 1e-2);
  const dtype = fc.constantFrom('F32' as const, 'F16' as const, 'BF16' as const);
  const property = fc.asyncProperty(weight, dtype, async (w, type) => {
    const { before, after } = await chopped(folder, adapter, w, type);
    for (const read of [deltaOf, biasOf]) {
      const [old, now] = [await read(before, adapter), await read(after, adapter)];
      expect(now).toHaveLength(old.length);
      const error = norm(now.map((value, i) => value - w * (old[i] ?? Number.NaN)));
      expect(error).toBeLessThanOrEqual(ROUNDING[type] * Math.abs(w) * norm(old));
    }
  });
  await fc.assert(property, {
    numRuns: 15,
    examples: [
      [0.5, 'F32'],
      [-1, 'F16'],
    ],
  });
});

function norm(numbers: readonly number[]): number {
  return Math.sqrt(numbers.reduce((sum, value) => sum + value ** 2, 0));
}

test.each(titled(adapters))('%s: the weight 1 keeps every byte of every tensor', async (_, adapter) => {
  await using folder = await openFolder();
  const { before, after } = await chopped(folder, adapter, 1, 'F16');
  await using old = await SafetensorsFile.open(before);
  await using now = await SafetensorsFile.open(after);
  expect([...now.header.tensors.keys()].sort()).toEqual([...old.header.tensors.keys()].sort());
  for (const { name, dtype, shape } of old.header.tensors.values()) {
    expect(now.tensor(name)).toMatchObject({ dtype, shape });
    expect(Buffer.compare(await now.bytesOf(name), await old.bytesOf(name))).toBe(0);
  }
});

test.each(titled(adapters))('%s: the weight 0 leaves no tensor of it', async (_, adapter) => {
  await using folder = await openFolder();
  const beside = tensor('lora_unet_out_2.diff', 'F32', [1], [1]);
  const before = folder.path('before.safetensors');
  const tensors = [...adapterTensors(adapter), beside];
  await writeSafetensors({ path: before, tensors, metadata: undefined, hashes: false });
  const attributes = { drop: ['MID01'] };
  const { outputs } = await runAlone({ stage: chop, attributes, inputs: { lora: before }, work: folder.path('.') });
  await using after = await SafetensorsFile.open(outputs.lora ?? '');
  expect([...after.header.tensors.keys()]).toEqual([beside.name]);
});

test.each(titled(adapters.filter(({ family }) => NOT_LINEAR.includes(family))))(
  '%s: no weight but 0 and 1, and the reason is given',
  async (_, adapter) => {
    await using folder = await openFolder();
    const family = /OFT|DoRA/.exec(adapter.family)?.[0];
    await expect(chopped(folder, adapter, 0.5)).rejects.toThrow(
      `The weight 0.5 cannot be given to MID01, which has 1 module of kind ${family} (lora_unet_middle_block_1_toy): `,
    );
    await expect(chopped(folder, adapter, -1)).rejects.toThrow('cannot be given');
  },
);
