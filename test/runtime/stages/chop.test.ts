// Chopping: which blocks stay, at exactly which strength, and what is said about the rest.

import { mkdir, readFile } from 'node:fs/promises';
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { StageFailure } from '../../../src/runtime/events.ts';
import { SafetensorsFile } from '../../../src/runtime/safetensors/file.ts';
import { hashesOf } from '../../../src/runtime/safetensors/hashes.ts';
import type { TensorToWrite } from '../../../src/runtime/safetensors/writer.ts';
import type { BlockChoice } from '../../../src/runtime/sdxl/block-weights.ts';
import { chop } from '../../../src/runtime/stages/chop.ts';
import { frobenius, relativeError } from '../../helpers/linear-algebra.ts';
import { openFolder } from '../safetensors/files.ts';
import { deltas, metadataOf, runAlone } from './lab.ts';
import { fiveModules, IN04, MID00, OUT01, TE1, TE2, type TinyModule, tensor, writeLora } from './lora-files.ts';

interface World {
  readonly choice: BlockChoice;
  readonly modules?: readonly TinyModule[];
  readonly extra?: readonly TensorToWrite[];
  readonly metadata?: ReadonlyMap<string, string> | undefined;
}

/** Chops a small LoRA; `before` and `after` are paths. The folder lives as long as the caller's scope. */
async function chopped(folder: Awaited<ReturnType<typeof openFolder>>, { choice, modules, ...options }: World) {
  const before = await writeLora(folder.path('before.safetensors'), modules ?? fiveModules, options);
  const { outputs, said } = await runAlone({
    stage: chop,
    attributes: { ...choice },
    inputs: { lora: before },
    work: folder.path('.'),
  });
  return { before, after: outputs.lora ?? '', said };
}

async function namesIn(path: string): Promise<readonly string[]> {
  await using file = await SafetensorsFile.open(path);
  return [...new Set([...file.header.tensors.keys()].map((name) => name.slice(0, name.indexOf('.'))))].sort();
}

test('the kept block and the text encoders stay, byte for byte', async () => {
  await using folder = await openFolder();
  const { before, after, said } = await chopped(folder, { choice: { keep: ['OUT01'] } });
  expect(await namesIn(after)).toEqual([TE1, TE2, OUT01].sort());
  await using old = await SafetensorsFile.open(before);
  await using now = await SafetensorsFile.open(after);
  for (const name of now.header.tensors.keys()) {
    expect(Buffer.from(await now.bytesOf(name)).equals(await old.bytesOf(name))).toBe(true);
  }
  expect(said).toEqual([]);
});

test.each<[string, BlockChoice, readonly string[]]>([
  ['one block without text encoders', { keep: ['OUT01'], text_encoders: 'drop' }, [OUT01]],
  ['a text encoder named beside it', { keep: ['OUT01', 'TE1'], text_encoders: 'drop' }, [OUT01, TE1]],
  ['groups', { keep: ['IN', 'MID'] }, [IN04, MID00, TE1, TE2]],
  ['all but a group', { drop: ['IN'] }, [MID00, OUT01, TE1, TE2]],
  ['all but a text encoder', { drop: ['TE2'] }, [IN04, MID00, OUT01, TE1]],
  ['weights leave out what they do not name', { weights: { OUT01: 1 } }, [OUT01, TE1, TE2]],
  ['a weight of zero', { weights: { OUT: 1, OUT01: 0, IN04: 1 } }, [IN04, TE1, TE2]],
  ['21 numbers', { mask: '1,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0' }, [OUT01, TE1, TE2]],
  ['21 numbers without text encoders', { mask: '0,0,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0' }, [IN04]],
  ['20 numbers', { mask: '1,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0,0,0' }, [MID00, TE1, TE2]],
  ['12 numbers', { mask: '1,1,0,0,0,0,0,1,0,0,0,0' }, [IN04, OUT01, TE1, TE2]],
  [
    'a mask with the text encoders taken out',
    { mask: '1,1,0,0,0,0,0,1,0,0,0,0', text_encoders: 'drop' },
    [IN04, OUT01],
  ],
  ['synonyms', { keep: ['M0', 'INP04', 'output_blocks.1'] }, [IN04, MID00, OUT01, TE1, TE2]],
])('%s', async (_, choice, expected) => {
  await using folder = await openFolder();
  const { after } = await chopped(folder, { choice });
  expect(await namesIn(after)).toEqual([...expected].sort());
});

