// npm run quickstart: draws the example's pictures if they are missing, then builds it as a user would.

import { join } from 'node:path';
import { runInPlace } from '../bin/current-node.mjs';
import { lorac, root } from './python.ts';
import { main } from './steps.ts';
import { makeToys } from './toy.ts';

await main(async () => {
  const example = join(root, 'examples', 'quickstart');
  await makeToys('pictures with captions', [{ module: 'toy.pictures', path: join(example, 'images') }]);
  // As one would type it in the clone, so that messages name the file in that way.
  runInPlace(process.execPath, [lorac, 'build', 'examples/quickstart/quickstart.lora', ...process.argv.slice(3)]);
});
