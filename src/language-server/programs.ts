// The programs that lie beside a file: those of its folder that nobody has open.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { OpenFile } from './open-file.ts';

/** More than anyone has in one folder. */
const MOST = 200;
const LARGEST_CHARACTERS = 1_000_000;

export interface ClosedFile {
  readonly uri: string;
  readonly version: number;
  getText(): string;
}

export function programsBeside({ folder }: OpenFile): readonly ClosedFile[] {
  if (folder === undefined) return [];
  return namesIn(folder).flatMap((name) => {
    const path = join(folder, name);
    const text = textOf(path);
    return text === undefined ? [] : [{ uri: pathToFileURL(path).href, version: 0, getText: () => text }];
  });
}

function namesIn(folder: string): readonly string[] {
  try {
    const entries = readdirSync(folder, { withFileTypes: true });
    return entries
      .filter((entry) => entry.isFile() && entry.name.endsWith('.lora'))
      .map(({ name }) => name)
      .slice(0, MOST);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    // A text that is to be saved in a folder that is not there yet.
    return [];
  }
}

function textOf(path: string): string | undefined {
  try {
    const text = readFileSync(path, 'utf8');
    return text.length > LARGEST_CHARACTERS ? undefined : text;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    return undefined;
  }
}