test('a weight of a half halves ΔW exactly and leaves the factors alone', async () => {
  await using folder = await openFolder();
  const { before, after } = await chopped(folder, {
    choice: { weights: { OUT01: 0.5, TE1: 0.5 }, text_encoders: 'drop' },
  });
  const [old, now] = [await deltas(before), await deltas(after)];
  expect([...now.keys()].sort()).toEqual([OUT01, TE1].sort());
  for (const [name, delta] of now)
    expect([...delta.data]).toEqual([...(old.get(name)?.data ?? [])].map((value) => value / 2));
  await using file = await SafetensorsFile.open(after);
  expect(file.tensor(`${OUT01}.alpha`)).toMatchObject({ dtype: 'F32', shape: [] });
  await using original = await SafetensorsFile.open(before);
  expect(await file.bytesOf(`${OUT01}.lora_up.weight`)).toEqual(await original.bytesOf(`${OUT01}.lora_up.weight`));
});

test('any weight is exact to the last digit of a single, and its inverse brings ΔW back', async () => {
  await using folder = await openFolder();
  const weight = fc.double({ min: -8, max: 8, noNaN: true }).filter((value) => Math.abs(value) > 1e-3);
  const dtype = fc.constantFrom('F16' as const, 'BF16' as const, 'F32' as const);
  const alpha = fc.constantFrom(null, 1, 2, 4, -2);
  const property = fc.asyncProperty(weight, dtype, alpha, async (w, type, a) => {
    const modules = [{ name: MID00, dtype: type, alpha: a }];
    const { before, after } = await chopped(folder, { choice: { weights: { MID00: w } }, modules });
    const [old, now] = [(await deltas(before)).get(MID00), (await deltas(after)).get(MID00)];
    if (old === undefined || now === undefined) throw new Error('the module is lost');
    const wanted = { ...old, data: old.data.map((value) => value * w) };
    expect(relativeError(now, wanted)).toBeLessThan(2 ** -23);

    const back = folder.path('back');
    await mkdir(back, { recursive: true });
    const { outputs } = await runAlone({
      stage: chop,
      attributes: { weights: { MID00: 1 / w } },
      inputs: { lora: after },
      work: back,
    });
    const restored = (await deltas(outputs.lora ?? '')).get(MID00);
    if (restored === undefined) throw new Error('the module is lost');
    expect(relativeError(restored, old)).toBeLessThan(2 ** -22);
  });
  await fc.assert(property, { numRuns: 25 });
});

test('the same LoRA chopped the same way has the same bytes, whatever way says so', async () => {
  await using folder = await openFolder();
  const ways: readonly BlockChoice[] = [
    { keep: ['OUT01'], text_encoders: 'drop' },
    { weights: { 'output_blocks.1': 1 }, text_encoders: 'drop' },
    { mask: '0,0,0,0,0,0,0,0,0,0,0,0,0,1,0,0,0,0,0,0,0' },
  ];
  const files = [];
  for (const choice of [...ways, ...ways]) files.push(await readFile((await chopped(folder, { choice })).after));
  for (const bytes of files) expect(bytes.equals(files[0] ?? bytes)).toBe(true);
});

test('metadata stays, the hashes are true, and what was done is told', async () => {
  await using folder = await openFolder();
  const { after } = await chopped(folder, { choice: { weights: { OUT01: 0.5 } } });
  const metadata = await metadataOf(after);
  const hashes = await hashesOf(after);
  expect(metadata.get('ss_base_model_version')).toBe('sdxl_base_v1-0');
  expect(metadata.get('sshs_model_hash')).toBe(hashes.model);
  expect(metadata.get('sshs_legacy_hash')).toBe(hashes.legacy);
  expect(JSON.parse(metadata.get('lorac.history') ?? '')).toEqual([
    { stage: 'chop', weights: { OUT01: 0.5, TE1: 1, TE2: 1 } },
  ]);
});

test('a file without metadata can be chopped', async () => {
  await using folder = await openFolder();
  const { after } = await chopped(folder, { choice: { keep: ['OUT01'] }, metadata: undefined });
  expect([...(await metadataOf(after)).keys()]).toEqual(['lorac.history', 'sshs_legacy_hash', 'sshs_model_hash']);
});

test('nothing left is a failure that tells which blocks there are', async () => {
  await using folder = await openFolder();
  const run = chopped(folder, { choice: { keep: ['OUT08'], text_encoders: 'drop' } });
  await expect(run).rejects.toThrow(StageFailure);
  await expect(run).rejects.toThrow('which has IN04, MID00, OUT01, TE1, TE2');
});

