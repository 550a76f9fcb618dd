// What the examples are made from: toy checkpoints, pictures with captions and LoRAs, each drawn once.

import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { $ } from 'zx';
import { quietThreads, root, workerPython } from './python.ts';

/** The module of `lora_worker.toy` that makes it, the path it makes, and what else it is told. */
export interface Toy {
  readonly module: 'toy' | 'toy.pictures' | 'toy.lora';
  readonly path: string;
  readonly args?: readonly string[];
}

/** Makes those that are missing. `what` is what the user reads meanwhile. */
export async function makeToys(what: string, toys: readonly Toy[]): Promise<void> {
  const missing = toys.filter(({ path }) => !existsSync(path));
  if (missing.length === 0) return;
  const python = await workerPython();
  const env = { ...process.env, ...quietThreads, PYTHONPATH: `${root}/python` };
  process.stdout.write(`drawing the example: ${what} …\n`);
  for (const { module, path, args = [] } of missing) {
    // What bears its final name is whole.
    const partial = `${path}.partial`;
    await rm(partial, { recursive: true, force: true });
    await $({
      env,
      stdio: ['ignore', 'inherit', 'inherit'],
    })`${python} -m ${`lora_worker.${module}`} ${partial} ${args}`;
    await rename(partial, path);
  }
}
