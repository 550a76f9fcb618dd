// lorac resize with the real worker on what people have: sums, names of other trainers, other families, diffusers folders.

import { cp, mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { SafetensorsFile } from '../../src/runtime/safetensors/file.ts';
import { type TensorToWrite, writeSafetensors } from '../../src/runtime/safetensors/writer.ts';
import { moduleNameIn } from '../../src/runtime/sdxl/formats.ts';
import { readModuleName } from '../../src/runtime/sdxl/names.ts';
import { at, frobenius, type Matrix, matrix, multiply, relativeError } from '../helpers/linear-algebra.ts';
import { deltas, flat } from '../runtime/stages/lab.ts';
import { randomNumbers, tensor } from '../runtime/stages/lora-files.ts';

const root = resolve(import.meta.dirname, '../..');
const golden = join(root, 'test/fixtures/golden/resize');
const [base, lora] = [join(golden, 'base.safetensors'), join(golden, 'lora.safetensors')];
const MODULE = 'lora_unet_input_blocks_4_1_proj_in';
const WEIGHT = 'model.diffusion_model.input_blocks.4.1.proj_in.weight';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'lorac-resize-'));
});
afterAll(async () => await rm(folder, { recursive: true }));

async function lorac(...args: readonly string[]) {
  return execa(process.execPath, [join(root, 'dist', 'cli.js'), 'resize', ...args], {
    cwd: folder,
    env: { NO_COLOR: '1', LORAC_STORE: join(folder, 'store') },
    reject: false,
    stdin: 'ignore',
  });
}

async function ranksOf(path: string): Promise<Record<string, number>> {
  await using file = await SafetensorsFile.open(path);
  const downs = [...file.header.tensors.values()].filter(({ name }) => name.endsWith('.lora_down.weight'));
  return Object.fromEntries(downs.map(({ name, shape }) => [name.replace('.lora_down.weight', ''), shape[0] ?? 0]));
}

/** Modules that hold nothing are left out. */
async function expectSame(path: string, wanted: ReadonlyMap<string, Matrix>, tolerance: number): Promise<void> {
  const found = await deltas(path);
  const filled = [...wanted].filter(([, delta]) => frobenius(delta) > 0).map(([name]) => name);
  expect([...found.keys()].sort()).toEqual(filled.sort());
  for (const [name, delta] of found) {
    expect([name, relativeError(delta, wanted.get(name) ?? delta) < tolerance]).toEqual([name, true]);
  }
}

test('two halves of a LoRA add up to it', async () => {
  await cp(lora, join(folder, 'other.safetensors'));
  const sum = `${lora}:0.5,other.safetensors:0.5`;
  const { exitCode, stdout } = await lorac(base, sum, '-r', 'spn_lora=1,thr=-20', '-t', '32', '-o', 'sum');
  expect([exitCode, stdout]).toEqual([0, expect.stringContaining('lora0.5+other0.5:merge')]);
  const [name = ''] = await readdir(join(folder, 'sum'));
  expect(name).toBe('lora0.5+other0.5_spnlora1_th-20.safetensors');
  await expectSame(join(folder, 'sum', name), await deltas(lora), 1e-5);
});

test('a LoRA with the names of diffusers is resized as the same one with ours', async () => {
  const written = await lorac(
    base,
    lora,
    '-r',
    'spn_lora=1,thr=-20',
    '-t',
    '32',
    '--format',
    'diffusers',
    '-o',
    'named',
  );
  expect([written.exitCode, written.stderr]).toEqual([0, '']);
  const named = join(folder, 'named', 'lora_spnlora1_th-20.safetensors');
  await using file = await SafetensorsFile.open(named);
  expect(
    [...file.header.tensors.keys()].every((key) => /^(unet|text_encoder(_2)?)\..*\.lora_[AB]\.weight$/.test(key)),
  ).toBe(true);
  const { exitCode, stdout } = await lorac(base, named, '-r', 'fro_ckpt=1,thr=-1.2', '-t', '32', '-o', 'again');
  expect([exitCode, stdout]).toEqual([0, expect.stringContaining('lora_spnlora1_th-20:lora')]);
  const expected = JSON.parse(await readFile(join(golden, 'expected.json'), 'utf8')) as {
    recipe: string;
    ranks: Record<string, number>;
  }[];
  const { ranks } = expected.find(({ recipe }) => recipe === 'fro_ckpt=1,thr=-1.2') ?? {};
  expect(await ranksOf(join(folder, 'again', 'lora_spnlora1_th-20_frockpt1_th-1.2.safetensors'))).toEqual(ranks);
});

