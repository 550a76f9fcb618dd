// npm run bench:train — what training costs here: lora_worker.bench in the worker's own Python, with the same arguments.
//
//   npm run bench:train -- --json numbers.json

import { delimiter, join } from 'node:path';
import { runInPlace } from '../bin/current-node.mjs';
import { root, workerPython } from '../scripts/python.ts';
import { main } from '../scripts/steps.ts';

await main(async () => {
  const paths = [join(root, 'python'), process.env.PYTHONPATH].filter((path) => path !== undefined && path !== '');
  process.env.PYTHONPATH = paths.join(delimiter);
  runInPlace(await workerPython(), ['-m', 'lora_worker.bench', ...process.argv.slice(3)]);
});
