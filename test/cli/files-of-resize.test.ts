// What a command line means by a LoRA and by a base: files, sums of files, and folders of diffusers.

import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, relative } from 'node:path';
import { expect, test } from 'vitest';
import { openBase } from '../../src/cli/base-files.ts';
import { readLoraArgument, readLoraHeader } from '../../src/cli/lora-arguments.ts';
import { UsageError } from '../../src/cli/usage-error.ts';
import { absolutePath } from '../../src/runtime/graph/paths.ts';
import { writeSafetensors } from '../../src/runtime/safetensors/writer.ts';
import { openFolder } from '../runtime/safetensors/files.ts';
import { IN04, MID00, tensor, writeLora } from '../runtime/stages/lora-files.ts';

type Folder = Awaited<ReturnType<typeof openFolder>>;

async function touch(folder: Folder, ...names: readonly string[]): Promise<readonly string[]> {
  for (const name of names) {
    await mkdir(dirname(folder.path(name)), { recursive: true });
    await writeFile(folder.path(name), '');
  }
  return names.map(folder.path);
}

test('a sum is files with weights, and a weight that is not written is 1', async () => {
  await using folder = await openFolder();
  const [a, b] = await touch(folder, 'a.safetensors', 'b.safetensors');
  expect(readLoraArgument(`${a}`)).toEqual([{ path: a, weight: 1 }]);
  expect(readLoraArgument(`${a}:0.5`)).toEqual([{ path: a, weight: 0.5 }]);
  expect(readLoraArgument(`${a}:-0.5,${b}:.25`)).toEqual([
    { path: a, weight: -0.5 },
    { path: b, weight: 0.25 },
  ]);
  expect(readLoraArgument(`${a},${b}:1e-1`)).toEqual([
    { path: a, weight: 1 },
    { path: b, weight: 0.1 },
  ]);
});

test('a file whose name looks like a sum is that file', async () => {
  await using folder = await openFolder();
  const [odd] = await touch(folder, 'a,b:0.5');
  expect(readLoraArgument(`${odd}`)).toEqual([{ path: odd, weight: 1 }]);
});

test('what is wrong with a sum is told with its part', async () => {
  await using folder = await openFolder();
  const [a] = await touch(folder, 'a.safetensors');
  expect(() => readLoraArgument(`${a}:0.5,${folder.path('gone.safetensors')}:0.5`)).toThrow(
    `There is no file "${folder.path('gone.safetensors')}".`,
  );
  expect(() => readLoraArgument(`${a}:0,${a}:1`)).toThrow(`weight of "${a}" is 0`);
  expect(() => readLoraArgument(`${a}:0.5,${a}:0.5`)).toThrow('twice');
  expect(() => readLoraArgument(folder.path('.'))).toThrow('is a folder');
});

test('the header of a LoRA tells whether stages can read it as it is, and what would have to be extracted', async () => {
  await using folder = await openFolder();
  const ours = absolutePath(await writeLora(folder.path('ours.safetensors')));
  expect(await readLoraHeader(ours)).toMatchObject({ isCanonical: true, generation: 'SDXL' });
  const bare = absolutePath(await writeLora(folder.path('bare.safetensors'), [{ name: MID00, alpha: null }]));
  expect(await readLoraHeader(bare)).toMatchObject({ isCanonical: false });
  const names = ['a1', 'a2', 'b1', 'b2'].map((part) => tensor(`${IN04}.${part}.weight`, 'F32', [2, 2], [1, 2, 3, 4]));
  const glora = absolutePath(folder.path('glora.safetensors'));
  await writeSafetensors({ path: glora, tensors: names, metadata: undefined, hashes: false });
  expect((await readLoraHeader(glora)).families).toEqual(new Set(['GLoRA']));
  await writeSafetensors({ path: glora, tensors: [tensor('a', 'F32', [1], [1])], metadata: undefined, hashes: false });
  await expect(readLoraHeader(glora)).rejects.toThrow('is no LoRA: it has no modules');
});

