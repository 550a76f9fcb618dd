// Paths as users write them, made into paths that do not depend on the current folder.

import { dirname, isAbsolute, join, resolve } from 'node:path';
import type { ProgramPath } from '../../parser/model.ts';
import type { SourceFile } from '../../parser/source.ts';
import type { AbsolutePath } from './graph.ts';

/** What a program does not say of its paths. */
export interface Places {
  /** What `~` means. */
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

/** Where the relative paths of a `.lora` file start: its own folder. */
export function folderOf({ path }: SourceFile): AbsolutePath {
  return dirname(resolve(path)) as AbsolutePath;
}

/** What a path in a program means: `~` is home, and a relative path starts at the folder of the file that wrote it. */
export function resolvePath(written: ProgramPath, places: Places): AbsolutePath {
  const { from, rest } = startOf(written, places);
  return resolve(from, rest) as AbsolutePath;
}

/**
 * A pattern of files, as the folder where it starts and the rest of it.
 * Apart, because the folder's own name may hold characters that mean something in a pattern.
 */
export function startOf(
  { text, writtenIn }: ProgramPath,
  places: Places,
): { readonly from: AbsolutePath; readonly rest: string } {
  if (text === '~') return { from: places.home, rest: '' };
  if (/^~[/\\]/.test(text)) return { from: places.home, rest: text.slice(2) };
  return { from: folderOf(writtenIn), rest: text };
}
