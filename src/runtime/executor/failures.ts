// What goes wrong in a stage, as a failure that a user can act on. What is left over is our own mistake.

import { storeFailure } from '../cache/store-failures.ts';
import { type Failure, StageFailure } from '../events.ts';
import type { AbsolutePath } from '../graph/graph.ts';

/** The failure of a node, or `undefined` when the error is no stage's failure and must be thrown on. */
export function failureOf(error: unknown, store: AbsolutePath): Failure | undefined {
  if (error instanceof StageFailure) return error.failure;
  if (isAbort(error)) return stopped;
  const { code, path } = error as NodeJS.ErrnoException;
  if (code === 'ENOSPC' || code === 'EDQUOT') return storeFailure(store, error)?.failure;
  const sentence = code === undefined ? undefined : sentences[code];
  if (sentence === undefined) return undefined;
  return new StageFailure({ kind: 'file', message: path === undefined ? sentence : `"${path}": ${sentence}` }).failure;
}

/** What the user hears of a node that was stopped on request. */
export const stopped: Failure = new StageFailure({
  kind: 'cancelled',
  message: 'Stopped. What it has done so far is kept, and the next build goes on from there.',
}).failure;

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}

/** What the file system says, for the errors that are the world's and not ours. */
const sentences: { readonly [code: string]: string | undefined } = {
  ENOENT: 'There is no such file.',
  ENOTDIR: 'There is no such file: a part of its path is not a folder.',
  EISDIR: 'This is a folder, and a file is needed.',
  EACCES: 'You are not allowed to read it.',
  EPERM: 'You are not allowed to read it.',
  EROFS: 'It lies on a disk that cannot be written.',
  EIO: 'The disk could not read it.',
  ELOOP: 'It is a link that leads in circles.',
  ENAMETOOLONG: 'Its name is too long.',
  ESTALE: 'The network drive it lies on has lost it.',
};
