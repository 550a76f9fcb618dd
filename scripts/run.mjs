// What `npm run quickstart`, `npm test` and `npm run check` start with: `node scripts/run.mjs NAME [ARG …]`.
// On a fresh clone it installs the packages first; then it runs scripts/NAME.ts with a Node that is new enough.

import { delimiter, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findNode, isCurrent, runInPlace, sayNodeIsMissing } from '../bin/current-node.mjs';
import { root, setUp } from './set-up.mjs';

const [name, ...args] = process.argv.slice(2);

if (!(await setUp())) process.exit(1);
const node = findNode(join(root, 'package.json'));
if (node === undefined) {
  sayNodeIsMissing();
  process.exitCode = 1;
} else if (isCurrent()) {
  // Tools that the scripts start say `#!/usr/bin/env node`; they get this Node too.
  process.env.PATH = dirname(process.execPath) + delimiter + process.env.PATH;
  process.chdir(root);
  await import(`./${name}.ts`);
} else {
  runInPlace(node, [fileURLToPath(import.meta.url), name, ...args]);
}
