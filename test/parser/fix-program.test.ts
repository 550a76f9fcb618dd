// What can be mended without asking, mended.

import { globSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { fixProgram } from '../../src/parser/editing/fix-program.ts';
import { compileText } from './marked.ts';

const corpus = new URL('../../grammar/corpus/', import.meta.url);
const fixed = (text: string, params: { readonly [name: string]: string } = {}) =>
  fixProgram({ path: 'hero.lora', text }, { params: new Map(Object.entries(params)) });

test('fixes are made until none is left, each told with its line', () => {
  const { text, made } = fixed(`checkpoint pony { path: “p.safetensors” }
dataset hero = { imges = "images" }`);
  expect(text).toBe(`checkpoint pony { path = "p.safetensors" }
dataset hero  { images = "images" }`);
  expect(made).toEqual([
    { code: 'colon', line: 1, before: ':', after: ' =' },
    { code: 'odd-quotes', line: 1, before: '“p.safetensors”', after: '"p.safetensors"' },
    { code: 'extra-equals', line: 2, before: '=', after: '' },
    { code: 'unknown-attribute', line: 2, before: 'imges', after: 'images' },
  ]);
  expect(compileText(text).diagnostics).toEqual([]);
});

test('a program without fixes stays as it is', () => {
  const text = 'lora a { path = "a.safetensors" }\nresize b { from = c }';
  expect(fixed(text)).toEqual({ text, made: [] });
});

test('quotes are not put around quotes, which would have to be put around once more', () => {
  const text = 'dataset hero { images = "\r−" }';
  expect(fixed(text)).toEqual({ text, made: [] });
});

test('what is wrong on the command line changes no file', () => {
  const text = 'param n = 3\nlora a { path = "a.safetensors" }\nresize b { from = a  spn_lora = n }';
  expect(fixed(text, { n: '5min', m: '3' })).toEqual({ text, made: [] });
});

test.each(globSync('bad/*.lora', { cwd: corpus }))('%s is mended as far as it can be, and no further', (path) => {
  const { text, made } = fixed(readFileSync(new URL(path, corpus), 'utf8'));
  expect(made.length).toBeLessThan(40);
  expect(compileText(text).diagnostics.filter(({ fix }) => fix !== undefined)).toEqual([]);
  expect(fixed(text)).toEqual({ text, made: [] });
});

test('what other trainers have on one level goes into the record that it belongs into, with all of its kind', () => {
  const { text } = fixed(`train raw {
  base = pony  data = hero
  network_dim = 32
  network_alpha = 16
  optimizer = AdamW
  weight_decay = 0.1
}
${'checkpoint pony { path = "p.safetensors" }\ndataset hero { images = "i" }\n'}`);
  expect(text).toContain(`train raw {
  base = pony  data = hero
  network = locon { dim = 32  alpha = 16 }
  optimizer = AdamW { weight_decay = 0.1 }
}`);
  expect(compileText(text).diagnostics).toEqual([]);
});

test('nothing is moved or renamed onto what is written already', () => {
  const text = `train raw { base = pony  data = hero  lr = 1e-4  unet_lr = 2e-4  rank = 8  network = locon { dim = 4 } }
checkpoint pony { path = "p.safetensors" }
dataset hero { images = "i" }`;
  expect(fixed(text)).toEqual({ text, made: [] });
});
