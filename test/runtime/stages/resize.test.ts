// Resizing: what stays, how exactly, how large, and what is said about the rest.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { StageFailure } from '../../../src/runtime/events.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { hashesOf } from '../../../src/runtime/safetensors/hashes.ts';
import { groupModules } from '../../../src/runtime/sdxl/lora.ts';
import { resize } from '../../../src/runtime/stages/resize.ts';
import { readRecipe, recipeAttributes, type WrittenRecipe } from '../../../src/runtime/surgery/resize/recipe.ts';
import { frobenius, relativeError } from '../../helpers/linear-algebra.ts';
import { openFolder } from '../safetensors/files.ts';
import { deltas, metadataOf, runAlone } from './lab.ts';
import { fiveModules, IN04, MID00, OUT01, TE1, TE2, type TinyModule, tensor, writeLora } from './lora-files.ts';
import { writeFactors } from './reference-factors.ts';

type Folder = Awaited<ReturnType<typeof openFolder>>;

interface World {
  readonly recipe: WrittenRecipe;
  readonly modules?: readonly TinyModule[];
  readonly frobenius?: Readonly<Record<string, number>>;
  readonly options?: Parameters<typeof writeLora>[2];
}

/** Resizes a small LoRA. Without `frobenius` no base weight is known; recipes then look at the LoRA alone. */
async function resized(folder: Folder, { recipe, modules, frobenius, options }: World) {
  const lora = await writeLora(folder.path('before.safetensors'), modules ?? fiveModules, options);
  const factors = folder.path('factors.safetensors');
  const decompositions = await writeFactors(lora, factors);
  const numbers = folder.path('numbers.json');
  await writeFile(numbers, JSON.stringify(frobenius ?? {}));
  const work = folder.path('work');
  await mkdir(work, { recursive: true });
  const inputs = { lora, factors, ...(frobenius && { frobenius: numbers }) };
  const { outputs, said } = await runAlone({ stage: resize, attributes: recipeAttributes(recipe), inputs, work });
  return { before: lora, after: outputs.lora ?? '', said, decompositions };
}

async function ranksOf(path: string): Promise<ReadonlyMap<string, number>> {
  await using file = await SafetensorsFile.open(path);
  const { modules } = groupModules(file.header.tensors.keys());
  return new Map(modules.map((module) => [module.name, file.tensor(module.tensors.get('down') ?? '').shape[0] ?? 0]));
}

const everything = { spn_lora: 1, thr: -20 } as const;

test('a module is given back whole when all directions stay, and what is cut is the energy of the others', async () => {
  await using folder = await openFolder();
  const someModule = fc.record({
    out: fc.integer({ min: 1, max: 9 }),
    in: fc.integer({ min: 1, max: 9 }),
    rank: fc.integer({ min: 1, max: 6 }),
    alpha: fc.constantFrom(null, 1, 4, -3),
    kernel: fc.constantFrom(undefined, 1 as const, 3 as const),
    dtype: fc.constantFrom('F16' as const, 'BF16' as const, 'F32' as const),
  });
  const property = fc.asyncProperty(
    someModule,
    fc.double({ min: -2, max: 0, noNaN: true }),
    async ({ kernel, ...shape }, thr) => {
      const modules = [{ name: MID00, ...shape, ...(kernel && { kernel }) }];
      const whole = await resized(folder, { recipe: { ...everything, precision: 'fp32' }, modules });
      const original = (await deltas(whole.before)).get(MID00);
      const full = (await deltas(whole.after)).get(MID00);
      if (original === undefined || full === undefined) throw new Error('the module is lost');
      expect(relativeError(full, original)).toBeLessThan(2e-6);

      const cut = await resized(folder, { recipe: { spn_lora: 1, thr, precision: 'fp32' }, modules });
      const part = (await deltas(cut.after)).get(MID00);
      const rank = (await ranksOf(cut.after)).get(MID00) ?? 0;
      const sigma = cut.decompositions.get(MID00)?.sigma ?? [];
      if (part === undefined) throw new Error('the module is lost');
      expect(sigma.slice(0, rank).every((value) => Math.log10(value / (sigma[0] ?? 0)) >= thr - 1e-6)).toBe(true);
      const discarded = Math.hypot(...sigma.slice(rank));
      const difference = { ...part, data: part.data.map((value, i) => value - (original.data[i] ?? 0)) };
      expect(Math.abs(frobenius(difference) - discarded)).toBeLessThan(1e-5 * frobenius(original));
    },
  );
  await fc.assert(property, { numRuns: 40 });
});

