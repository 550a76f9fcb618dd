// Files that are either whole or not there. Written under another name, then renamed.

import { mkdir, open, rename, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { AbsolutePath } from '../graph/graph.ts';

let written = 0;

/** Writes a small file. With `durable`, it is on the disk, under its name, before this returns. */
export async function atomicWrite(
  path: AbsolutePath,
  content: string | Uint8Array,
  options: { readonly durable: boolean },
): Promise<void> {
  await makeFolder(dirname(path) as AbsolutePath);
  written += 1;
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}-${written}.tmp`) as AbsolutePath;
  try {
    const file = await open(temporary, 'w');
    try {
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

/** Makes a folder and those above it, where they are missing. */
export async function makeFolder(path: AbsolutePath): Promise<void> {
  await mkdir(path, { recursive: true });
}
