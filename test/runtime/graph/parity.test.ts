// `parity = sd_scripts` sets what reproduces sd-scripts, and each of these settings can be written by itself.

import { expect, test } from 'vitest';
import type { BaseFiles } from '../../../src/runtime/graph/model-folder.ts';
import { paritySettings, pixelSettings } from '../../../src/runtime/graph/parity.ts';
import { absolutePath } from '../../../src/runtime/graph/paths.ts';
import { blockOf, compileText, fixAll, trainWith } from '../../parser/marked.ts';

const oneFile: BaseFiles = { checkpoint: absolutePath('/pony.safetensors') };
const folder: BaseFiles = { 'checkpoint.unet': absolutePath('/sdxl/unet/diffusion_pytorch_model.safetensors') };

const settings = (written: string, base = oneFile) => {
  const { accumulation, text_projection, crop_conditioning, latents, noise } = paritySettings(
    blockOf(trainWith(written), 'train'),
    base,
  );
  const axes = 'std_axes' in noise ? noise.std_axes : undefined;
  return [accumulation, text_projection, crop_conditioning, latents, axes];
};

const ours = ['images', 'true', 'real', 'fresh', 'image'];
const theirs = ['sd_scripts', 'transposed', 'sd_scripts', 'frozen', 'batch'];

/** `list` with another word at one place. */
const but = (list: readonly string[], place: number, word: string | undefined) => list.with(place, word as string);

test('without it, nothing is as in sd-scripts where something else is better', () => {
  expect(settings('')).toEqual(ours);
});

test('it sets all of them as a whole', () => {
  expect(settings('parity = sd_scripts')).toEqual(theirs);
  expect(settings('parity = sd_scripts  noise = multires { discount = 0.3 }')).toEqual(theirs);
  expect(settings('parity = sd_scripts  noise = plain')).toEqual(but(theirs, 4, undefined));
});

test('of a diffusers folder sd-scripts has the text projection right, and so it stays', () => {
  expect(settings('parity = sd_scripts', folder)).toEqual(but(theirs, 1, 'true'));
  expect(settings('parity = sd_scripts  text_projection = transposed', folder)).toEqual(theirs);
});

test('what is written is so', () => {
  const written =
    'accumulation = images  text_projection = true  crop_conditioning = real  latents = fresh  noise = multires { std_axes = image }';
  expect(settings(`parity = sd_scripts  ${written}`)).toEqual(ours);
  expect(settings('parity = sd_scripts  latents = fresh')).toEqual(but(theirs, 3, 'fresh'));
  expect(settings('accumulation = sd_scripts')).toEqual(but(ours, 0, 'sd_scripts'));
  expect(settings('text_projection = transposed')).toEqual(but(ours, 1, 'transposed'));
  expect(settings('crop_conditioning = sd_scripts')).toEqual(but(ours, 2, 'sd_scripts'));
  expect(settings('latents = frozen')).toEqual(but(ours, 3, 'frozen'));
  expect(settings('noise = multires { std_axes = batch }')).toEqual(but(ours, 4, 'batch'));
});

const pixelsOf = (dataset: string, written = '') => {
  const program = trainWith(written).replace('images = "images"', `images = "images"  ${dataset}`);
  return Object.values(pixelSettings(blockOf(program, 'train'), blockOf(program, 'dataset')));
};

test('pictures are read as the dataset says, and with parity as sd-scripts reads them, but for what is written', () => {
  const white = [255, 255, 255];
  expect(pixelsOf('')).toEqual(['apply', white, 'lanczos']);
  expect(pixelsOf('', 'parity = sd_scripts')).toEqual(['ignore', 'ignore', 'area']);
  expect(pixelsOf('exif = ignore  transparency = ignore  resize_filter = area')).toEqual(['ignore', 'ignore', 'area']);
  expect(pixelsOf('transparency = "#8040FF"')).toEqual(['apply', [128, 64, 255], 'lanczos']);
  expect(pixelsOf('transparency = black')).toEqual(pixelsOf('transparency = "#000"'));
  const written = 'exif = apply  transparency = white  resize_filter = lanczos';
  expect(pixelsOf(written, 'parity = sd_scripts')).toEqual(['apply', white, 'lanczos']);
});

test('a word that is none of them is told', () => {
  const codes = (written: string) => compileText(trainWith(written)).diagnostics.map(({ code }) => code);
  const wrong = ['parity = kohya', 'accumulation = batches', 'text_projection = false'];
  for (const written of [...wrong, 'crop_conditioning = transposed', 'latents = cached']) {
    expect(codes(written), written).toEqual(['unknown-word']);
  }
});

test('regularization images and batches by bucket do not go together, and the fix says so', () => {
  const more = 'dataset people { images = "people" }';
  const text = (written: string) => trainWith(`regularization = people  ${written}`, more);
  const codes = (written: string) => compileText(text(written)).diagnostics.map(({ code }) => code);
  expect(codes('accumulation = sd_scripts')).toEqual(['batches-of-regularization']);
  expect(codes('parity = sd_scripts')).toEqual(['batches-of-regularization']);
  expect(codes('parity = sd_scripts  accumulation = images')).toEqual([]);
  expect(fixAll(text('accumulation = sd_scripts'))).toContain('accumulation = images');
});
