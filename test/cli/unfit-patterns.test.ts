// Patterns of layers' names that fit no layer, told before anything runs.

import { expect, test } from 'vitest';
import { unfitPatterns } from '../../src/cli/unfit-patterns.ts';
import { compileText } from '../parser/marked.ts';

test('each setting of a training that names layers is looked at, and the variants of a block once', () => {
  const { program } = compileText(`
checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
train raw {
  base = pony  data = hero  steps = sweep [10, 20]
  network = locon { modules = ["*_to_q", "nowhere"]  dims = { "*_nothing_*" = 4  OUT01 = 2 }  conv_dims = { "*_none" = 0 } }
  block_lr = { "*_attn2_to_v" = 2  "*_attn3_to_v" = 2 }
}`);
  expect(program).toBeDefined();
  const found = program === undefined ? [] : unfitPatterns(program);
  expect(found.map(({ message }) => /"(.*?)" in "(.*?)"/.exec(message)?.slice(1)).toSorted()).toEqual([
    ['*_attn3_to_v', 'block_lr'],
    ['*_none', 'conv_dims'],
    ['*_nothing_*', 'dims'],
    ['nowhere', 'modules'],
  ]);
});
