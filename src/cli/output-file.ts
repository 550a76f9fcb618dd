// Where a command writes a file: a place that is free, or may be written over, and is none of the files that are read.

import { lstatSync, statSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { UsageError } from './usage-error.ts';

export interface WantedOutput {
  /** A file, or a folder that is there. */
  readonly path: string;
  /** What the file is called in a folder. */
  readonly name: string;
  readonly inputs: readonly string[];
  readonly overwrite: boolean;
}

/** Throws `UsageError`. */
export function outputFile({ path: wanted, name, inputs, overwrite }: WantedOutput): string {
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
