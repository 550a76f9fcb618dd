// Puts a result where the user wants it, without ever losing a file of the user's.
//
//   nothing there                             place it
//   the same bytes there                      nothing to do
//   a file that lorac made                    replace it: its bytes are known, or lie in the store
//   a placed file that somebody changed       keep theirs beside it as "name.changed-1.safetensors", say so, place ours
//   any other file                            refuse, unless the program says `overwrite = true`
//
// The file appears whole, by rename, and nothing is written through a link that is there.

import { constants, existsSync } from 'node:fs';
import { copyFile, link, lstat, rename, rm } from 'node:fs/promises';
import { dirname, parse } from 'node:path';
import { StageFailure } from '../events.ts';
import type { AbsolutePath, Placement } from '../graph/graph.ts';
import { pathIn } from '../graph/paths.ts';
import type { Artifact } from '../stage.ts';
import { makeFolder, syncFile } from './atomic-write.ts';
import { type Digest, digestFile, digestOf, parseDigest } from './digest.ts';
import type { Store } from './store.ts';
import { damagedStore } from './store-failures.ts';

/** What is at the target now, seen from what should be there. */
export type TargetState = 'absent' | 'same' | 'ours' | 'changed' | 'foreign';

/** Looks at the target. Without an artifact (it is not computed yet) nothing is ever the `same`. */
export async function targetState(
  store: Store,
  target: AbsolutePath,
  artifact: Artifact | undefined,
): Promise<TargetState> {
  const there = await digestAt(store, target);
  if (there === undefined) return 'absent';
  if (there === 'folder') return 'foreign';
  if (there === artifact?.digest) return 'same';
  const placed = parseDigest(store.placed.get(store.nameOf(target)));
  if (there === placed || store.hasBlob(there)) return 'ours';
  return placed === undefined ? 'foreign' : 'changed';
}

/**
 * Places the artifact. Returns where a file that somebody had changed is kept now, if there was one.
 * Two builds never look and act at one place at the same time.
 */
export async function place(
  store: Store,
  artifact: Artifact,
  placement: Placement,
  options: { readonly signal?: AbortSignal } = {},
): Promise<{ readonly kept: AbsolutePath | undefined }> {
  const lock = await store.lock(digestOf(placement.target), options);
  try {
    return await placeAlone(store, artifact, placement);
  } finally {
    lock.release();
  }
}

async function placeAlone(
  store: Store,
  artifact: Artifact,
  { target, overwrite }: Placement,
): Promise<{ readonly kept: AbsolutePath | undefined }> {
  const state = await targetState(store, target, artifact);
  if (state === 'foreign' && !(overwrite && (await digestAt(store, target)) !== 'folder')) throw refusal(target);
  try {
    const kept = state === 'changed' && !overwrite ? await keepAside(target) : undefined;
    if (state !== 'same') await put(store, artifact, target);
    store.placed.set(store.nameOf(target), artifact.digest);
    if (state !== 'same') await store.files.rememberWritten(target, { digest: artifact.digest });
    return { kept };
  } catch (error) {
    throw placementFailure(target, error, artifact) ?? error;
  }
}

/** Why a file that lorac did not make is left alone. */
export function refusal(target: AbsolutePath): StageFailure {
  return new StageFailure({
    kind: 'target-exists',
    message: `"${target}" exists already, and lorac did not make it.`,
    hint: 'Save under another name, or replace it: `overwrite = true` in the save block, `--overwrite` on the command line.',
  });
}

async function digestAt(store: Store, target: AbsolutePath): Promise<Digest | 'folder' | undefined> {
  try {
    const seen = await lstat(target);
    if (seen.isDirectory()) return 'folder';
    return await store.files.digestOf(target);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    // A link that leads nowhere is ENOENT as well; renaming replaces it.
    if (code === 'ENOENT') return undefined;
    if (code === 'EISDIR') return 'folder';
    throw placementFailure(target, error) ?? error;
  }
}

async function put(store: Store, artifact: Artifact, target: AbsolutePath): Promise<void> {
  const folder = dirname(target) as AbsolutePath;
  await makeFolder(folder);
  // Always the same name, so that the next run takes away what a killed one left.
  const temporary = pathIn(folder, `.${parse(target).base}.lorac-tmp`);
  await rm(temporary, { force: true });
  try {
    // Shares the blocks where the file system can, and copies elsewhere.
    await copyFile(artifact.path, temporary, constants.COPYFILE_FICLONE);
    // The copy is what the user gets, and the last chance to notice that the store has lost something.
    if ((await digestFile(temporary)) !== artifact.digest) {
      await store.removeDamaged([artifact.digest]);
      throw damagedStore(store.folder, `"${target}" could not be saved`);
    }
    await syncFile(temporary);
    await rename(temporary, target);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

async function keepAside(target: AbsolutePath): Promise<AbsolutePath> {
  const { dir, name, ext } = parse(target);
  for (let number = 1; ; number += 1) {
    const kept = pathIn(dir as AbsolutePath, `${name}.changed-${number}${ext}`);
    try {
      // Both fail rather than replace what bears the name already.
      await link(target, kept).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'EEXIST') throw error;
        return copyFile(target, kept, constants.COPYFILE_EXCL | constants.COPYFILE_FICLONE);
      });
      return kept;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

function placementFailure(target: AbsolutePath, error: unknown, artifact?: Artifact): StageFailure | undefined {
  const { code } = error as NodeJS.ErrnoException;
  // A result that is there and finds no place: a folder that takes no such file. What copying names is the result.
  const isPlaceless = artifact !== undefined && existsSync(artifact.path);
  switch (code) {
    case 'ENOSPC':
    case 'EDQUOT':
      return new StageFailure({
        kind: 'out-of-space',
        message: `The disk is full: there is no room for "${target}".`,
        hint: 'Free some space there and build again: the result is in the store, so it is only copied.',
      });
    case 'EACCES':
    case 'EPERM':
    case 'EROFS':
    case 'ENOTDIR':
    case 'EEXIST':
      return notWritable(target, code);
    case 'ENOENT':
    case 'EINVAL':
    case 'ENAMETOOLONG':
      return isPlaceless ? notWritable(target, code) : undefined;
    default:
      return undefined;
  }
}

function notWritable(target: AbsolutePath, code: string): StageFailure {
  return new StageFailure({
    kind: 'target-not-writable',
    message: `"${target}" cannot be written (${code}).`,
    hint: 'Allow writing there, or save somewhere else.',
  });
}
