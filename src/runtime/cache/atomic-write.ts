// Files that are either whole or not there. Written under another name, then renamed.

import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { AbsolutePath } from '../graph/graph.ts';

let written = 0;

/**
 * Writes a small file. With `durable`, it is on the disk, under its name, before this returns. `mode` says who may do
 * what with it, where it takes the place of another.
 */
export async function atomicWrite(
  path: AbsolutePath,
  content: string | Uint8Array,
  options: { readonly durable: boolean; readonly mode?: number },
): Promise<void> {
  await makeFolder(dirname(path) as AbsolutePath);
  written += 1;
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}-${written}.tmp`) as AbsolutePath;
  try {
    const file = await open(temporary, 'w');
    try {
      if (options.mode !== undefined) await file.chmod(options.mode);
      await file.writeFile(content);
      if (options.durable) await file.sync();
    } finally {
      await file.close();
    }
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
  if (options.durable) await syncFolder(dirname(path) as AbsolutePath);
}

/** Makes the content of a file survive a power cut. */
export async function syncFile(path: AbsolutePath): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}

/** Makes the names in a folder survive a power cut. Windows has no such thing and needs none. */
export async function syncFolder(path: AbsolutePath): Promise<void> {
  if (process.platform === 'win32') return;
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

/**
 * Makes a folder and those above it, where they are missing. Not by `mkdir`'s own `recursive`, which takes a disk that
 * cannot be written for a missing folder, and never ends where a folder takes no folders at all (/proc).
 */
export async function makeFolder(path: AbsolutePath): Promise<void> {
  const missing = await makeOne(path);
  if (missing === undefined) return;
  const parent = dirname(path) as AbsolutePath;
  if (parent === path) throw missing;
  await makeFolder(parent);
  const refused = await makeOne(path);
  if (refused !== undefined) throw refused;
}

/** Nothing when the folder is there now, and the system's error when there is nothing that it could be made in. */
async function makeOne(path: AbsolutePath): Promise<Error | undefined> {
  try {
    await mkdir(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return error as Error;
    // A folder that is there may be told as EEXIST, EROFS, EISDIR (macOS, of a disk's root) or EPERM (Windows, of C:\\).
    if ((await stat(path).catch(() => undefined))?.isDirectory() !== true) throw error;
  }
  return undefined;
}