test.each([
  ['fp16', 'F16', 2e-3],
  ['bf16', 'BF16', 1.5e-2],
  ['fp32', 'F32', 2e-6],
] as const)('factors are stored in %s, alphas always as singles', async (precision, dtype, tolerance) => {
  await using folder = await openFolder();
  const { before, after } = await resized(folder, { recipe: { ...everything, precision } });
  await using file = await SafetensorsFile.open(after);
  for (const info of file.header.tensors.values())
    expect([info.name, info.dtype]).toEqual([info.name, info.name.endsWith('alpha') ? 'F32' : dtype]);
  expect(file.tensor(`${OUT01}.lora_up.weight`).shape).toEqual([6, 4, 1, 1]);
  expect(file.tensor(`${OUT01}.lora_down.weight`).shape).toEqual([4, 5, 3, 3]);
  const old = await deltas(before);
  for (const [name, delta] of await deltas(after))
    expect(relativeError(delta, old.get(name) ?? delta)).toBeLessThan(tolerance);
});

test('alpha stays, so that modules that had the same still do', async () => {
  await using folder = await openFolder();
  const { after } = await resized(folder, {
    recipe: { spn_lora: 1, thr: -0.3 },
    modules: [{ name: MID00, alpha: 2, rank: 4 }],
  });
  await using file = await SafetensorsFile.open(after);
  const [alpha] = new Float32Array((await file.bytesOf(`${MID00}.alpha`)).buffer);
  expect((await ranksOf(after)).get(MID00)).toBeLessThan(4);
  expect(alpha).toBe(2);
});

test('rescale multiplies the whole LoRA, what is kept whole included', async () => {
  await using folder = await openFolder();
  const modules = [{ name: MID00 }, { name: IN04 }];
  const recipe = { fro_ckpt: 1, thr: -20, rescale: 2, precision: 'fp32' } as const;
  const { before, after } = await resized(folder, { recipe, modules, frobenius: { [MID00]: 1 } });
  const old = await deltas(before);
  for (const [name, delta] of await deltas(after)) {
    const original = old.get(name) ?? delta;
    expect(relativeError(delta, { ...original, data: original.data.map((value) => value * 2) })).toBeLessThan(2e-6);
  }
});

test('no size is ever exceeded, and a larger one never keeps less', async () => {
  await using folder = await openFolder();
  const modules: readonly TinyModule[] = fiveModules.map((module, i) => ({
    ...module,
    out: 40 + i,
    in: 30 + i,
    rank: 12,
  }));
  const all = await resized(folder, { recipe: everything, modules });
  const largest = (await readFile(all.after)).length;
  let before = 0;
  for (let bytes = 4000; bytes < largest + 2000; bytes += 997) {
    const run = resized(folder, { recipe: { spn_lora: 1, size: bytes / 2 ** 20 }, modules });
    const outcome = await run.catch((error: unknown) => error as StageFailure);
    if (outcome instanceof StageFailure) {
      expect(before).toBe(0);
      continue;
    }
    const file = await readFile(outcome.after);
    expect(file.length).toBeLessThanOrEqual(bytes);
    const kept = [...(await ranksOf(outcome.after)).values()].reduce((sum, rank) => sum + rank, 0);
    expect(kept).toBeGreaterThanOrEqual(before);
    before = kept;
  }
  expect(before).toBe(60);
});

test('equal scores are decided by name', async () => {
  await using folder = await openFolder();
  const twin = (name: string) => ({ name, rank: 1, out: 60, in: 60 });
  const names = ['lora_unet_middle_block_0_b', 'lora_unet_middle_block_0_a', 'lora_unet_middle_block_0_c'];
  for (const order of [names, names.toReversed()]) {
    const { after } = await resized(folder, {
      recipe: { spn_lora: 1, size: 1950 / 2 ** 20 },
      modules: order.map(twin),
      options: { metadata: undefined },
    });
    expect([...(await ranksOf(after)).keys()]).toEqual(['lora_unet_middle_block_0_a']);
  }
});

