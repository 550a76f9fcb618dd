// Where lorac keeps what it can make again and no project owns: the worker's environment, decompositions of files.

import { resolve } from 'node:path';
import envPaths from 'env-paths';
import { absolutePath } from '../graph/paths.ts';

/** The user's cache folder, or LORAC_CACHE. */
export function cacheFolder(env: NodeJS.ProcessEnv = process.env) {
  return absolutePath(resolve(env.LORAC_CACHE || envPaths('lorac', { suffix: '' }).cache));
}