/** Files of a folder with one tensor each. */
async function model(folder: Folder, files: Readonly<Record<string, string>>): Promise<string> {
  for (const [name, key] of Object.entries(files)) {
    const path = folder.path(`model/${name}`);
    await mkdir(dirname(path), { recursive: true });
    await writeSafetensors({ path, tensors: [tensor(key, 'F16', [1, 1], [1])], metadata: undefined, hashes: false });
  }
  return folder.path('model');
}

async function rolesIn(folder: string): Promise<Record<string, string>> {
  const { files } = await openBase(folder);
  return Object.fromEntries(Object.entries(files).map(([role, path]) => [role, relative(folder, path)]));
}

const [UNET, TEXT] = ['down_blocks.0.resnets.0.conv1.weight', 'text_model.encoder.layers.0.mlp.fc1.weight'];

test('a folder of diffusers is its UNet and its text encoders, each in one variant, with all of its parts', async () => {
  await using folder = await openFolder();
  const path = await model(folder, {
    'unet/diffusion_pytorch_model.fp16.safetensors': UNET,
    'unet/diffusion_pytorch_model.non_ema.safetensors': UNET,
    'unet/config.safetensors': UNET,
    'text_encoder/model.fp16.safetensors': TEXT,
    'text_encoder/model.safetensors': TEXT,
    'text_encoder_2/model.fp16-00002-of-00002.safetensors': TEXT,
    'text_encoder_2/model.fp16-00001-of-00002.safetensors': TEXT,
    'vae/diffusion_pytorch_model.safetensors': 'encoder.conv_in.weight',
  });
  expect(await rolesIn(path)).toEqual({
    'checkpoint.unet': 'unet/diffusion_pytorch_model.fp16.safetensors',
    'checkpoint.text_encoder': 'text_encoder/model.safetensors',
    'checkpoint.text_encoder_2': 'text_encoder_2/model.fp16-00001-of-00002.safetensors',
    'checkpoint.text_encoder_2.2': 'text_encoder_2/model.fp16-00002-of-00002.safetensors',
  });
  expect((await openBase(path)).isSdxl).toBe(true);
});

test('newer names of parts are understood, and parts that are missing are missed', async () => {
  await using folder = await openFolder();
  const path = await model(folder, { 'unet/diffusion_pytorch_model-00001-of-00002.fp16.safetensors': UNET });
  await expect(openBase(path)).rejects.toThrow('has 1 of 2 parts of its weights');
  await model(folder, { 'unet/diffusion_pytorch_model-00002-of-00002.fp16.safetensors': UNET });
  expect(Object.keys(await rolesIn(path))).toEqual(['checkpoint.unet', 'checkpoint.unet.2']);
});

test('what is no base is refused with what it is', async () => {
  await using folder = await openFolder();
  await mkdir(folder.path('empty'));
  await expect(openBase(folder.path('empty'))).rejects.toThrow('is no folder of a diffusers model');
  await expect(openBase(folder.path('gone'))).rejects.toThrow('There is no file or folder');
  const lora = await writeLora(folder.path('lora.safetensors'));
  await expect(openBase(lora)).rejects.toThrow('is a LoRA, and the first of the files is the base');
  await expect(openBase(lora)).rejects.toBeInstanceOf(UsageError);
  const path = folder.path('vae.safetensors');
  const tensors = [tensor('encoder.conv_in.weight', 'F16', [1, 1], [1])];
  await writeSafetensors({ path, tensors, metadata: undefined, hashes: false });
  await expect(openBase(path)).rejects.toThrow('is no checkpoint: it has no weights of a UNet or a text encoder');
});

test.each([
  ['model.diffusion_model.label_emb.0.0.weight', true],
  ['conditioner.embedders.0.transformer.text_model.encoder.layers.0.mlp.fc1.weight', true],
  ['cond_stage_model.transformer.text_model.encoder.layers.0.mlp.fc1.weight', false],
  ['model.diffusion_model.input_blocks.1.0.in_layers.2.weight', false],
  [UNET, false],
  [TEXT, undefined],
])('a file with "%s" is of SDXL: %s', async (key, isSdxl) => {
  await using folder = await openFolder();
  const path = folder.path('base.safetensors');
  await writeSafetensors({ path, tensors: [tensor(key, 'F16', [1, 1], [1])], metadata: undefined, hashes: false });
  expect((await openBase(path)).isSdxl).toBe(isSdxl);
});
