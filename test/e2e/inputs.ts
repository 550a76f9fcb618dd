// Made once per suite, in one process: the smallest base checkpoint, two LoRAs for it and a few real image files.

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

/** The second LoRA is as another trainer writes it. */
const script = `
import sys
from pathlib import Path
from lora_worker.toy.checkpoint import write_toy_checkpoint
from lora_worker.toy.lora import ToyLora, write_toy_lora
from lora_worker.toy.pictures import write_pictures

folder = Path(sys.argv[1])
write_toy_checkpoint(folder / "base.safetensors", "test")
write_toy_lora(folder / "character.safetensors", ToyLora("test"))
style = ToyLora("test", names="peft", rank=4, seed=2, strong="input_blocks.7")
write_toy_lora(folder / "style.safetensors", style)
write_pictures(folder / "images")
`;

export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const folder = await mkdtemp(join(tmpdir(), 'lorac-inputs-'));
  const { stdout: python } = await execa(process.execPath, [join(root, 'dist', 'cli.js'), 'env', '--python']);
  const env = { PYTHONPATH: join(root, 'python'), OMP_WAIT_POLICY: 'passive', GOMP_SPINCOUNT: '1000' };
  await execa(python, ['-c', script, folder], { env });
  project.provide('inputs', folder);
  return async () => await rm(folder, { recursive: true, force: true });
}