test('modules that nothing is known to score by are kept whole and reported', async () => {
  await using folder = await openFolder();
  const extra = [
    tensor('lora_unet_input_blocks_5_1_proj_in.lokr_w1', 'F16', [1, 1], [1]),
    tensor('lora_unet_input_blocks_5_1_proj_in.lokr_w2', 'F16', [1, 1], [1]),
    tensor('lora_unet_norm.w_norm', 'F16', [2], [1, 2]),
    tensor('stranger', 'F16', [1], [1]),
  ];
  const numbers = { [MID00]: 1, [IN04]: 1, [TE1]: 1 };
  const { before, after, said } = await resized(folder, {
    recipe: { fro_ckpt: 1, thr: 0 },
    frobenius: numbers,
    options: { extra },
  });
  expect(said.slice(0, -1)).toEqual([
    `2 modules of LoRA are kept whole: ${TE2}, ${OUT01}; the base has no weight to measure by.`,
    '1 module of LoKr is kept whole: lora_unet_input_blocks_5_1_proj_in; extract = 64 makes LoRA of such modules first.',
    "1 module of norm is kept whole: lora_unet_norm; norm is none of this test's.",
    'Tensors that belong to no module are kept as they are: stranger.',
  ]);
  await using old = await SafetensorsFile.open(before);
  await using now = await SafetensorsFile.open(after);
  for (const name of old.header.tensors.keys()) {
    if ([MID00, TE1, IN04].some((module) => name.startsWith(module))) continue;
    expect(await now.bytesOf(name)).toEqual(await old.bytesOf(name));
  }
});

test('a module of zeros is left out, and so is one whose directions are all too weak', async () => {
  await using folder = await openFolder();
  const modules = [{ name: MID00 }, { name: TE1, strength: 0 }, { name: IN04, strength: 1e-4, dtype: 'F32' as const }];
  const numbers = { [MID00]: 1, [TE1]: 1, [IN04]: 1 };
  const { after, said } = await resized(folder, { recipe: { fro_ckpt: 1, thr: -1 }, modules, frobenius: numbers });
  expect([...(await ranksOf(after)).keys()]).toEqual([MID00]);
  expect(said).toEqual([
    `1 module holds nothing and is left out: ${TE1}.`,
    expect.stringMatching(/^The result differs .*: 1 of 2 modules are left out; rounding to fp16 makes 0\.0\d+ %\.$/),
  ]);
});

test('metadata tells the ranks that are true now, and the recipe', async () => {
  await using folder = await openFolder();
  const same = await metadataOf((await resized(folder, { recipe: everything })).after);
  expect(same.get('ss_network_dim')).toBe('4');
  expect(same.get('ss_network_alpha')).toBe('2');
  expect(same.get('ss_network_args')).toBe('{"conv_dim":"4","conv_alpha":"2","algo":"locon"}');
  const { after } = await resized(folder, { recipe: { spn_lora: 3, params: 1, thr: -0.8, rescale: 1.5 } });
  const metadata = await metadataOf(after);
  const hashes = await hashesOf(after);
  expect(Object.fromEntries(metadata)).toEqual({
    ss_base_model_version: 'sdxl_base_v1-0',
    ss_output_name: 'before',
    ss_network_dim: 'Dynamic',
    ss_network_alpha: '2',
    ss_network_args: expect.stringMatching(/^\{"conv_dim":"\d","conv_alpha":"2","algo":"locon"\}$/),
    'lorac.history': JSON.stringify([
      { stage: 'resize', weights: { spn_lora: 0.75, params: 0.25 }, thr: -0.8, rescale: 1.5, precision: 'fp16' },
    ]),
    sshs_model_hash: hashes.model,
    sshs_legacy_hash: hashes.legacy,
  });
});

test('a file without metadata gets none but its own', async () => {
  await using folder = await openFolder();
  const { after } = await resized(folder, { recipe: everything, options: { metadata: undefined } });
  expect([...(await metadataOf(after)).keys()]).toEqual(['lorac.history', 'sshs_legacy_hash', 'sshs_model_hash']);
});

