// Where imports are looked for: on the disk, from the folder of the file that has the import.

import { realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import type { ImportedFiles, Loaded } from '../parser/check.ts';
import type { SourceFile } from '../parser/source.ts';
import { readProgramText } from './program-file.ts';
import { UsageError } from './usage-error.ts';

/** A text that stands in the place of a file: what an editor has open and has not saved. */
export type Unsaved = (path: string) => SourceFile | undefined;

/** Each file is read once, and is one source from then on. */
export function filesOnDisk(unsaved: Unsaved = () => undefined): ImportedFiles {
  const known = new Map<string, SourceFile>();
  return {
    load(written, from) {
      const path = pathOf(written, from);
      try {
        const id = idOf(path);
        const source = known.get(id) ??
          unsaved(resolve(path)) ??
          unsaved(id) ?? { path, text: readProgramText(path, 'import') };
        known.set(id, source);
        return { status: 'found', id, source };
      } catch (error) {
        if (!(error instanceof UsageError)) throw error;
        return problemOf(error);
      }
    },
    identify: ({ path }) => idOf(path),
  };
}

/** As short as the importing file's own path, since messages show it. */
function pathOf(written: string, { path: importer }: SourceFile): string {
  if (/^~[/\\]/.test(written)) return join(homedir(), written.slice(2));
  return isAbsolute(written) ? written : join(dirname(importer), written);
}

/** Links followed, where there is something to follow. */
function idOf(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    // Reading it says better what is wrong.
    return resolve(path);
  }
}

function problemOf({ message, hint }: UsageError): Loaded {
  return { status: 'problem', message, hint: hint && `${hint[0]?.toUpperCase()}${hint.slice(1)}.` };
}
