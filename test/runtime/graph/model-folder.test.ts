// What lies in the folder of a diffusers model, by names alone.

import { relative } from 'node:path';
import { expect, test } from 'vitest';
import { BrokenFolder, modelFolderAt, wholeModel } from '../../../src/runtime/graph/model-folder.ts';
import { type TemporaryFolder, temporaryFolder } from '../../helpers/temporary-folder.ts';

const PLAIN = [
  'unet/diffusion_pytorch_model.safetensors',
  'text_encoder/model.safetensors',
  'text_encoder_2/model.safetensors',
  'vae/diffusion_pytorch_model.safetensors',
];

function filled(folder: TemporaryFolder, names: readonly string[]) {
  folder.write(Object.fromEntries(names.map((name) => [`sdxl/${name}`, ''])));
  return folder.at('sdxl');
}

const without = (part: string) => PLAIN.filter((name) => !name.startsWith(`${part}/`));

test('the files of a model have roles, each part in one variant with all of its shards', () => {
  using folder = temporaryFolder();
  const model = filled(folder, [
    ...without('text_encoder_2'),
    'unet/diffusion_pytorch_model.fp16.safetensors',
    'text_encoder_2/model.fp16-00001-of-00002.safetensors',
    'text_encoder_2/model.fp16-00002-of-00002.safetensors',
    'text_encoder_2/model.safetensors.index.fp16.json',
    'scheduler/scheduler_config.json',
  ]);
  const files = Object.entries(wholeModel(model)).map(([role, path]) => [role, relative(model, path)]);
  expect(Object.fromEntries(files)).toEqual({
    'checkpoint.unet': 'unet/diffusion_pytorch_model.safetensors',
    'checkpoint.text_encoder': 'text_encoder/model.safetensors',
    'checkpoint.text_encoder_2': 'text_encoder_2/model.fp16-00001-of-00002.safetensors',
    'checkpoint.text_encoder_2.2': 'text_encoder_2/model.fp16-00002-of-00002.safetensors',
    'checkpoint.vae': 'vae/diffusion_pytorch_model.safetensors',
    'checkpoint.scheduler': 'scheduler/scheduler_config.json',
  });
});

test('of weights that are there twice, those in fewer files are taken', () => {
  using folder = temporaryFolder();
  const model = filled(folder, [
    ...PLAIN,
    'unet/diffusion_pytorch_model-00001-of-00002.safetensors',
    'unet/diffusion_pytorch_model-00002-of-00002.safetensors',
    'vae/model.safetensors',
  ]);
  const files = Object.values(wholeModel(model)).map((path) => relative(model, path));
  expect(files).toEqual(PLAIN);
});

test('a folder is known by its parts, or by its index, which names it as well', () => {
  using folder = temporaryFolder();
  const model = filled(folder, ['model_index.json']);
  folder.write({ 'other/a.safetensors': '' });
  expect(modelFolderAt(model)).toBe(model);
  expect(modelFolderAt(folder.at('sdxl/model_index.json'))).toBe(model);
  expect(modelFolderAt(folder.at('other'))).toBeUndefined();
  expect(modelFolderAt(folder.at('other/a.safetensors'))).toBeUndefined();
});

test.each<[string, readonly string[], RegExp]>([
  ['nothing but an index', ['model_index.json'], /lacks "unet", "text_encoder", "text_encoder_2" and "vae", with/],
  ['no VAE', without('vae'), /lacks "vae", with \.safetensors files in it\./],
  [
    'a pickled part',
    [...without('unet'), 'unet/diffusion_pytorch_model.bin'],
    /unet" has its weights as a pickle \("diffusion_pytorch_model\.bin"\)/,
  ],
  [
    'a shard missing',
    [...without('unet'), 'unet/diffusion_pytorch_model-00002-of-00003.safetensors'],
    /unet" has 1 of 3 parts of its weights\./,
  ],
  [
    'an index of shards alone',
    [...without('unet'), 'unet/diffusion_pytorch_model.safetensors.index.json'],
    /lacks "unet"/,
  ],
  ['the refiner', without('text_encoder'), /is an SDXL refiner, and the base model is needed\./],
  ['Stable Diffusion 1 or 2', without('text_encoder_2'), /is a Stable Diffusion 1 or 2 model/],
  ['Flux or Stable Diffusion 3', ['transformer/a.safetensors', ...without('unet')], /is a model of another family/],
])('%s is refused with what is wrong', (_, names, message) => {
  using folder = temporaryFolder();
  const model = filled(folder, names);
  const look = () => wholeModel(model);
  expect(look).toThrow(BrokenFolder);
  expect(look).toThrow(message);
});
