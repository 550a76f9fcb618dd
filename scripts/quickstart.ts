// npm run quickstart: makes the example's inputs if they are missing, then builds it as a user would.

import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { $ } from 'zx';
import { runInPlace } from '../bin/current-node.mjs';
import { lorac, quietThreads, root, workerPython } from './python.ts';
import { main } from './steps.ts';

await main(async () => {
  const example = join(root, 'examples', 'quickstart');
  const base = join(example, 'toy-sdxl.safetensors');
  const images = join(example, 'images');
  if (!existsSync(base) || !existsSync(images)) {
    const python = await workerPython();
    const env = { ...process.env, ...quietThreads, PYTHONPATH: join(root, 'python') };
    const make = $({ env, stdio: ['ignore', 'inherit', 'inherit'] });
    process.stdout.write('drawing the example: a toy checkpoint and pictures with captions …\n');
    if (!existsSync(base)) await make`${python} -m lora_worker.toy ${base}`;
    if (!existsSync(images)) {
      // A folder that bears its final name is whole.
      await rm(`${images}.partial`, { recursive: true, force: true });
      await make`${python} -m lora_worker.toy.pictures ${`${images}.partial`}`;
      await rename(`${images}.partial`, images);
    }
  }
  // As one would type it in the clone, so that messages name the file in that way.
  runInPlace(process.execPath, [lorac, 'build', 'examples/quickstart/quickstart.lora', ...process.argv.slice(3)]);
});
