// What the disk says when the store cannot be written, in the user's words.

import { StageFailure } from '../events.ts';
import type { AbsolutePath } from '../graph/graph.ts';

/** Runs something that writes to the store, and turns a full or forbidden disk into a failure that says what to do. */
export async function withStoreFailures<Value>(store: AbsolutePath, write: () => Promise<Value>): Promise<Value> {
  try {
    return await write();
  } catch (error) {
    throw storeFailure(store, error) ?? error;
  }
}

/** The failure behind an error of the file system, or `undefined` when it is another kind of error. */
export function storeFailure(store: AbsolutePath, error: unknown): StageFailure | undefined {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new StageFailure({
        kind: 'out-of-space',
        message: `The disk is full: there is no room left in the store "${store}".`,
        hint: 'Free some space, or set LORAC_STORE to a folder on a bigger disk, and build again. What is finished is kept.',
      });
    case 'EROFS':
    case 'EACCES':
    case 'EPERM':
    case 'ENOENT':
    case 'ENOTDIR':
    case 'EEXIST':
      return new StageFailure({
        kind: 'store-not-writable',
        message: `The store "${store}" cannot be written (${code}).`,
        hint: 'Allow writing there, or set LORAC_STORE to a folder of yours.',
      });
    default:
      return undefined;
  }
}

/** Bytes in the store that are not what they were. They have been removed, so that the next build makes them anew. */
export function damagedStore(store: AbsolutePath, what: string): StageFailure {
  return new StageFailure({
    kind: 'store-damaged',
    message: `${what}: something in the store "${store}" had other bytes than when it was stored.`,
    hint: 'It has been removed. Build again: it is made anew. If this happens more than once, check the disk.',
  });
}