test('the same inputs give the same bytes', async () => {
  await using folder = await openFolder();
  const first = await readFile((await resized(folder, { recipe: { spn_lora: 1, thr: -0.5 } })).after);
  const second = await readFile((await resized(folder, { recipe: { spn_lora: 1, thr: -0.5 } })).after);
  expect(second.equals(first)).toBe(true);
});

test('the threshold that a failure names keeps something', async () => {
  await using folder = await openFolder();
  // The best score is log10 0.85 = -0.0706, which rounds to -0.07.
  const run = resized(folder, { recipe: { spn_lora: 1, rescale: 0.85, thr: -0.07 } });
  await expect(run).rejects.toMatchObject({ failure: { hint: 'Write a thr of -0.08 or less.' } });
  await expect(resized(folder, { recipe: { spn_lora: 1, rescale: 0.85, thr: -0.08 } })).resolves.toBeDefined();
});

test('a threshold above every score says what the best score is', async () => {
  await using folder = await openFolder();
  const run = resized(folder, { recipe: { spn_lora: 1, thr: 0.5 } });
  await expect(run).rejects.toThrow('Nothing would be left: thr is 0.5, and the best score of a direction is 0.000.');
  await expect(resized(folder, { recipe: { spn_lora: 1, size: 0.001 } })).rejects.toThrow(
    'not one direction fits 0.001 MiB',
  );
});

test('numbers that are not finite are refused with the name of what has them', async () => {
  await using folder = await openFolder();
  const broken = [{ name: MID00, strength: Number.NaN }];
  await expect(resized(folder, { recipe: everything, modules: broken })).rejects.toThrow(`"${MID00}.s"`);
  const endless = resized(folder, {
    recipe: { fro_ckpt: 1, thr: -20 },
    frobenius: { [MID00]: null as unknown as number },
  });
  await expect(endless).rejects.toThrow(`The numbers of "frobenius" have none for "${MID00}"`);
});

test('a base that has no weight for any module is refused, and a recipe that asks for none needs none', async () => {
  await using folder = await openFolder();
  await expect(resized(folder, { recipe: { fro_ckpt: 1, thr: -20 }, frobenius: { other: 1 } })).rejects.toMatchObject({
    failure: {
      kind: 'bad-input',
      message: expect.stringContaining('The base has no weight for any module of the LoRA: lora_te1_text_model'),
      hint: expect.stringContaining('Name the checkpoint that the LoRA was trained on'),
    },
  });
  const { after } = await resized(folder, { recipe: { spn_lora: 1, thr: -20 }, frobenius: { other: 1 } });
  expect((await ranksOf(after)).size).toBe(5);
});

test('weights that cancel each other are refused', () => {
  expect(() => readRecipe({ fro_ckpt: 1, params: -1 })).toThrow('add up to 0');
});

test('recipes that mean the same are the same to a fingerprint', () => {
  const plain = recipeAttributes({});
  expect(plain).toEqual({ fro_ckpt: 1, thr: -3.55, rescale: 1, precision: 'fp16' });
  expect(recipeAttributes({ fro_ckpt: 1, thr: -3.55 })).toEqual(plain);
  expect(recipeAttributes({ fro_ckpt: 2, spn_ckpt: 0 })).toEqual(plain);
  expect(recipeAttributes({ fro_ckpt: 4, params: 1, thr: -1, size: 3 })).toEqual({
    fro_ckpt: 0.8,
    params: 0.2,
    size: 3,
    rescale: 1,
    precision: 'fp16',
  });
  expect(recipeAttributes(recipeAttributes({ fro_ckpt: 3, spn_lora: 1 }) as WrittenRecipe)).toEqual(
    recipeAttributes({ fro_ckpt: 3, spn_lora: 1 }),
  );
});

/** The ranks that a recipe gives a module, beside what its singular values say. */
async function rankFor(folder: Folder, recipe: WrittenRecipe): Promise<{ rank: number; sigma: readonly number[] }> {
  const modules = [{ name: MID00, out: 9, in: 9, rank: 8, dtype: 'F32' as const }];
  const { after, decompositions } = await resized(folder, { recipe, modules });
  return {
    rank: (await ranksOf(after)).get(MID00) ?? 0,
    sigma: [...Float32Array.from(decompositions.get(MID00)?.sigma ?? [])],
  };
}

