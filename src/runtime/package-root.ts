// Where lorac itself lies: the folder with its package.json, `python/` and `dist/`.
// The same in a clone (this file in `src/runtime`) and in the bundle (a chunk in `dist`).

import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The nearest folder above this module that has a `package.json` and the worker beside it. */
export function packageRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) || !existsSync(join(folder, 'python', 'lora_worker'))) {
    const above = dirname(folder);
    if (above === folder) throw new Error(`Internal error: no package.json above ${fileURLToPath(import.meta.url)}`);
    folder = above;
  }
  return folder;
}
