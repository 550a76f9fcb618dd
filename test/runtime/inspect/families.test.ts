// Each family of adapters is known by its tensors, and its ΔW measured as it is defined.

import { expect, test } from 'vitest';
import { measureDifference, measureNorms, type Side } from '../../../src/runtime/inspect/norms.ts';
import { reportLora } from '../../../src/runtime/inspect/report.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { openFolder } from '../safetensors/files.ts';
import { families, IN, OUT, writeFamily } from './files.ts';

const { signal } = new AbortController();

test.each(families.map((example) => [`${example.family}: ${Object.keys(example.shapes).join(' ')}`, example] as const))(
  '%s',
  async (_, example) => {
    await using folder = await openFolder();
    const norm = await writeFamily(folder.path('one.safetensors'), example);
    await using file = await SafetensorsFile.open(folder.path('one.safetensors'));
    const { modules, strangers } = reportLora(file);
    expect(strangers).toEqual([]);
    expect(modules).toHaveLength(1);
    const { family, kind, rank, scale, problems, place } = modules[0] ?? {};
    expect({ family, kind, rank, problems, place }).toEqual({
      family: example.family,
      kind: example.kind,
      rank: example.rank,
      problems: [],
      place: 'MID01',
    });
    if (example.scale !== undefined) expect(scale).toBeCloseTo(example.scale, 12);
    const measured = await measureNorms(file, modules, { signal });
    if (example.delta === undefined && example.family !== 'norm') {
      expect(measured.modules.size).toBe(0);
      expect([...measured.unmeasured.keys()]).toEqual(['depends on the base weight']);
    } else if (example.delta !== undefined) {
      const [value = 0] = measured.modules.values();
      // Sums in doubles of numbers in singles: what differs is the order of adding.
      expect(Math.abs(value / norm - 1)).toBeLessThan(1e-12);
      expect(modules[0]).toMatchObject({ out: OUT, columns: IN * (example.kernel ?? 1) ** 2 });
    }
  },
);

const measurable = families.filter(({ delta, kernel }) => delta !== undefined && kernel === 3);

test('two files of different families are as far apart as their ΔW are', async () => {
  await using folder = await openFolder();
  for (const [index, example] of measurable.entries()) await writeFamily(folder.path(`${index}`), example);
  for (const [index, example] of measurable.entries()) {
    await using first = await SafetensorsFile.open(folder.path(`${index}`));
    await using second = await SafetensorsFile.open(folder.path(`${(index + 1) % measurable.length}`));
    const sides = [first, second].map((file) => ({ file, modules: reportLora(file).modules })) as [Side, Side];
    const { whole } = await measureDifference(...sides, { signal });
    // Both are random, so that they are neither equal nor far more than both norms apart.
    expect([example.family, whole > 0.1]).toEqual([example.family, true]);
    const [one, two] = await Promise.all(sides.map(({ file, modules }) => measureNorms(file, modules, { signal })));
    const [a = 0] = one?.modules.values() ?? [];
    const [b = 0] = two?.modules.values() ?? [];
    expect(whole * a).toBeLessThanOrEqual((a + b) * (1 + 1e-12));
    expect(whole * a).toBeGreaterThanOrEqual(Math.abs(a - b) * (1 - 1e-12));
    const same = await measureDifference(sides[0], sides[0], { signal });
    expect(same.whole).toBe(0);
  }
});
