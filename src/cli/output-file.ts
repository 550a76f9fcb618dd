// Where a command writes a file: a place that is free, or may be written over, and is none of the files that are read.

import { lstatSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { StageFailure } from '../runtime/events.ts';
import { UsageError } from './usage-error.ts';

export interface WantedOutput {
  /** A file, or a folder that is there. */
  readonly path: string;
  /** What the file is called in a folder. */
  readonly name: string;
  readonly inputs: readonly string[];
  readonly overwrite: boolean;
}

/** Throws `UsageError`, also for a place where no file can be. */
export function outputFile(wanted: WantedOutput): string {
  try {
    return placeFor(wanted);
  } catch (error) {
    const refusal = refusalOf(wanted.path, error);
    throw refusal === undefined ? error : new UsageError(refusal.message, refusal.hint);
  }
}

/** Runs what writes the file. That the disk is full, or may not be written, becomes a `StageFailure` that says so. */
export async function writingTo<Value>(path: string, write: () => Promise<Value>): Promise<Value> {
  try {
    return await write();
  } catch (error) {
    const refusal = refusalOf(path, error);
    throw refusal === undefined ? error : new StageFailure({ kind: 'target-not-writable', ...refusal });
  }
}

function refusalOf(path: string, error: unknown): { readonly message: string; readonly hint: string } | undefined {
  const { code = '' } = error as NodeJS.ErrnoException;
  const [reason, hint] = REASONS[code] ?? [];
  if (reason === undefined || hint === undefined) return undefined;
  return { message: `"${path}" cannot be written: ${reason}.`, hint };
}

const REASONS: { readonly [code: string]: readonly [reason: string, hint: string] | undefined } = {
  ENOSPC: ['the disk is full', 'free some space there, or name a place on another disk with -o'],
  EDQUOT: ['your share of the disk is used up', 'free some space there, or name a place on another disk with -o'],
  EFBIG: ['its disk takes no files of that size', 'name a place on another disk with -o'],
  EACCES: ['you may not write there', 'name another place with -o'],
  EPERM: ['you may not write there', 'name another place with -o'],
  EROFS: ['that disk can only be read', 'name another place with -o'],
  ENOENT: ['its folder takes no files', 'name another place with -o'],
  ENOTDIR: ['a part of its path is a file and no folder', 'name another place with -o'],
  EISDIR: ['it is a folder', 'name a file with -o'],
  ENAMETOOLONG: ['its name is too long', 'name a shorter one with -o'],
  EINVAL: ['its disk takes no such name', 'name another with -o'],
};

function placeFor({ path: wanted, name, inputs, overwrite }: WantedOutput): string {
  const isFolder = statSync(wanted, { throwIfNoEntry: false })?.isDirectory() === true;
  const path = isFolder ? join(wanted, name) : wanted;
  if (inputs.some((input) => isSame(path, input))) {
    const which = inputs.length === 1 ? 'the file that is read' : 'one of the files that are read';
    throw new UsageError(`"${path}" is ${which}.`, 'name another with -o');
  }
  if (!overwrite && lstatSync(path, { throwIfNoEntry: false }) !== undefined) {
    throw new UsageError(`"${path}" exists already.`, 'name another with -o, or replace it with --overwrite');
  }
  if (statSync(dirname(path), { throwIfNoEntry: false }) === undefined) {
    throw new UsageError(`There is no folder "${dirname(path)}".`);
  }
  return path;
}

function isSame(path: string, other: string): boolean {
  const [one, two] = [path, other].map((each) => statSync(each, { throwIfNoEntry: false, bigint: true }));
  return one !== undefined && two !== undefined && one.ino === two.ino && one.dev === two.dev;
}