test('a block that the file lacks, and one that a mask does not reach, are warned about', async () => {
  await using folder = await openFolder();
  const absent = await chopped(folder, { choice: { keep: ['OUT01', 'OUT02'] } });
  expect(absent.said).toEqual(['The LoRA has no OUT02; it has IN04, MID00, OUT01, TE1, TE2.']);
  const mask = await chopped(folder, { choice: { mask: Array(12).fill('1').join(',') } });
  expect(mask.said).toEqual(['The mask has no number for MID00, which the LoRA has; it is left out.']);
  const groups = await chopped(folder, { choice: { keep: ['OUT'] } });
  expect(groups.said).toEqual([]);
});

test('what belongs to no block is kept unchanged and listed', async () => {
  await using folder = await openFolder();
  const extra = [
    tensor('bundle_emb.cat.string_to_param', 'F16', [2], [1, 2]),
    ...lowRank('lora_unet_double_blocks_1_x'),
  ];
  const { after, said } = await chopped(folder, { choice: { keep: ['OUT01'], text_encoders: 'drop' }, extra });
  expect(await namesIn(after)).toEqual(['bundle_emb', 'lora_unet_double_blocks_1_x', OUT01]);
  expect(said).toEqual([expect.stringContaining('lora_unet_double_blocks_1_x, bundle_emb.cat.string_to_param')]);
});

test('diffusers-style names are the same blocks', async () => {
  await using folder = await openFolder();
  const name = 'lora_unet_up_blocks_0_resnets_1_conv1';
  const { after } = await chopped(folder, {
    choice: { keep: ['OUT01'] },
    modules: [{ name }, { name: 'lora_unet_mid_block_resnets_1_conv1' }],
  });
  expect(await namesIn(after)).toEqual([name]);
});

function lowRank(name: string): readonly TensorToWrite[] {
  return [
    tensor(`${name}.lora_up.weight`, 'F16', [2, 1], [1, 2]),
    tensor(`${name}.lora_down.weight`, 'F16', [1, 2], [3, 4]),
  ];
}

test('adapters whose effect cannot be multiplied are refused any weight but 0 and 1', async () => {
  await using folder = await openFolder();
  const extra = [tensor(`${IN04}.dora_scale`, 'F16', [6, 1], [1, 1, 1, 1, 1, 1])];
  const half = chopped(folder, { choice: { weights: { IN04: 0.5 } }, extra });
  await expect(half).rejects.toThrow(
    `The weight 0.5 cannot be given to IN04, which has 1 module of kind DoRA (${IN04}): `,
  );
  const whole = await chopped(folder, { choice: { keep: ['IN04'], text_encoders: 'drop' }, extra });
  await using file = await SafetensorsFile.open(whole.after);
  expect(file.header.tensors.size).toBe(4);
  const none = await chopped(folder, { choice: { drop: ['IN04'] }, extra });
  expect(await namesIn(none.after)).not.toContain(IN04);
});

/** In F32, so that products of tensors can be compared to the last digit that matters. */
const families: readonly (readonly [string, Readonly<Record<string, readonly number[]>>, readonly string[]])[] = [
  ['LoHa', { hada_w1_a: [2, 1], hada_w1_b: [1, 2], hada_w2_a: [2, 1], hada_w2_b: [1, 2], alpha: [] }, ['hada_w1_a']],
  ['LoKr', { lokr_w1: [2, 2], lokr_w2_a: [2, 1], lokr_w2_b: [1, 2], alpha: [] }, ['lokr_w1']],
  ['LoKr in four parts', { lokr_w1_a: [2, 1], lokr_w1_b: [1, 2], lokr_w2_a: [2, 1], lokr_w2_b: [1, 2] }, ['lokr_w1_a']],
  [
    'GLoRA',
    { 'a1.weight': [2, 1], 'a2.weight': [1, 2], 'b1.weight': [2, 1], 'b2.weight': [1, 2] },
    ['a2.weight', 'b2.weight'],
  ],
  ['differences', { diff: [2, 2], diff_b: [2] }, ['diff', 'diff_b']],
  ['norms', { w_norm: [2], b_norm: [2] }, ['w_norm', 'b_norm']],
  ['IA3', { weight: [2], on_input: [] }, ['weight']],
];

