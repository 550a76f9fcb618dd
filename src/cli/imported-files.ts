// Where imports are looked for: on the disk, from the folder of the file that has the import, and among the presets that
// come with lorac. `lorac:` is never the beginning of a path: a file of such a name is written "./lorac:name".

import { realpathSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, isAbsolute, join, resolve } from 'node:path';
import type { ImportedFiles, Loaded } from '../parser/check.ts';
import { nearest } from '../parser/diagnostics/suggest.ts';
import type { SourceFile } from '../parser/source.ts';
import { presetPath, presets } from './preset-files.ts';
import { readProgramText } from './program-file.ts';
import { UsageError } from './usage-error.ts';

/** A text that stands in the place of a file: what an editor has open and has not saved. */
export type Unsaved = (path: string) => SourceFile | undefined;

/** Each file is read once, and is one source from then on. */
export function filesOnDisk(unsaved: Unsaved = () => undefined): ImportedFiles {
  const known = new Map<string, SourceFile>();
  return {
    load(written, from) {
      const preset = presetName(written);
      if (preset !== undefined && !presets().some(({ name }) => name === preset)) return noPreset(preset);
      const path = preset === undefined ? pathOf(written, from) : presetPath(preset);
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

function presetName(written: string): string | undefined {
  return /^lorac:(.*)$/.exec(written)?.[1];
}

function noPreset(name: string): Loaded {
  const names = presets().map((preset) => preset.name);
  const meant = nearest(name, names);
  return {
    status: 'problem',
    message: `lorac has no preset "${name}".`,
    hint: meant === undefined ? `It has ${names.join(', ')}.` : `There is one with a similar name: lorac:${meant}`,
  };
}

function problemOf({ message, hint }: UsageError): Loaded {
  return { status: 'problem', message, hint: hint && `${hint[0]?.toUpperCase()}${hint.slice(1)}.` };
}
