// Made once per suite: the smallest base checkpoint and a few real image files, by the project's own scripts.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { execa } from 'execa';
import type { TestProject } from 'vitest/node';

declare module 'vitest' {
  interface ProvidedContext {
    /** A folder with `base.safetensors` and `images/`. */
    inputs: string;
  }
}

const root = resolve(import.meta.dirname, '../..');

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'lorac-inputs-'));
  const { stdout: python } = await execa(process.execPath, [join(root, 'dist', 'cli.js'), 'env', '--python']);
  const env = { PYTHONPATH: join(root, 'python'), OMP_WAIT_POLICY: 'passive', GOMP_SPINCOUNT: '1000' };
  await execa(python, ['-m', 'lora_worker.toy', join(folder, 'base.safetensors'), '--size', 'test'], { env });
  await execa(python, ['-m', 'lora_worker.toy.pictures', join(folder, 'images')], { env });
  project.provide('inputs', folder);
  return async () => await rm(folder, { recursive: true, force: true });
}
