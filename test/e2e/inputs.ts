// Made once per suite: the smallest base checkpoint, two LoRAs for it and a few real image files, by the project's own
// scripts.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** A folder with `base.safetensors`, `character.safetensors`, `style.safetensors` and `images/`. */
    inputs: string;
  }
}

const root = resolve(import.meta.dirname, '../..');

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'lorac-inputs-'));
  const { stdout: python } = await execa(process.execPath, [join(root, 'dist', 'cli.js'), 'env', '--python']);
  const env = { PYTHONPATH: join(root, 'python'), OMP_WAIT_POLICY: 'passive', GOMP_SPINCOUNT: '1000' };
  await execa(python, ['-m', 'lora_worker.toy', join(folder, 'base.safetensors'), '--size', 'test'], { env });
  const lora = ['-m', 'lora_worker.toy.lora', '--size', 'test'];
  await execa(python, [...lora, join(folder, 'character.safetensors')], { env });
  const ofAnotherTrainer = ['--names', 'peft', '--rank', '4', '--seed', '2', '--strong', 'input_blocks.7'];
  await execa(python, [...lora, join(folder, 'style.safetensors'), ...ofAnotherTrainer], { env });
  await execa(python, ['-m', 'lora_worker.toy.pictures', join(folder, 'images')], { env });
  project.provide('inputs', folder);
  return async () => await rm(folder, { recursive: true, force: true });
}
