// A program with another text: whole or not at all, where it was, with the rights that it had.

import { readFileSync, realpathSync, statSync } from 'node:fs';
import { atomicWrite } from '../runtime/cache/atomic-write.ts';
import { StageFailure } from '../runtime/events.ts';
import { absolutePath } from '../runtime/graph/paths.ts';
import { writingTo } from './output-file.ts';
import { UsageError } from './usage-error.ts';

const byteOrderMark = '\ufeff';

/**
 * Writes a file that is there anew. A link still points where it did, and a byte order mark stays.
 * Throws `UsageError` where nobody may write.
 */
export async function rewriteFile(path: string, text: string): Promise<void> {
  const target = absolutePath(realpathSync(path));
  const { mode } = statSync(target);
  const mark = readFileSync(target).subarray(0, 3).toString('utf8') === byteOrderMark ? byteOrderMark : '';
  try {
    await writingTo(path, () => atomicWrite(target, mark + text, { durable: true, mode: mode & 0o777 }));
  } catch (error) {
    if (error instanceof StageFailure) throw new UsageError(error.failure.message);
    throw error;
  }
}
