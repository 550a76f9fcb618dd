// All recipes of the golden data, made by the tool that the guide uses: the same ranks, and ΔW to 1e-4.

import { readFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { resize } from '../../../src/runtime/stages/resize.ts';
import { recipeAttributes, type WrittenRecipe } from '../../../src/runtime/surgery/resize/recipe.ts';
import { relativeError } from '../../helpers/linear-algebra.ts';
import { openFolder } from '../safetensors/files.ts';
import { deltas, flat, runAlone } from './lab.ts';
import { type ReferenceFiles, writeFactors, writeReferences } from './reference-factors.ts';

const golden = join(import.meta.dirname, '../../fixtures/golden/resize');
const lora = join(golden, 'lora.safetensors');

interface Expected {
  readonly recipe: string;
  readonly threshold: number | null;
  readonly ranks: { readonly [module: string]: number };
}
const expected = JSON.parse(readFileSync(join(golden, 'expected.json'), 'utf8')) as readonly Expected[];

let folder: Awaited<ReturnType<typeof openFolder>>;
let references: ReferenceFiles;
beforeAll(async () => {
  folder = await openFolder();
  const factors = await writeFactors(lora, folder.path('factors.safetensors'));
  references = await writeReferences({ base: join(golden, 'base.safetensors'), factors, path: folder.path });
});
afterAll(() => folder[Symbol.asyncDispose]());

/** `fro_ckpt=1,thr=-3.5` */
function parseRecipe(text: string): WrittenRecipe {
  return Object.fromEntries(
    text
      .split(',')
      .map((pair) => pair.split('='))
      .map(([key, value]) => [key, Number(value)]),
  );
}

async function resized(recipe: WrittenRecipe, name: string): Promise<string> {
  const work = folder.path(name);
  await mkdir(work, { recursive: true });
  const inputs = { lora, factors: folder.path('factors.safetensors'), ...references };
  const { outputs } = await runAlone({ stage: resize, attributes: recipeAttributes(recipe), inputs, work });
  return outputs.lora ?? '';
}

async function ranksOf(path: string): Promise<Record<string, number>> {
  await using file = await SafetensorsFile.open(path);
  const downs = [...file.header.tensors.values()].filter(({ name }) => name.endsWith('.lora_down.weight'));
  return Object.fromEntries(downs.map(({ name, shape }) => [name.replace('.lora_down.weight', ''), shape[0] ?? 0]));
}

async function expectDeltas(path: string, index: number, modules: readonly string[]): Promise<void> {
  await using wanted = await SafetensorsFile.open(join(golden, 'expected-deltas.safetensors'));
  const found = await deltas(path);
  for (const module of modules) {
    const [ours, theirs] = [found.get(module), await flat(wanted, `${index}/${module}`)];
    if (ours === undefined || theirs === undefined) throw new Error(`${module} is missing`);
    expect([module, relativeError(ours, theirs)]).toEqual([module, expect.closeTo(0, 4)]);
    expect(relativeError(ours, theirs)).toBeLessThan(1e-4);
  }
}

const withThreshold = expected
  .map((entry, index) => ({ ...entry, index }))
  .filter(({ recipe }) => !recipe.includes('size=0.02'));

test.each(withThreshold)('$recipe keeps the same directions at the same strength', async ({ recipe, ranks, index }) => {
  const path = await resized({ ...parseRecipe(recipe), precision: 'fp32' }, `recipe-${index}`);
  expect(await ranksOf(path)).toEqual(ranks);
  await expectDeltas(path, index, Object.keys(ranks));
});

test('a size keeps the same directions as its threshold would, without what crosses the budget', async () => {
  const index = expected.findIndex(({ recipe }) => recipe.includes('size=0.02'));
  const { ranks, threshold } = expected[index] as Expected;
  const same = await resized({ fro_ckpt: 0.8, params: 0.2, thr: (threshold ?? 0) - 1e-6, precision: 'fp32' }, 'as-thr');
  expect(await ranksOf(same)).toEqual(ranks);
  await expectDeltas(same, index, Object.keys(ranks));

  const budget = await resized({ fro_ckpt: 0.8, params: 0.2, size: 0.02 }, 'as-size');
  await using file = await SafetensorsFile.open(budget);
  expect(file.sizeBytes).toBeLessThanOrEqual(0.02 * 2 ** 20);
  for (const [module, rank] of Object.entries(await ranksOf(budget)))
    expect(rank).toBeLessThanOrEqual(ranks[module] ?? 0);
});