/** The golden base as diffusers keeps a model: a folder for each part, one of them in two files. */
async function writeDiffusersFolder(path: string): Promise<void> {
  await using file = await SafetensorsFile.open(base);
  const parts: Record<string, TensorToWrite[]> = { unet: [], text_encoder: [], text_encoder_2: [] };
  for (const { name, dtype, shape } of file.header.tensors.values()) {
    const bytes = await file.bytesOf(name);
    const add = (part: string, as: string, rows = shape, some = bytes) =>
      parts[part]?.push({ name: as, dtype, shape: rows, source: { kind: 'bytes', bytes: some } });
    const [, unet] = /^model\.diffusion_model\.(.+)\.weight$/.exec(name) ?? [];
    const [, first] = /^conditioner\.embedders\.0\.transformer\.(.+)$/.exec(name) ?? [];
    const [, layer, inner = ''] =
      /^conditioner\.embedders\.1\.model\.transformer\.resblocks\.(\d+)\.(.+)$/.exec(name) ?? [];
    if (unet !== undefined) {
      const spelling = readModuleName(`lora_unet_${unet.replaceAll('.', '_')}`);
      const diffusers = spelling && moduleNameIn('diffusers', spelling, 'SDXL');
      if (diffusers) add('unet', `${diffusers.replace(/^unet\./, '')}.weight`);
    } else if (first !== undefined) add('text_encoder', first);
    else if (inner === 'attn.in_proj_weight') {
      for (const [index, letter] of [...'qkv'].entries()) {
        const third = bytes.subarray((index * bytes.length) / 3, ((index + 1) * bytes.length) / 3);
        const rows = [(shape[0] ?? 0) / 3, ...shape.slice(1)];
        add('text_encoder_2', `text_model.encoder.layers.${layer}.self_attn.${letter}_proj.weight`, rows, third);
      }
    } else if (layer !== undefined) {
      const words = inner
        .replace('attn.out_proj', 'self_attn.out_proj')
        .replace('c_fc', 'fc1')
        .replace('c_proj', 'fc2');
      add('text_encoder_2', `text_model.encoder.layers.${layer}.${words}`);
    }
  }
  const write = async (part: string, name: string, tensors: readonly TensorToWrite[]) => {
    await mkdir(join(path, part), { recursive: true });
    await writeSafetensors({ path: join(path, part, name), tensors, metadata: undefined, hashes: false });
  };
  const { unet = [], text_encoder = [], text_encoder_2: two = [] } = parts;
  await write('unet', 'diffusion_pytorch_model.fp16.safetensors', unet);
  await write('text_encoder', 'model.safetensors', text_encoder);
  await write('text_encoder', 'model.fp16.safetensors', [tensor('text_model.wrong', 'F16', [1], [0])]);
  await write('text_encoder_2', 'model-00001-of-00002.safetensors', two.slice(0, 2));
  await write('text_encoder_2', 'model-00002-of-00002.safetensors', two.slice(2));
}

test('a folder of diffusers is the same base as a checkpoint', async () => {
  await writeDiffusersFolder(join(folder, 'sdxl'));
  const recipes = 'fro_ckpt=1,thr=-1.2:spn_ckpt=1,thr=-1:subspace=1,thr=-0.5';
  const { exitCode, stderr } = await lorac('sdxl', lora, '-r', recipes, '-o', 'by-folder');
  expect([exitCode, stderr]).toEqual([0, '']);
  expect((await lorac(base, lora, '-r', recipes, '-o', 'by-file')).exitCode).toBe(0);
  const names = await readdir(join(folder, 'by-file'));
  expect(names).toHaveLength(3);
  for (const name of names) {
    const [one, other] = await Promise.all(['by-folder', 'by-file'].map((each) => readFile(join(folder, each, name))));
    expect([name, other !== undefined && one?.equals(other)]).toEqual([name, true]);
  }
});

