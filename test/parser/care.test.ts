// What is warned of though it can be built, and what is near it and is not.

import { expect, test } from 'vitest';
import { around, compileText, expectProblems, trainWith } from './marked.ts';

const codes = (text: string) => compileText(text).diagnostics.map(({ code }) => code);
const codesOf = (attributes: string) => codes(trainWith(attributes));

test('an alpha above the rank is warned of, also of convolutions', () => {
  const [found] = expectProblems(['alpha-above-rank'], trainWith('network = «locon { dim = 8  alpha = 16 }»'));
  expect(found?.severity).toBe('warning');
  expect(found?.message).toContain('counts 2 times');
  expectProblems(['alpha-above-rank'], trainWith('network = «loha { conv_dim = 4  conv_alpha = 8 }»'));
});

test('an alpha up to the rank is not, nor one whose scale is another, nor a default that does little harm', () => {
  for (const network of [
    'locon { dim = 8  alpha = 8 }',
    'locon { dim = 8  alpha = 16  rs_lora = true }',
    'lokr { dim = 4  alpha = 8 }',
    'locon { dim = 2 }',
    'full',
  ]) {
    expect(codesOf(`network = ${network}`)).toEqual([]);
  }
  expectProblems(['alpha-above-rank'], trainWith('network = «locon { dim = 1 }»'));
});

test.each([
  ['optimizer = AdamW  unet_lr = «1e-2»', '100 times as high as'],
  ['optimizer = Lion  unet_lr = «1e-3»', '33 times as high as'],
  ['unet_lr = «3e-7»', '1000 times as low as'],
  ['optimizer = AdamW  text_encoder_lr = «1»', '10000 times as high as'],
  ['network = full  optimizer = AdamW  unet_lr = «5e-4»', '50 times as high as'],
])('a rate that is far from what is usual is warned of: %s', (written, far) => {
  const [found] = expectProblems(['far-rate'], trainWith(written));
  expect(found?.message).toContain(`${far} usual`);
});

test('rates that people use are not warned of', () => {
  for (const written of [
    'unet_lr = 1e-3  text_encoder_lr = 1e-6',
    'optimizer = AdamW8bit  unet_lr = 1e-3',
    'optimizer = AdamW8bit  unet_lr = 5e-6',
    'optimizer = Lion  unet_lr = 1e-4',
    'optimizer = Prodigy',
    'unet_lr = 0',
    'optimizer = python { class = "a.B" }  unet_lr = 10',
  ]) {
    expect(codesOf(written)).toEqual([]);
  }
});

test('an interval that is longer than the training is warned of where it is written', () => {
  expectProblems(['late-interval'], trainWith('steps = 20  save_every = «50»'));
  expectProblems(['late-interval'], trainWith('steps = 20  sample = «{ every = 50  prompts = "p.txt" }»'));
  expectProblems(['late-interval'], trainWith('steps = 20  validation = «{ every = 50  share = 0.1 }»'));
  expect(codesOf('steps = 5  sample = { prompts = "p.txt" }')).toEqual([]);
  expect(codesOf('steps = 20  save_every = 20')).toEqual([]);
});

const saved = `${around} train raw { base = pony  data = hero } save "a.safetensors" { from = raw }`;

test('a block, a let or a param that nothing uses is warned of in a program that saves something', () => {
  expectProblems(['unused-block'], `${saved} «resize small» { from = raw }`);
  expectProblems(['unused-definition'], `${saved} let «x» = 3`);
  expectProblems(['unused-definition'], `${saved} param «x» = 3`);
  expect(codes(`${saved.replace(/save.*/, '')} resize small { from = raw } let x = 3`)).toEqual([]);
});

test('every way to use a name is one', () => {
  for (const use of [
    'let x = 3 resize s { from = raw  max_rank = x } preview p { loras = [s]  prompts = "p.txt" }',
    'let x = 3 let y = x + 1 resize s { from = raw  max_rank = y } analyze a { from = s }',
    `param x = "b" save "\${x}.safetensors" { from = raw }`,
    'resize s { from = raw } resize t extends s { } save "t.safetensors" { from = t }',
    'resize s { from = raw } merge m { from = { s = 0.5  raw = 1 } } save "m.safetensors" { from = m }',
    'resize s { from = raw@40  thr = sweep [-3, -4] } preview p { loras = [s[thr=-3]]  prompts = "p.txt" }',
    'let x = [raw] merge m { from = x } save "m.safetensors" { from = m }',
  ]) {
    expect(codes(`${saved} ${use}`)).toEqual([]);
  }
});

test('where something is wrong, nobody is told that a misspelt name left another unused', () => {
  expect(
    codes(`${saved} let size = 3 resize s { from = raw  max_rank = sise } save "s.safetensors" { from = s }`),
  ).toEqual(['wrong-type']);
});
