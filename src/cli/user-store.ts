// Where commands on files keep what they computed: a folder of the user's and not of a project, so that the same LoRA
// is known from wherever one happens to be.

import { resolve } from 'node:path';
import { absolutePath, pathIn } from '../runtime/graph/paths.ts';
import { cacheFolder } from '../runtime/worker/cache-folder.ts';

/** `store` in the user's cache folder, or LORAC_STORE. */
export function userStoreFolder() {
  const named = process.env.LORAC_STORE;
  return named === undefined || named === '' ? pathIn(cacheFolder(), 'store') : absolutePath(resolve(named));
}