/** LoKr, full and GLoRA over one base weight, and what each adds up to. */
async function writeFamilies(path: string): Promise<ReadonlyMap<string, Matrix>> {
  await using file = await SafetensorsFile.open(base);
  const weight = await flat(file, WEIGHT);
  if (weight === undefined) throw new Error('the golden base has changed');
  const { rows: out, columns } = weight;
  const random = randomNumbers(5);
  const some = (rows: number, width: number): Matrix =>
    matrix(
      rows,
      width,
      Array.from({ length: rows * width }, () => Math.fround(random() / 4)),
    );
  const [first, second] = [some(2, 4), some(out / 2, columns / 4)];
  const kron = matrix(
    out,
    columns,
    Array.from({ length: out * columns }, (_, index) => {
      const [o, i] = [Math.floor(index / columns), index % columns];
      return (
        at(first, Math.floor(o / second.rows), Math.floor(i / second.columns)) *
        at(second, o % second.rows, i % second.columns)
      );
    }),
  );
  const [a1, a2, b1, b2] = [some(columns, 3), some(3, columns), some(out, 3), some(3, columns)] as const;
  const [a, b] = [multiply(multiply(weight, a1), a2), multiply(b1, b2)];
  const glora = matrix(
    out,
    columns,
    a.data.map((value, index) => value + (b.data[index] ?? 0)),
  );
  const diff = multiply(some(out, 4), some(4, columns));
  const single = (name: string, { rows, columns: width, data }: Matrix) =>
    tensor(name, 'F32', [rows, width], [...data]);
  const [kronName, diffName] = ['lora_unet_input_blocks_4_1_proj_out', 'lora_unet_input_blocks_5_1_proj_in'];
  const tensors = [
    single(`${kronName}.lokr_w1`, first),
    single(`${kronName}.lokr_w2`, second),
    single(`${diffName}.diff`, diff),
    ...[a1, a2, b1, b2].map((part, index) => single(`${MODULE}.${['a1', 'a2', 'b1', 'b2'][index]}.weight`, part)),
    tensor(`${MODULE}.alpha`, 'F32', [], [3]),
    tensor('lora_unet_out_0.w_norm', 'F32', [2], [1, 2]),
  ];
  await writeSafetensors({ path, tensors, metadata: undefined, hashes: false });
  return new Map([
    [MODULE, glora],
    [kronName, kron],
    [diffName, diff],
  ]);
}

test('other families become LoRA where one asks for it, and are named with the way to it where one does not', async () => {
  const path = join(folder, 'families.safetensors');
  const wanted = await writeFamilies(path);
  const refused = await lorac(base, path, '-r', 'spn_lora=1,thr=-20', '-o', 'none');
  expect([refused.exitCode, refused.stdout]).toEqual([
    1,
    expect.stringMatching(/has no LoRA modules[\s\S]*extract = 64/),
  ]);

  const args = ['-r', 'spn_lora=1,thr=-20', '-t', '32', '-o', 'extracted'];
  const { exitCode, stdout } = await lorac(base, path, '--extract', '64', ...args);
  expect([exitCode, stdout]).toEqual([0, expect.stringContaining('families:decompose[extract=64]')]);
  expect(stdout).toContain('1 module of norm is kept whole: lora_unet_out_0');
  await expectSame(join(folder, 'extracted', 'families_spnlora1_extract64_th-20.safetensors'), wanted, 1e-4);
});

test.each([
  [[lora, lora], /"[^"]*lora\.safetensors" is a LoRA, and the first of the files is the base/],
  [[base, base], /"[^"]*base\.safetensors" is no LoRA: it has no modules[\s\S]*the base comes first/],
  [['store', lora], /"store" is no folder of a diffusers model: there is no \.safetensors file in its unet/],
  [['nothing.safetensors', lora], /There is no file or folder "nothing\.safetensors"/],
  [[base, `${lora}:0,${base}:1`], /weight of "[^"]*lora\.safetensors" is 0/],
  [[base, lora, '--extract', 'x'], /--extract is "x", and it has to be a whole number from 1 to 1024/],
  [[base, lora, '-r', 'fro_ckp=1,thr=-3'], /has the unknown key "fro_ckp"[\s\S]*there is fro_ckpt/],
])('%j is refused before anything starts', async (args, message) => {
  const { exitCode, stderr } = await lorac(...args);
  expect([exitCode, stderr]).toEqual([2, expect.stringMatching(message)]);
});
