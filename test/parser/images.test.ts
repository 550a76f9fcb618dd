// Settings of a dataset that say what becomes of its pictures.

import { expect, test } from 'vitest';
import { parseColor } from '../../src/parser/color.ts';
import { blockOf, expectProblems, fixAll, hintsOf, trainWith } from './marked.ts';

const dataset = (attributes: string) => `dataset hero { images = "images"  ${attributes} }`;

test('colors are three numbers, in long, in short and by name', () => {
  expect(parseColor('#8040ff')).toEqual([128, 64, 255]);
  expect(parseColor(' #F80 ')).toEqual([255, 136, 0]);
  expect(parseColor('white')).toEqual([255, 255, 255]);
  for (const none of ['', '#', '#12', '#12345', '8040ff', '#gggggg', 'reddish', 'constructor'])
    expect(parseColor(none), none).toBeUndefined();
});

test('what shows through is a word or a color, and the rest is told', () => {
  const written = (value: string) => blockOf(dataset(`transparency = ${value}`), 'dataset').attributes.transparency;
  expect(['ignore', 'black', '"#fff"', '"black"'].map(written)).toEqual(['ignore', 'black', '#fff', 'black']);
  expectProblems(['odd-color'], dataset('transparency = «"reddish"»'));
  expectProblems(['odd-color'], dataset('transparency = «"#12345"»'));
  expectProblems(['wrong-type'], dataset('transparency = «reddish»'));
  expect(fixAll(dataset('transparency = "ignore"'))).toBe(dataset('transparency = ignore'));
});

test('the words of other trainers are understood', () => {
  expect(fixAll(dataset('resize_interpolation = area'))).toBe(dataset('resize_filter = area'));
});

test('a mask comes from one place, and what is said of masks where there are none is told', () => {
  expect(blockOf(dataset('alpha_mask = true'), 'dataset').attributes.alpha_mask).toBe(true);
  expect(blockOf(dataset('masks = "m"  mask_missing = whole'), 'dataset').attributes.masks?.text).toBe('m');
  expectProblems(['two-masks'], dataset('masks = "m"  alpha_mask = «true»'));
  expectProblems(['idle-mask-missing'], dataset('mask_missing = «whole»'));
});

test('a training that says how masks count has masks, of what it learns or of what it keeps', () => {
  const training = (hero: string, kept = '') => `
    checkpoint pony { path = "pony.safetensors" }
    dataset hero { images = "images"  ${hero} }
    dataset people { images = "people"  ${kept} }
    train raw { base = pony  data = hero  regularization = people  masked_loss = «{ normalize = true }» }`;
  const [problem] = expectProblems(['idle-masked-loss'], training(''));
  expect(problem?.message).toBe('"masked_loss" says how masks count, and "hero" and "people" have none.');
  for (const fine of [training('alpha_mask = true'), training('masks = "m"'), training('', 'alpha_mask = true')]) {
    expectProblems([], fine.replaceAll(/[«»]/g, ''));
  }
});

test('how masks count stays in its range', () => {
  const written = (
    value: string,
  ) => `checkpoint a { path = "a.safetensors" } dataset b { images = "b"  alpha_mask = true }
    train c { base = a  data = b  masked_loss = ${value} }`;
  expect(blockOf(written('{ unmasked_weight = 0.1 }'), 'train').attributes.masked_loss).toEqual({
    unmasked_weight: 0.1,
    normalize: false,
  });
  expectProblems(['out-of-range'], written('{ unmasked_weight = «1.5» }'));
  expectProblems(['wrong-type'], written('«true»'));
});

test('where others have a switch or a number, the settings in braces are told', () => {
  const switches = ['masked_loss = true', 'sample = true', 'validation = 0.1'];
  expect(switches.flatMap((one) => hintsOf(trainWith(one)))).toEqual([
    'Write masked_loss = { … }, with any of unmasked_weight and normalize.',
    'Write sample = { prompts = … }',
    'Write validation = { … }, with any of data, share, every and timesteps.',
  ]);
  expect(hintsOf(dataset('bucket = 64'))).toEqual([
    'Write bucket = { … }, with any of min, max, step, upscale and distance.',
  ]);
});
