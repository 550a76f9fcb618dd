// A base in the folder of a diffusers model and the same base in one file, with the real worker.

import { writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import { expect, test } from 'vitest';
import { Project } from './project.ts';

const root = resolve(import.meta.dirname, '../..');

const program = `
checkpoint base { path = "base.safetensors" }
dataset hero { images = "images"  resolution = 64x64  bucket = { min = 64  max = 128  step = 32 } }
train raw {
  base = base  data = hero
  network = locon { dim = 2  alpha = 1  conv_dim = 2  conv_alpha = 1 }
  steps = 1  batch_size = 2  gradient_accumulation_steps = 1
  mixed_precision = fp32
}
save "hero.safetensors" { from = raw }
`;

/** By the Python tests' own means, which diffusers' `save_pretrained` is held against there. */
async function takeApart(project: Project): Promise<void> {
  const { stdout: python } = await execa(process.execPath, [join(root, 'dist', 'cli.js'), 'env', '--python']);
  const script = `
from pathlib import Path
from diffusers_folder import tensors_by_part, write_folder
write_folder(Path("sdxl"), tensors_by_part(Path("base.safetensors")), shards=2)
`;
  const PYTHONPATH = [join(root, 'python'), join(root, 'python/tests')].join(':');
  const env = { PYTHONPATH, OMP_WAIT_POLICY: 'passive', GOMP_SPINCOUNT: '1000' };
  await execa(python, ['-c', script], { env, cwd: project.folder });
}

test('a folder trains to the LoRA that the file trains to, from the latents that are there', async () => {
  await using project = await Project.open();
  await writeFile(project.path('hero.lora'), program);
  expect((await project.build()).finished).toMatchObject({ ok: true });
  const fromFile = await project.bytes('hero.safetensors');
  await takeApart(project);
  await project.edit('hero.lora', (text) => text.replace('base.safetensors', 'sdxl'));
  const { finished } = await project.build();
  expect(finished.computed).toEqual(['base', 'raw']);
  expect(finished.fresh).toEqual(expect.arrayContaining(['raw:latents', 'hero.safetensors']));
  expect((await project.bytes('hero.safetensors')).equals(fromFile)).toBe(true);
});
