// What is written is read back, equal content has equal bytes, and the hashes are those of the bytes.

import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { fromNumbers, negate, toFloat32, toFloat64 } from '../../../src/runtime/safetensors/convert.ts';
import { byteLengthOf, DTYPES, type Dtype, rankOf } from '../../../src/runtime/safetensors/dtype.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { hashesOf } from '../../../src/runtime/safetensors/hashes.ts';
import { compareUtf8, type Metadata } from '../../../src/runtime/safetensors/layout.ts';
import { sizeWithHashes, type TensorToWrite, writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { openFolder } from './files.ts';

const name = fc.oneof(
  fc.string({ maxLength: 12 }),
  fc.string({ unit: 'grapheme', maxLength: 8 }),
  fc.constant('__proto__'),
);
const someTensor = fc
  .record({ name, dtype: fc.constantFrom(...DTYPES), shape: fc.array(fc.nat(5), { maxLength: 3 }), seed: fc.nat(255) })
  .filter((tensor) => tensor.name !== '__metadata__' && byteLengthOf(tensor.dtype, tensor.shape) !== undefined)
  .map(({ name, dtype, shape, seed }): TensorToWrite & { bytes: Uint8Array } => {
    const bytes = Uint8Array.from({ length: byteLengthOf(dtype, shape) ?? 0 }, (_, i) => (seed + i * 7) % 256);
    return {
      name,
      dtype,
      shape,
      bytes,
      source: seed % 2 ? { kind: 'bytes', bytes } : { kind: 'made', make: async () => bytes },
    };
  });
const someFile = fc.record({
  tensors: fc.uniqueArray(someTensor, { selector: (tensor) => tensor.name, maxLength: 12 }),
  metadata: fc.option(fc.array(fc.tuple(fc.string({ unit: 'grapheme' }), fc.string()), { maxLength: 4 }), {
    nil: undefined,
  }),
});

test('what is written is read back, and does not depend on the order it was given in', async () => {
  await using folder = await openFolder();
  const property = fc.asyncProperty(someFile, async ({ tensors, metadata }) => {
    const map = metadata && new Map(metadata);
    const path = folder.path('a.safetensors');
    const size = await writeSafetensors({ path, tensors, metadata: map, hashes: false });
    const bytes = await readFile(path);
    expect(bytes.length).toBe(size);
    {
      await using file = await SafetensorsFile.open(path);
      expect(new Map(file.header.metadata ?? [])).toEqual(map ?? new Map());
      expect(file.header.dataStart % 8).toBe(0);
      expect(file.header.tensors.size).toBe(tensors.length);
      for (const tensor of tensors) {
        expect(file.tensor(tensor.name)).toMatchObject({ dtype: tensor.dtype, shape: tensor.shape });
        expect(Buffer.from(await file.bytesOf(tensor.name)).equals(tensor.bytes)).toBe(true);
      }
    }
    const reversed = metadata && new Map([...(map ?? [])].reverse());
    const other = folder.path('b.safetensors');
    await writeSafetensors({ path: other, tensors: [...tensors].reverse(), metadata: reversed, hashes: false });
    expect((await readFile(other)).equals(bytes)).toBe(true);
    expect(await readdir(folder.path('.'))).not.toContainEqual(expect.stringMatching(/tmp$/));
  });
  await fc.assert(property, { numRuns: 60 });
});

test('tensors lie wide types first and then by name, whatever order a reader met them in', async () => {
  await using folder = await openFolder();
  const make = (name: string, dtype: Dtype): TensorToWrite => ({
    name,
    dtype,
    shape: [3],
    source: { kind: 'bytes', bytes: new Uint8Array(byteLengthOf(dtype, [3]) ?? 0) },
  });
  const path = folder.path('order.safetensors');
  const tensors = [make('b', 'F16'), make('a', 'U8'), make('z', 'F32'), make('a2', 'F16')];
  await writeSafetensors({ path, tensors, metadata: undefined, hashes: false });
  await using file = await SafetensorsFile.open(path);
  expect([...file.header.tensors.keys()]).toEqual(['z', 'a2', 'b', 'a']);
  expect(rankOf('F32')).toBeGreaterThan(rankOf('F16'));
});

test('copied ranges keep their bytes, over chunks and out of order', async () => {
  await using folder = await openFolder();
  const source = folder.path('source.safetensors');
  const big = new Uint8Array(5_000_001).map((_, i) => (i * 31) % 251);
  const tensors: TensorToWrite[] = ['a', 'b', 'c', 'd'].map((name, i) => ({
    name,
    dtype: 'U8',
    shape: [i === 1 ? big.length : 7 + i],
    source: { kind: 'bytes', bytes: i === 1 ? big : new Uint8Array(7 + i).fill(i) },
  }));
  await writeSafetensors({ path: source, tensors, metadata: undefined, hashes: false });
  await using file = await SafetensorsFile.open(source);
  const copies = ['d', 'b', 'a'].map((name, i): TensorToWrite => {
    const { dtype, shape } = file.tensor(name);
    return { name: `${i}`, dtype, shape, source: { kind: 'copy', file, tensor: name } };
  });
  const path = folder.path('copy.safetensors');
  await writeSafetensors({ path, tensors: copies, metadata: undefined, hashes: false });
  await using copied = await SafetensorsFile.open(path);
  for (const [i, name] of ['d', 'b', 'a'].entries()) {
    expect(Buffer.from(await copied.bytesOf(`${i}`)).equals(await file.bytesOf(name))).toBe(true);
  }
});

test.each([100, 600_000])(
  'the hashes are those of the bytes, and old ones do not survive (%i elements)',
  async (elements) => {
    await using folder = await openFolder();
    const path = folder.path('hashed.safetensors');
    const bytes = new Uint8Array(elements * 4).map((_, i) => (i * i) % 253);
    const tensors: TensorToWrite[] = [{ name: 'w', dtype: 'F32', shape: [elements], source: { kind: 'bytes', bytes } }];
    const metadata: Metadata = new Map([
      ['ss_network_dim', '8'],
      ['other', 'x'.repeat(300)],
      ['sshs_model_hash', '0xwrong'],
      ['modelspec.hash_sha256', 'wrong'],
    ]);
    const size = await writeSafetensors({ path, tensors, metadata, hashes: true });
    expect(size).toBe(sizeWithHashes(tensors, metadata));
    await using file = await SafetensorsFile.open(path);
    const written = file.header.metadata;
    const hashes = await hashesOf(path);
    expect(written?.get('sshs_model_hash')).toBe(createHash('sha256').update(bytes).digest('hex'));
    expect(hashes).toEqual({
      file: createHash('sha256')
        .update(await readFile(path))
        .digest('hex'),
      model: written?.get('sshs_model_hash'),
      legacy: written?.get('sshs_legacy_hash'),
      autoV3: written?.get('sshs_model_hash')?.slice(0, 12),
    });
    expect(written?.has('modelspec.hash_sha256')).toBe(false);

    // The legacy hash, the slow way: the file as it is with its training metadata alone.
    const plain = folder.path('plain.safetensors');
    await writeSafetensors({ path: plain, tensors, metadata: new Map([['ss_network_dim', '8']]), hashes: false });
    const window = (await readFile(plain)).subarray(2 ** 20, 2 ** 20 + 2 ** 16);
    expect(hashes.legacy).toBe(createHash('sha256').update(window).digest('hex').slice(0, 8));
  },
);

test('a failure while writing leaves nothing behind', async () => {
  await using folder = await openFolder();
  const make = async (): Promise<Uint8Array> => {
    throw new Error('no numbers today');
  };
  const tensors: TensorToWrite[] = [{ name: 'w', dtype: 'F32', shape: [2], source: { kind: 'made', make } }];
  const path = join(folder.path('.'), 'x.safetensors');
  await expect(writeSafetensors({ path, tensors, metadata: undefined, hashes: true })).rejects.toThrow('no numbers');
  expect(await readdir(folder.path('.'))).toEqual([]);
});

test('numbers survive the way into each type and back as well as the type allows', () => {
  const property = fc.property(fc.float32Array({ noNaN: true, min: -60000, max: 60000 }), (numbers) => {
    const plain = Float32Array.from(numbers);
    expect(toFloat32(fromNumbers(plain, 'F32'), 'F32')).toEqual(plain);
    const half = toFloat32(fromNumbers(plain, 'F16'), 'F16') ?? new Float32Array();
    const brain = toFloat32(fromNumbers(plain, 'BF16'), 'BF16') ?? new Float32Array();
    for (const [i, value] of plain.entries()) {
      expect(half[i]).toBe(Math.f16round(value));
      expect(Math.abs((brain[i] ?? 0) - value)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -8 + 1e-40);
    }
    expect(toFloat32(fromNumbers(brain, 'BF16'), 'BF16')).toEqual(brain);
  });
  fc.assert(property);
});

test('bfloat16 rounds to the nearest, ties to even, and keeps what is not a number', () => {
  const cases = Float32Array.of(1, 1.00390625, 1.01171875, -1.00390625, 3.4e38, Infinity, -Infinity, NaN, 0, -0);
  const back = toFloat64(fromNumbers(cases, 'BF16'), 'BF16');
  expect([...(back ?? [])]).toEqual([1, 1, 1.015625, -1, Infinity, Infinity, -Infinity, NaN, 0, -0]);
});

test('integers are read too, and flipping a sign twice changes nothing', () => {
  expect([...(toFloat64(Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 255), 'I64') ?? [])]).toEqual([-1]);
  expect([...(toFloat64(Uint8Array.of(4, 0), 'U16') ?? [])]).toEqual([4]);
  const bytes = fromNumbers(Float32Array.of(1.5, -2, 0), 'F16');
  negate(bytes, 'F16');
  expect([...(toFloat32(bytes, 'F16') ?? [])]).toEqual([-1.5, 2, -0]);
  expect(negate(new Uint8Array(1), 'U8')).toBe(false);
});

test('names are ordered as their UTF-8 bytes are', () => {
  const property = fc.property(fc.string({ unit: 'binary' }), fc.string({ unit: 'binary' }), (a, b) => {
    fc.pre(a.isWellFormed() && b.isWellFormed());
    expect(Math.sign(compareUtf8(a, b))).toBe(Buffer.compare(Buffer.from(a), Buffer.from(b)));
  });
  fc.assert(property, { numRuns: 500 });
});
