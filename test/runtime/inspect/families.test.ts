// Each family of adapters is known by its tensors, and what it does is measured as it is defined.

import { expect, test } from 'vitest';
import type { BaseWeights } from '../../../src/runtime/inspect/base-weights.ts';
import { measureDifference, measureNorms, type Side } from '../../../src/runtime/inspect/norms.ts';
import { reportLora } from '../../../src/runtime/inspect/report.ts';
import { energyOf, readSpectra, sharesOf } from '../../../src/runtime/inspect/spectra.ts';
import { fromNumbers } from '../../../src/runtime/safetensors/convert.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { type Adapter, adapters, baseWeight, IN, OUT, titleOf, writeAdapter } from '../../helpers/adapters.ts';
import { openFolder } from '../safetensors/files.ts';
import { writeLora } from '../stages/lora-files.ts';
import { writeFactors } from '../stages/reference-factors.ts';

const { signal } = new AbortController();

function baseOf(adapter: Adapter): BaseWeights {
  const bytes = fromNumbers(Float64Array.from(baseWeight(adapter)), 'F32');
  const kernel = adapter.kernel === undefined ? [] : [adapter.kernel, adapter.kernel];
  return { read: async () => ({ dtype: 'F32', bytes: new Uint8Array(bytes), shape: [OUT, IN, ...kernel] }) };
}

test.each(adapters.map((adapter) => [titleOf(adapter), adapter] as const))('%s', async (_, adapter) => {
  await using folder = await openFolder();
  const norm = await writeAdapter(folder.path('one.safetensors'), adapter);
  await using file = await SafetensorsFile.open(folder.path('one.safetensors'));
  const { modules, strangers } = reportLora(file);
  expect(strangers).toEqual([]);
  expect(modules).toHaveLength(1);
  const [facts] = modules;
  const { family, kind, rank } = adapter;
  expect(facts).toMatchObject({ family, kind, rank, problems: [], place: 'MID01' });
  if (adapter.scale !== undefined) expect(facts?.scale).toBeCloseTo(adapter.scale, 12);
  const alone = await measureNorms(file, modules, { signal });
  expect([...alone.unmeasured.keys()]).toEqual(adapter.unmeasured === undefined ? [] : [adapter.unmeasured]);
  const measured = await measureNorms(file, modules, { signal, base: baseOf(adapter) });
  if (adapter.delta === undefined) {
    expect([...measured.unmeasured.keys()]).toEqual(['turns the base weight, which is not measured']);
    return;
  }
  const [value = 0] = measured.modules.values();
  // Sums in doubles of numbers in singles: what differs is the order of adding.
  expect(Math.abs(value / norm - 1)).toBeLessThan(1e-12);
  if (facts?.out !== undefined) expect(facts).toMatchObject({ out: OUT, columns: IN * (adapter.kernel ?? 1) ** 2 });
});

test('a base that lacks the weight, or has another shape, leaves the module unmeasured', async () => {
  await using folder = await openFolder();
  for (const adapter of adapters.filter(({ unmeasured, delta }) => unmeasured !== undefined && delta !== undefined)) {
    await writeAdapter(folder.path('one.safetensors'), adapter);
    await using file = await SafetensorsFile.open(folder.path('one.safetensors'));
    const { modules } = reportLora(file);
    const reasonWith = async (base: BaseWeights) => [
      ...(await measureNorms(file, modules, { signal, base })).unmeasured.keys(),
    ];
    expect(await reasonWith({ read: async () => undefined })).toEqual([
      'depends on a weight that the base does not have',
    ]);
    const odd = { dtype: 'F32', bytes: new Uint8Array(4 * 7 * 8), shape: [7, 8] } as const;
    expect(await reasonWith({ read: async () => odd })).toEqual(['has tensors that do not fit the base weight']);
  }
});

const measurable = adapters.filter(
  ({ delta, kernel, unmeasured }) => delta !== undefined && kernel === 3 && unmeasured === undefined,
);

test('two files of different families are as far apart as their ΔW are', async () => {
  await using folder = await openFolder();
  for (const [index, adapter] of measurable.entries()) await writeAdapter(folder.path(`${index}`), adapter);
  for (const [index, adapter] of measurable.entries()) {
    await using first = await SafetensorsFile.open(folder.path(`${index}`));
    await using second = await SafetensorsFile.open(folder.path(`${(index + 1) % measurable.length}`));
    const sides = [first, second].map((file) => ({ file, modules: reportLora(file).modules })) as [Side, Side];
    const { whole } = await measureDifference(...sides, { signal });
    // Both are random, so that they are neither equal nor far more than both norms apart.
    expect([titleOf(adapter), whole > 0.1]).toEqual([titleOf(adapter), true]);
    const [one, two] = await Promise.all(sides.map(({ file, modules }) => measureNorms(file, modules, { signal })));
    const [a = 0] = one?.modules.values() ?? [];
    const [b = 0] = two?.modules.values() ?? [];
    expect(whole * a).toBeLessThanOrEqual((a + b) * (1 + 1e-12));
    expect(whole * a).toBeGreaterThanOrEqual(Math.abs(a - b) * (1 - 1e-12));
    const same = await measureDifference(sides[0], sides[0], { signal });
    expect(same.whole).toBe(0);
  }
});

test('norms from a decomposition are those that are measured, and tell how much few directions carry', async () => {
  await using folder = await openFolder();
  await writeLora(folder.path('lora'));
  await writeFactors(folder.path('lora'), folder.path('factors'));
  await using file = await SafetensorsFile.open(folder.path('lora'));
  await using factors = await SafetensorsFile.open(folder.path('factors'));
  const spectra = readSpectra(factors);
  const { modules } = reportLora(file);
  const measured = await measureNorms(file, modules, { signal });
  const known = await measureNorms(file, modules, { signal, spectra });
  expect([known.decomposed, known.modules.size]).toEqual([5, 5]);
  for (const [name, norm] of measured.modules) expect((known.modules.get(name) ?? 0) / norm).toBeCloseTo(1, 5);
  expect([...known.shares.keys()].sort()).toEqual(['IN04', 'MID00', 'OUT01', 'TE1', 'TE2']);
  for (const [first = 0, four = 0, sixteen = 0] of known.shares.values()) {
    expect(first).toBeGreaterThan(0.25);
    expect(first).toBeLessThan(four);
    // Their rank is four.
    expect([four, sixteen]).toEqual([expect.closeTo(1, 12), expect.closeTo(1, 12)]);
  }
  const some = new Map([...spectra].slice(0, 2));
  expect(await measureNorms(file, modules, { signal, spectra: some })).toMatchObject({ decomposed: 2 });
});

test('what an extraction cut off counts as strength, and in no direction', () => {
  const energy = energyOf({ sigma: Float32Array.of(2, 1), discarded: 5 });
  expect(energy.all).toBe(10);
  expect(sharesOf(energy)).toEqual([0.4, 0.5, 0.5]);
});
