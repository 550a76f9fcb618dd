// Where results are kept: in the folder that LORAC_STORE names, else beside the program, and for commands on files in a
// folder of the user's, so that the same LoRA is known from wherever one happens to be.

import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { AbsolutePath } from '../runtime/graph/graph.ts';
import { absolutePath, pathIn } from '../runtime/graph/paths.ts';
import { cacheFolder } from '../runtime/worker/cache-folder.ts';
import { UsageError } from './usage-error.ts';

/** `store` in the user's cache folder, or LORAC_STORE. */
export function userStoreFolder(): AbsolutePath {
  return namedStoreFolder() ?? pathIn(cacheFolder(), 'store');
}

/** The folder of LORAC_STORE, where it names one. Throws `UsageError` where a file lies in its place. */
export function namedStoreFolder(): AbsolutePath | undefined {
  const named = process.env.LORAC_STORE;
  if (named === undefined || named === '') return undefined;
  if (statSync(named, { throwIfNoEntry: false })?.isFile()) {
    throw new UsageError(
      `LORAC_STORE is "${named}", which is a file.`,
      'let it name the folder that results are kept in',
    );
  }
  return absolutePath(resolve(named));
}
