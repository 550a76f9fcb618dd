// `parity = sd_scripts` sets what reproduces sd-scripts, and each of these settings can be written by itself.

import { expect, test } from 'vitest';
import { paritySettings } from '../../../src/runtime/graph/parity.ts';
import { blockOf, compileText, fixAll, trainWith } from '../../parser/marked.ts';

const settings = (written: string) => {
  const { accumulation, text_projection, noise } = paritySettings(blockOf(trainWith(written), 'train'));
  return [accumulation, text_projection, 'std_axes' in noise ? noise.std_axes : undefined];
};

test('without it, nothing is as in sd-scripts where something else is better', () => {
  expect(settings('')).toEqual(['images', 'true', 'image']);
});

test('it sets all of them as a whole', () => {
  expect(settings('parity = sd_scripts')).toEqual(['sd_scripts', 'transposed', 'batch']);
  expect(settings('parity = sd_scripts  noise = multires { discount = 0.3 }')).toEqual([
    'sd_scripts',
    'transposed',
    'batch',
  ]);
  expect(settings('parity = sd_scripts  noise = plain')).toEqual(['sd_scripts', 'transposed', undefined]);
});

test('what is written is so', () => {
  const written =
    'parity = sd_scripts  accumulation = images  text_projection = true  noise = multires { std_axes = image }';
  expect(settings(written)).toEqual(['images', 'true', 'image']);
  expect(settings('accumulation = sd_scripts')).toEqual(['sd_scripts', 'true', 'image']);
  expect(settings('text_projection = transposed')).toEqual(['images', 'transposed', 'image']);
  expect(settings('noise = multires { std_axes = batch }')).toEqual(['images', 'true', 'batch']);
});

test('a word that is none of them is told', () => {
  const codes = (written: string) => compileText(trainWith(written)).diagnostics.map(({ code }) => code);
  for (const written of ['parity = kohya', 'accumulation = batches', 'text_projection = false']) {
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
