// The project that most tests of the executor build: every kind of block, two images.

import { pngOf } from './pictures.ts';

export const program = `
# what the tests build
checkpoint pony { path = "pony.safetensors" }
dataset hero { images = "images" }
train raw { base = pony  data = hero  steps = 40 }
resize small { from = raw  thr = -3.55 }
chop tiny { from = small  keep = [OUT01] }
save "hero.safetensors" { from = tiny }
`;

export const project = {
  'main.lora': program,
  'pony.safetensors': 'the VAE\nthe rest',
  'images/a.png': pngOf({ width: 1024, height: 1024, shade: 1 }),
  'images/a.txt': 'a cat',
  'images/b.png': pngOf({ width: 1000, height: 600, shade: 2 }),
  'images/b.txt': 'a dog',
} as const;

/** Every node of the program, in the graph's order. */
export const allNodes = [
  'pony',
  'hero:manifest',
  'raw:latents',
  'raw',
  'raw:decompose',
  'pony:frobenius',
  'small',
  'tiny',
  'hero.safetensors',
];
