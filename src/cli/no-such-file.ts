// A file that the command line names and that is not there: what is there that may have been meant.

import { readdirSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { nearest } from '../parser/diagnostics/suggest.ts';
import { UsageError } from './usage-error.ts';

export function noSuchFile(path: string, what: 'file' | 'file or folder' = 'file'): UsageError {
  const message = `There is no ${what} "${path}".`;
  if (/^[+-]?(?:\d+\.?\d*|\.\d+)$/.test(path)) {
    return new UsageError(message, 'a weight follows its file after a colon: hero.safetensors:0.5');
  }
  if (path.includes(',') && path.split(',').every(isFile)) {
    return new UsageError(message, `there are the files ${path.split(',').join(' and ')}: name them one by one`);
  }
  const near = namesNear(path);
  return new UsageError(message, near === undefined ? undefined : `there is "${near}"`);
}

/** The file whose name has its suffix left out, or a slip of the finger in it. */
function namesNear(path: string): string | undefined {
  const folder = dirname(path);
  const files = namesIn(folder).filter((name) => name.endsWith('.safetensors'));
  const wanted = basename(path);
  const whole = `${wanted}.safetensors`;
  const found = files.includes(whole) ? whole : (nearest(wanted, files) ?? nearest(whole, files));
  return found === undefined ? undefined : join(folder, found);
}

function namesIn(folder: string): readonly string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}

function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() === true;
}
