// Paths as users write them, made into paths that do not depend on the current folder.

import { isAbsolute, join, resolve } from 'node:path';
import type { AbsolutePath } from './graph.ts';

/** Where a program's relative paths start, and what `~` means. */
export interface Places {
  /** The folder of the `.lora` file. */
  readonly folder: AbsolutePath;
  readonly home: AbsolutePath;
}

/** The only maker of `AbsolutePath`. Hand it nothing that a user wrote: that is for `resolvePath`. */
export function absolutePath(path: string): AbsolutePath {
  if (!isAbsolute(path)) throw new Error(`Internal error: "${path}" is not an absolute path.`);
  return resolve(path) as AbsolutePath;
}

/** A path inside a folder that is absolute already. */
export function pathIn(folder: AbsolutePath, ...parts: readonly string[]): AbsolutePath {
  return join(folder, ...parts) as AbsolutePath;
}

/** What a path in a program means: `~` is home, and a relative path starts at the program's folder. */
export function resolvePath(written: string, places: Places): AbsolutePath {
  const { from, rest } = startOf(written, places);
  return resolve(from, rest) as AbsolutePath;
}

/**
 * A pattern of files, as the folder where it starts and the rest of it.
 * Apart, because the folder's own name may hold characters that mean something in a pattern.
 */
export function startOf(written: string, places: Places): { readonly from: AbsolutePath; readonly rest: string } {
  if (written === '~') return { from: places.home, rest: '' };
  if (/^~[/\\]/.test(written)) return { from: places.home, rest: written.slice(2) };
  return { from: places.folder, rest: written };
}
