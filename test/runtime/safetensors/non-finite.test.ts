// NaN and infinity are found in whatever tensor they are, and nothing else is taken for them.

import { writeFile } from 'node:fs/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { hashesOf } from '../../../src/runtime/safetensors/hashes.ts';
import { NonFiniteScan } from '../../../src/runtime/safetensors/non-finite.ts';
import { writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { tensor } from '../stages/lora-files.ts';
import { openFolder } from './files.ts';

async function found(path: string): Promise<readonly string[]> {
  await using file = await SafetensorsFile.open(path);
  const scan = new NonFiniteScan(file);
  await hashesOf(path, { onBytes: (bytes, position) => scan.update(bytes, position) });
  return await scan.names();
}

const number = fc.oneof(
  { weight: 8, arbitrary: fc.double({ min: -60_000, max: 60_000, noNaN: true }) },
  fc.constantFrom(65_504, -65_504, 0, -0, 6e-8),
  fc.constantFrom(Number.NaN, Number.POSITIVE_INFINITY, Number.NEGATIVE_INFINITY),
);
const contents = fc.array(
  fc.record({
    dtype: fc.constantFrom('F16' as const, 'BF16' as const, 'F32' as const),
    numbers: fc.array(number, { minLength: 1, maxLength: 9 }),
  }),
  { minLength: 1, maxLength: 6 },
);

test('exactly the tensors with such numbers are named', async () => {
  await using folder = await openFolder();
  const property = fc.asyncProperty(contents, async (tensors) => {
    const path = folder.path('one.safetensors');
    const written = tensors.map(({ dtype, numbers }, index) => tensor(`t${index}`, dtype, [numbers.length], numbers));
    await writeSafetensors({ path, tensors: written, metadata: undefined, hashes: false });
    const wanted = tensors.flatMap(({ numbers }, index) => (numbers.every(Number.isFinite) ? [] : `t${index}`));
    expect(await found(path)).toEqual(wanted);
  });
  await fc.assert(property, { numRuns: 60 });
});

test.each([0, 1, 2, 3])('also where data begins %i bytes behind a multiple of four', async (odd) => {
  await using folder = await openFolder();
  const numbers = [1, Number.NaN, 2];
  const header = `{"a":{"dtype":"F16","shape":[3],"data_offsets":[0,6]},"b":{"dtype":"F64","shape":[1],"data_offsets":[6,14]}}`;
  const padded = header.padEnd(Math.ceil(header.length / 4) * 4 + odd);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(padded.length));
  const data = Buffer.concat([
    Buffer.from(Float16Array.from(numbers).buffer),
    Buffer.from(Float64Array.of(Number.NaN).buffer),
  ]);
  await writeFile(folder.path('one'), Buffer.concat([length, Buffer.from(padded), data]));
  expect(await found(folder.path('one'))).toEqual(['a', 'b']);
});

test('the end of one piece and the beginning of the next belong to their own tensors', async () => {
  await using folder = await openFolder();
  const count = 3 * 2 ** 20;
  const values = (at: number) => Float64Array.from({ length: count }, (_, i) => (i === at ? Number.NaN : 1));
  // Pieces have 4 MiB, so that the second tensor begins in one and ends in another.
  const tensors = [tensor('a', 'F16', [count], [...values(-1)]), tensor('b', 'F16', [count], [...values(count - 1)])];
  await writeSafetensors({ path: folder.path('one'), tensors, metadata: undefined, hashes: false });
  expect(await found(folder.path('one'))).toEqual(['b']);
});
