#!/usr/bin/env node
// What `lorac` on the PATH runs. It brings a clone up to date if need be, finds a Node that is new enough
// and hands over to the bundle: in this process where that is possible, since a second Node costs 40 ms.

import { existsSync } from 'node:fs';
import module from 'node:module';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { findNode, isCurrent, runInPlace, sayNodeIsMissing } from './current-node.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const bundle = join(root, 'dist', 'cli.js');

if (existsSync(join(root, 'src', 'cli.ts'))) {
  const { setUp } = await import('../scripts/set-up.mjs');
  if (!(await setUp())) process.exit(1);
}

const node = findNode(import.meta.url);
if (!existsSync(bundle)) {
  process.stderr.write(`lorac is not complete: ${bundle} is missing.\nhint: install it again.\n`);
  process.exitCode = 1;
} else if (node === undefined) {
  sayNodeIsMissing();
  process.exitCode = 1;
} else if (isCurrent()) {
  module.enableCompileCache?.();
  await import(pathToFileURL(bundle).href);
} else {
  runInPlace(node, [fileURLToPath(import.meta.url), ...process.argv.slice(2)]);
}
