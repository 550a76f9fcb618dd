// npm run surgery: makes the LoRAs of the example if they are missing, then builds it as a user would.

import { join } from 'node:path';
import { runInPlace } from '../bin/current-node.mjs';
import { lorac, root } from './python.ts';
import { main } from './steps.ts';
import { makeToys } from './toy.ts';

await main(async () => {
  const example = join(root, 'examples', 'surgery');
  const size = ['--size', 'test'];
  await makeToys('a toy checkpoint and two LoRAs', [
    { module: 'toy', path: join(example, 'toy-sdxl.safetensors'), args: size },
    {
      module: 'toy.lora',
      path: join(example, 'character.safetensors'),
      args: [...size, '--strong', 'output_blocks.1'],
    },
    {
      module: 'toy.lora',
      path: join(example, 'style.safetensors'),
      args: [...size, '--names', 'peft', '--rank', '4', '--seed', '2', '--strong', 'input_blocks.7'],
    },
  ]);
  runInPlace(process.execPath, [lorac, 'build', 'examples/surgery/surgery.lora', ...process.argv.slice(3)]);
});