test.each(families)('%s is multiplied in one place of each product', async (_, shapes, scaled) => {
  await using folder = await openFolder();
  const tensors = Object.entries(shapes).map(([suffix, shape], i) => {
    const count = shape.reduce((product, size) => product * size, 1);
    return tensor(
      `${IN04}.${suffix}`,
      'F32',
      shape,
      Array.from({ length: count }, (_, j) => 1 + i + j / 4),
    );
  });
  const { before, after } = await chopped(folder, { choice: { weights: { IN04: -0.5 } }, modules: [], extra: tensors });
  await using old = await SafetensorsFile.open(before);
  await using now = await SafetensorsFile.open(after);
  for (const suffix of Object.keys(shapes)) {
    const numbers = async (file: SafetensorsFile) => [
      ...new Float32Array((await file.bytesOf(`${IN04}.${suffix}`)).buffer),
    ];
    const factor = scaled.includes(suffix) ? -0.5 : 1;
    expect([suffix, await numbers(now)]).toEqual([suffix, (await numbers(old)).map((value) => value * factor)]);
  }
});

test('PEFT names keep their form: one factor is multiplied, and no alpha appears', async () => {
  await using folder = await openFolder();
  const name = 'unet.mid_block.resnets.0.conv1';
  const extra = [
    tensor(`${name}.lora_B.weight`, 'F32', [1, 1], [3]),
    tensor(`${name}.lora_A.weight`, 'F32', [1, 1], [5]),
  ];
  const { after } = await chopped(folder, { choice: { weights: { MID00: 0.5 } }, modules: [], extra });
  await using file = await SafetensorsFile.open(after);
  expect([...file.header.tensors.keys()]).toEqual([`${name}.lora_A.weight`, `${name}.lora_B.weight`]);
  const [delta] = (await deltas(after)).values();
  if (delta === undefined) throw new Error('The chopped file has no module.');
  expect(frobenius(delta)).toBe(7.5);
});

test('an alpha that is no number is named', async () => {
  await using folder = await openFolder();
  const run = chopped(folder, { choice: { weights: { MID00: 0.5 } }, modules: [{ name: MID00, alpha: Number.NaN }] });
  await expect(run).rejects.toThrow(`The tensor "${MID00}.alpha"`);
});

test('a file that is no LoRA is refused by name', async () => {
  await using folder = await openFolder();
  const run = chopped(folder, { choice: { drop: ['IN04'] }, modules: [], extra: [tensor('t1', 'F32', [1], [1])] });
  await expect(run).rejects.toThrow('before.safetensors" has no LoRA modules');
});

test('a LoRA for Stable Diffusion 1 is refused in a program, whose blocks are those of SDXL', async () => {
  await using folder = await openFolder();
  const modules = [{ name: 'lora_unet_down_blocks_3_resnets_0_conv1' }, { name: 'lora_te_text_model_x' }];
  const run = chopped(folder, { choice: { keep: ['IN04'] }, modules });
  await expect(run).rejects.toThrow(
    'The LoRA is one for Stable Diffusion 1 and 2, and the blocks that a program names',
  );
});

test('a weight that numbers are too small for is refused, and nothing is infinite', async () => {
  await using folder = await openFolder();
  const extra = [tensor(`${IN04}.diff`, 'F16', [1, 2], [60_000, 1])];
  const run = chopped(folder, { choice: { weights: { IN04: 2 } }, modules: [], extra });
  await expect(run).rejects.toThrow(`"${IN04}.diff" of`);
  await expect(run).rejects.toThrow('is F16, and its numbers times 2 are too large for that.');
});

test.each([[{ dtype: 'F32', value: 1e38, weight: 4 }], [{ dtype: 'BF16', value: 3e38, weight: 1.2 }]] as const)(
  'a sum that would be infinite in %o is refused',
  async ({ dtype, value, weight }) => {
    await using folder = await openFolder();
    const extra = [tensor(`${IN04}.diff`, dtype, [1, 2], [value, 1])];
    const run = chopped(folder, { choice: { weights: { IN04: weight } }, modules: [], extra });
    await expect(run).rejects.toThrow(`is ${dtype}, and its numbers times ${weight} are too large for that.`);
  },
);

test.each([
  [1e39, 'large', 'infinite'],
  [-1e39, 'large', 'infinite'],
  [1e-60, 'small', '0'],
])('the weight %d, which makes an alpha infinite or 0, is refused with the module', async (weight, size, what) => {
  await using folder = await openFolder();
  const run = chopped(folder, { choice: { weights: { OUT01: weight } } });
  await expect(run).rejects.toThrow(`The weight ${weight} is too ${size} for "${OUT01}"`);
  await expect(run).rejects.toThrow(`the alpha that says it would be ${what}.`);
});
