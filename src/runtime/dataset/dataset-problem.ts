// What can be wrong with a file of a dataset.

import type { FileProblem } from '../events.ts';

/** By kind and in words. */
export interface DatasetProblem extends FileProblem {
  readonly code: 'no-images' | 'unreadable' | 'no-caption' | 'bad-caption' | 'no-mask' | 'bad-mask';
}

export const CHANGED = 'The file changed while it was being read.';

/** For what the file system says of a file that is there and cannot be read. Anything else is thrown on. */
export function unreadable(path: string, error: unknown): DatasetProblem {
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined || !['EACCES', 'EPERM', 'EIO', 'EISDIR', 'ENOENT', 'ELOOP'].includes(code)) throw error;
  return { code: 'unreadable', path, message: `The file cannot be read (${code}).` };
}
