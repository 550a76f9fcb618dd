// What a resized file is worth, held against dense ΔW in double precision: for every family the error is the energy of
// what was left out, and rounding. And what happens when a decomposition is not what it says.

import { mkdir, open, readdir, readFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { LORA_FORMATS } from '../../../src/parser/lora-formats.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { type TensorToWrite, writeSafetensors } from '../../../src/runtime/safetensors/writer.ts';
import { resize } from '../../../src/runtime/stages/resize.ts';
import { recipeAttributes, type WrittenRecipe } from '../../../src/runtime/surgery/resize/recipe.ts';
import { type Adapter, adapters, adapterTensors, deltaOf, IN, MODULE, OUT, titleOf } from '../../helpers/adapters.ts';
import { frobenius, matrix, relativeError } from '../../helpers/linear-algebra.ts';
import { openFolder } from '../safetensors/files.ts';
import { deltas, flat, runAlone } from './lab.ts';
import { IN04, MID00, OUT01, TE1, TE2, tensor, tensorsOf, writeLora } from './lora-files.ts';
import { type Extraction, writeFactors } from './reference-factors.ts';

type Folder = Awaited<ReturnType<typeof openFolder>>;

async function resized(folder: Folder, lora: string, recipe: WrittenRecipe, extraction?: Extraction) {
  const factors = folder.path('factors.safetensors');
  await writeFactors(lora, factors, extraction);
  const work = folder.path('work');
  await mkdir(work, { recursive: true });
  return runAlone({ stage: resize, attributes: recipeAttributes(recipe), inputs: { lora, factors }, work });
}

/** A file of one module, and the ΔW that directions are taken from: of a DoRA that of its LoRA. */
async function adapterFile(folder: Folder, example: Adapter) {
  const tensors = adapterTensors(example);
  const path = folder.path('before.safetensors');
  await writeSafetensors({ path, tensors, metadata: undefined, hashes: false });
  const { kernel = 1 } = example;
  const part = isDora(example)
    ? adapters.find((plain) => plain.family === 'LoRA' && plain.kind === example.kind)
    : example;
  const delta = await deltaOf(path, { ...example, delta: part?.delta });
  return { path, tensors, kernel, dense: matrix(OUT, IN * kernel ** 2, delta) };
}

const isDora = ({ family }: Adapter) => family.startsWith('DoRA');
const isLora = (example: Adapter) => isDora(example) || /^LoRA/.test(example.family);
const isExtractable = ({ family }: Adapter) => /^(LoHa|LoKr|GLoRA|full)/.test(family);
// The stage `lora` comes before: it folds a stray scalar and a scale into the rest, and gives modules kohya's names.
const canonical = adapters.filter(
  ({ shapes, module }) => module === undefined && !('scalar' in shapes) && !('scale' in shapes),
);
const resizable = canonical.filter((example) => isLora(example) || isExtractable(example));
const titled = (examples: readonly Adapter[]) => examples.map((example) => [titleOf(example), example] as const);

const recipes: readonly WrittenRecipe[] = [
  { spn_lora: 1, thr: -20 },
  { spn_lora: 1, thr: -0.2 },
  { sv_fro: 0.8, precision: 'fp32' },
  { max_rank: 2, precision: 'bf16' },
  { params: 1, thr: -9, max_rank: 1 },
];

test.each(titled(resizable))('%s: the error is the energy that was left out, and rounding', async (_, example) => {
  await using folder = await openFolder();
  const { path, dense, kernel } = await adapterFile(folder, example);
  for (const extract of isLora(example) ? [undefined] : [64, 2]) {
    const extraction = extract && { rank: extract, deltas: new Map([[MODULE, dense]]), kernel };
    for (const recipe of recipes) {
      for (const rescale of isDora(example) ? [1] : [1, 2.5]) {
        const written = { ...recipe, rescale, extract };
        const { outputs, record } = await resized(folder, path, written, extraction || undefined);
        const after = (await deltas(outputs.lora ?? '')).get(MODULE);
        if (after === undefined) throw new Error('the module is lost');
        const error = frobenius({
          ...after,
          data: after.data.map((value, i) => value - rescale * (dense.data[i] ?? 0)),
        });
        const told = Number(record.difference) * rescale * frobenius(dense);
        // In matrices as small as these, what rounding does to a column and to its row need not be independent.
        const whole = rescale * frobenius(dense);
        const slack = (0.5 * Number(record.rounding) + 2e-6) * whole;
        expect([written, Math.abs(error - told) <= slack, error, told]).toEqual([written, true, error, told]);
      }
    }
  }
});

test.each(titled(resizable))('%s: only what the LoRA takes the place of is gone', async (_, example) => {
  await using folder = await openFolder();
  const { path, dense, kernel, tensors } = await adapterFile(folder, example);
  const { outputs } = await resized(
    folder,
    path,
    { spn_lora: 1, thr: -20, extract: 64 },
    {
      rank: 64,
      deltas: new Map([[MODULE, dense]]),
      kernel,
    },
  );
  await using after = await SafetensorsFile.open(outputs.lora ?? '');
  const lora = ['alpha', 'lora_down.weight', 'lora_up.weight'];
  const beside = Object.keys(example.shapes).filter((suffix) => ['dora_scale', 'diff_b'].includes(suffix));
  expect([...after.header.tensors.keys()].sort()).toEqual(
    [...lora, ...beside].map((suffix) => `${MODULE}.${suffix}`).sort(),
  );
  for (const suffix of beside) {
    const before = tensors.find(({ name }) => name === `${MODULE}.${suffix}`);
    expect(await after.bytesOf(`${MODULE}.${suffix}`)).toEqual(bytesOf(before));
  }
});

function bytesOf(before: TensorToWrite | undefined): Uint8Array | undefined {
  return before?.source.kind === 'bytes' ? before.source.bytes : undefined;
}

test.each(titled(canonical.filter((example) => !isLora(example))))(
  '%s is kept whole and named where nothing extracts it',
  async (_, example) => {
    await using folder = await openFolder();
    const path = folder.path('before.safetensors');
    const tensors = adapterTensors(example);
    await writeSafetensors({
      path,
      tensors: [...tensors, ...tensorsOf({ name: IN04 })],
      metadata: undefined,
      hashes: false,
    });
    const { outputs, said } = await resized(folder, path, { spn_lora: 1, thr: -0.1 });
    await using after = await SafetensorsFile.open(outputs.lora ?? '');
    for (const before of tensors) expect(await after.bytesOf(before.name)).toEqual(bytesOf(before));
    expect(said[0]).toMatch(/^1 module of [\w ]+ is kept whole: lora_unet_middle_block_1_toy/);
    expect(said[0]?.includes('extract = 64 makes LoRA of such modules first')).toBe(isExtractable(example));
  },
);

test('DoRA keeps its magnitude and at least one direction, and says that this is approximate', async () => {
  await using folder = await openFolder();
  const magnitude = tensor(`${IN04}.dora_scale`, 'F16', [6, 1], [1, 2, 3, 4, 5, 6]);
  const lora = await writeLora(folder.path('before.safetensors'), [{ name: IN04 }, { name: MID00 }], {
    extra: [magnitude],
  });
  const { outputs, said } = await resized(folder, lora, { fro_lora: 1, thr: -0.2 });
  await using after = await SafetensorsFile.open(outputs.lora ?? '');
  expect(await after.bytesOf(`${IN04}.dora_scale`)).toEqual(bytesOf(magnitude));
  expect(after.tensor(`${IN04}.lora_down.weight`).shape[0]).toBeGreaterThanOrEqual(1);
  expect(said[0]).toBe(
    `1 module of DoRA: the LoRA part is resized and the magnitude stays as it was trained, so the result is approximate: ${IN04}.`,
  );
  const none = await resized(folder, lora, { spn_lora: 1, thr: 5 });
  await using least = await SafetensorsFile.open(none.outputs.lora ?? '');
  expect([...least.header.tensors.keys()].filter((name) => name.endsWith('lora_down.weight'))).toEqual([
    `${IN04}.lora_down.weight`,
  ]);
  await expect(resized(folder, lora, { spn_lora: 1, thr: -20, rescale: 2 })).rejects.toThrow(
    `"rescale" cannot be given to ${IN04}: modules of kind DoRA cannot be multiplied.`,
  );
});

test('a bias is multiplied with the rest, and stays when its module loses every direction', async () => {
  await using folder = await openFolder();
  const bias = tensor(`${IN04}.diff_b`, 'F32', [6], [1, 2, 3, 4, 5, 6]);
  const modules = [{ name: IN04, strength: 1e-4, dtype: 'F32' as const }, { name: MID00 }];
  const lora = await writeLora(folder.path('before.safetensors'), modules, { extra: [bias] });
  const { outputs } = await resized(folder, lora, { params: 1, thr: -1.5, rescale: 2 });
  await using after = await SafetensorsFile.open(outputs.lora ?? '');
  expect([...after.header.tensors.keys()].filter((name) => name.startsWith(IN04))).toEqual([`${IN04}.diff_b`]);
  expect([...((await flat(after, `${IN04}.diff_b`))?.data ?? [])]).toEqual([2, 4, 6, 8, 10, 12]);
});

test('a size that what is kept whole does not fit is refused, and one that it fits is never exceeded', async () => {
  await using folder = await openFolder();
  const extra = [tensor('stranger', 'F32', [500], new Array(500).fill(1))];
  const lora = await writeLora(folder.path('before.safetensors'), [{ name: IN04 }], { extra });
  const size = (bytes: number) => resized(folder, lora, { spn_lora: 1, size: bytes / 2 ** 20 });
  await expect(size(2500)).rejects.toThrow(
    /With what is kept whole the file has at least 0\.00\d MiB, and size is 0\.002\./,
  );
  expect((await readFile((await size(4200)).outputs.lora ?? '')).length).toBeLessThanOrEqual(4200);
});

test('a magnitude whose LoRA does nothing is kept whole, and so is one beside factors of another family', async () => {
  await using folder = await openFolder();
  const extra = [
    tensor(`${IN04}.dora_scale`, 'F16', [6, 1], [1, 2, 3, 4, 5, 6]),
    tensor(`${MODULE}.lokr_w1`, 'F16', [2, 1], [1, 2]),
    tensor(`${MODULE}.lokr_w2`, 'F16', [3, 5], new Array(15).fill(1)),
    tensor(`${MODULE}.dora_scale`, 'F16', [6, 1], [1, 2, 3, 4, 5, 6]),
  ];
  const lora = await writeLora(folder.path('before.safetensors'), [{ name: IN04, strength: 0 }, { name: MID00 }], {
    extra,
  });
  const { outputs, said } = await resized(folder, lora, { spn_lora: 1, thr: -20 });
  expect(said.slice(0, 2)).toEqual([
    `1 module of DoRA is kept whole: ${IN04}; its magnitude alone has an effect.`,
    expect.stringMatching(/^1 module of \w+ is kept whole: lora_unet_middle_block_1_toy; .* is none of this test's\.$/),
  ]);
  await using before = await SafetensorsFile.open(lora);
  await using after = await SafetensorsFile.open(outputs.lora ?? '');
  for (const name of before.header.tensors.keys()) {
    if (!name.startsWith(MID00)) expect(await after.bytesOf(name)).toEqual(await before.bytesOf(name));
  }
});

test('a decomposition that says it is inexact is believed, and the difference counts it', async () => {
  await using folder = await openFolder();
  const lora = await writeLora(folder.path('before.safetensors'), [{ name: IN04 }, { name: MID00 }]);
  const factors = folder.path('factors.safetensors');
  await writeFactors(lora, factors, undefined, { residual: 0.03 });
  const work = folder.path('work');
  await mkdir(work);
  const attributes = recipeAttributes({ spn_lora: 1, thr: -20, precision: 'fp32' });
  const { said, record } = await runAlone({ stage: resize, attributes, inputs: { lora, factors }, work });
  expect(said[0]).toBe(`The decomposition of "${IN04}" is off by 3 % of its ΔW. The next of 1 more: 3 %.`);
  expect(record.difference).toBeCloseTo(0.03, 5);
  expect(record.residual).toBeCloseTo(0.03, 5);
});

test.each(LORA_FORMATS)('in the format %s no size is exceeded either, and ΔW is the same', async (format) => {
  await using folder = await openFolder();
  const modules = [
    { name: IN04, alpha: 3 },
    { name: OUT01, kernel: 3 as const },
    { name: TE1 },
    { name: TE2, alpha: -1 },
  ];
  const lora = await writeLora(folder.path('before.safetensors'), modules);
  const whole = await resized(folder, lora, { spn_lora: 1, thr: -20, precision: 'fp32', format });
  const before = await deltas(lora);
  const after = [...(await deltas(whole.outputs.lora ?? '')).values()];
  for (const [name, delta] of before) {
    const nearest = Math.min(
      ...after
        .filter(({ rows, columns }) => rows === delta.rows && columns === delta.columns)
        .map((found) => relativeError(found, delta)),
    );
    expect([name, nearest < 2e-6]).toEqual([name, true]);
  }
  const full = (await readFile(whole.outputs.lora ?? '')).length;
  let fitted = 0;
  for (const bytes of [full / 2, full * 0.7, full]) {
    const fits = resized(folder, lora, { spn_lora: 1, size: bytes / 2 ** 20, format });
    const path = await fits.then(
      ({ outputs }) => outputs.lora ?? '',
      () => undefined,
    );
    if (path === undefined) continue;
    fitted += 1;
    expect((await readFile(path)).length).toBeLessThanOrEqual(bytes);
  }
  expect(fitted).toBeGreaterThan(0);
});

/** Multiplies one number of a decomposition, as a broken disk or a mistake of ours would. */
async function spoil(path: string, name: string, index: number, by: number): Promise<void> {
  await using file = await SafetensorsFile.open(path);
  const info = file.tensor(name);
  const numbers = new Float32Array((await file.bytesOf(name)).buffer);
  numbers[index] = (numbers[index] ?? 0) * by;
  const handle = await open(path, 'r+');
  await handle.write(new Uint8Array(numbers.buffer), 0, numbers.byteLength, file.positionOf(info));
  await handle.close();
}

test.each([
  ['u', 'fp16'],
  ['vt', 'fp16'],
  ['u', 'bf16'],
  ['vt', 'fp32'],
] as const)(
  'a direction of "%s" that is not of length one is found in %s, and nothing is written',
  async (factor, precision) => {
    await using folder = await openFolder();
    const lora = await writeLora(folder.path('before.safetensors'), [{ name: IN04 }, { name: MID00 }]);
    const factors = folder.path('factors.safetensors');
    await writeFactors(lora, factors);
    const width = factor === 'u' ? 6 : 5;
    await spoil(factors, `${MID00}.${factor}`, 2 * width + 1, 1.6);
    const work = folder.path('work');
    await mkdir(work);
    const attributes = recipeAttributes({ spn_lora: 1, thr: -20, precision });
    const run = runAlone({ stage: resize, attributes, inputs: { lora, factors }, work });
    await expect(run).rejects.toThrow(`Internal error: direction 3 of "${MID00}" would be written with the strength`);
    await expect(run).rejects.toMatchObject({ failure: { kind: 'internal' } });
    expect(await readdir(work)).toEqual([]);
  },
);