test('a module is cut by its own spectrum exactly as defined, without one direction more', async () => {
  await using folder = await openFolder();
  const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
  const share = fc.double({ min: 0.05, max: 1, noNaN: true });
  const property = fc.asyncProperty(share, fc.double({ min: 1, max: 50, noNaN: true }), async (p, ratio) => {
    const cumulative = await rankFor(folder, { sv_cumulative: p });
    const { sigma } = cumulative;
    const needed = (values: readonly number[], wanted: number) =>
      values.findIndex((_, i) => sum(values.slice(0, i + 1)) >= wanted * sum(values)) + 1;
    expect(cumulative.rank).toBe(needed(sigma, p));
    const squares = sigma.map((value) => value ** 2);
    expect((await rankFor(folder, { sv_fro: p })).rank).toBe(needed(squares, p * p));
    const above = sigma.filter((value) => value > (sigma[0] ?? 0) / ratio).length;
    expect((await rankFor(folder, { sv_ratio: ratio })).rank).toBe(Math.max(1, above));
    const same = await rankFor(folder, { spn_lora: 1, thr: -Math.log10(ratio) });
    expect(Math.abs(same.rank - Math.max(1, above))).toBeLessThanOrEqual(ratio === 1 ? 1 : 0);
  });
  await fc.assert(property, { numRuns: 12 });
});

test.each<[string, WrittenRecipe, number]>([
  ['a largest rank alone', { max_rank: 3 }, 3],
  ['a largest rank beyond what is there', { max_rank: 99 }, 8],
  ['a largest rank under a threshold that keeps more', { spn_lora: 1, thr: -20, max_rank: 2 }, 2],
  ['a smallest rank under a threshold that keeps nothing', { spn_lora: 1, thr: 1, min_rank: 2 }, 2],
  ['a smallest rank over a spectrum', { sv_fro: 0.01, min_rank: 4 }, 4],
  ['both, and the threshold between them', { spn_lora: 1, thr: -20, min_rank: 1, max_rank: 5 }, 5],
  ['the strictest of several', { sv_fro: 1, sv_cumulative: 1, max_rank: 3 }, 3],
])('%s', async (_, recipe, rank) => {
  await using folder = await openFolder();
  expect((await rankFor(folder, recipe)).rank).toBe(rank);
});

test('a smallest rank holds under a size, or the size is refused', async () => {
  await using folder = await openFolder();
  const { after } = await resized(folder, { recipe: { spn_lora: 1, size: 0.01, min_rank: 2 } });
  for (const rank of (await ranksOf(after)).values()) expect(rank).toBeGreaterThanOrEqual(2);
  await expect(resized(folder, { recipe: { spn_lora: 1, size: 0.002, min_rank: 2 } })).rejects.toThrow(
    'With min_rank = 2 the file has at least',
  );
});

test('where ranks or spectra say what goes, no threshold and no base weight is needed', () => {
  expect(recipeAttributes({ max_rank: 4 })).toEqual({ max_rank: 4, rescale: 1, precision: 'fp16' });
  expect(recipeAttributes({ sv_fro: 0.9, thr: -3 })).toMatchObject({ fro_ckpt: 1, thr: -3, sv_fro: 0.9 });
  expect(recipeAttributes({ min_rank: 1 })).toMatchObject({ fro_ckpt: 1, thr: -3.55, min_rank: 1 });
  const once = recipeAttributes({ subspace: 2, max_rank: 4 });
  expect(recipeAttributes(once as WrittenRecipe)).toEqual(once);
});

test('text encoders are resized like the rest', async () => {
  await using folder = await openFolder();
  const { after } = await resized(folder, { recipe: { spn_lora: 1, thr: 0 } });
  expect(Object.fromEntries(await ranksOf(after))).toEqual({ [TE1]: 1, [TE2]: 1, [IN04]: 1, [MID00]: 1, [OUT01]: 1 });
});
