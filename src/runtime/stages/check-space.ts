// Compares what a stage is going to write with what the disk can take, before hours are spent.

import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { StageFailure } from '../events.ts';
import type { StageContext } from '../stage.ts';

export interface SpaceNeeded {
  /** The beginning of the sentence: 'Training "raw"'. */
  readonly doing: string;
  readonly parts: readonly { readonly what: string; readonly bytes: number }[];
}

/** Throws a `StageFailure` of kind `out-of-space` with both numbers. What the work folder has already counts as written. */
export async function checkSpace(context: StageContext, { doing, parts }: SpaceNeeded): Promise<void> {
  const total = parts.reduce((sum, { bytes }) => sum + bytes, 0);
  const needed = Math.max(0, total - (await folderBytes(context.work)));
  const free = await context.store.freeBytes();
  if (free >= needed) return;
  const list = parts.map(({ what, bytes }) => `${what}: ${formatBytes(bytes)}`).join(', ');
  throw new StageFailure({
    kind: 'out-of-space',
    message: `${doing} needs ${formatBytes(needed)} in "${context.store.folder}" (${list}), and ${formatBytes(free)} are free.`,
    hint: 'Free some space, save fewer steps with a higher save_every, or set LORAC_STORE to a folder on another disk.',
  });
}

async function folderBytes(folder: string): Promise<number> {
  const files = await readdir(folder, { recursive: true, withFileTypes: true });
  const sizes = files
    .filter((file) => file.isFile())
    .map(async (file) => (await stat(join(file.parentPath, file.name))).size);
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** "4.2 GB", in powers of ten as disks are sold and shown. */
export function formatBytes(bytes: number): string {
  const units = ['bytes', 'kB', 'MB', 'GB', 'TB'];
  const power = bytes < 1000 ? 0 : Math.min(units.length - 1, Math.floor(Math.log10(bytes) / 3));
  const value = bytes / 1000 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
