// Which .lora file is meant, and its text.

import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join, resolve } from 'node:path';
import type { SourceFile } from '../parser/source.ts';
import { UsageError } from './usage-error.ts';

/** What stands before the options: a file, then targets. With one .lora file in the folder, all of them are targets. */
export function splitArguments(
  file: string | undefined,
  targets: readonly string[],
): { readonly file: string | undefined; readonly targets: readonly string[] } {
  if (file === undefined || isProgram(file)) return { file, targets };
  return { file: undefined, targets: [file, ...targets] };
}

/** A bare word is a target even where a folder bears the same name: datasets and blocks often do. */
function isProgram(argument: string): boolean {
  return /\.lora$/i.test(argument) || (/[/\\]|^\.\.?$/.test(argument) && isFolder(argument));
}

/** More than anyone writes. A checkpoint that is named by mistake is not even read. */
const LARGEST_BYTES = 4 * 1024 * 1024;

/** The programs that are meant: of a folder all, and of nothing those of this folder. Throws `UsageError`. */
export function readPrograms(files: readonly string[]): SourceFile[] {
  const paths = (files.length === 0 ? ['.'] : files).flatMap((file) => {
    if (!isFolder(file)) return [file];
    const programs = programsIn(file);
    if (programs.length === 0) throw new UsageError(`There is no .lora file in ${resolve(file)}.`);
    return programs.map((name) => (file === '.' ? name : join(file, name)));
  });
  return [...new Set(paths)].map((path) => readProgram(path));
}

/** The text without its byte order mark, if it has one. Throws `UsageError`. */
export function readProgram(file: string | undefined): SourceFile {
  const path = file === undefined ? onlyProgramIn('.') : isFolder(file) ? onlyProgramIn(file) : file;
  return { path, text: readProgramText(path, 'program') };
}

/**
 * Throws a `UsageError` for all that can be wrong with a path or with what lies there. A program that the user names may
 * be a pipe; one that a program names may not, since it can be a device that never ends.
 */
export function readProgramText(path: string, what: 'program' | 'import'): string {
  try {
    const stat = statSync(path);
    if (what === 'import' && !stat.isFile())
      throw new UsageError(`${path} is ${stat.isDirectory() ? 'a folder' : 'no file'}.`);
    if (stat.size > LARGEST_BYTES) {
      throw new UsageError(
        `${path} is too large for a program.`,
        'programs are texts of a few lines that end in .lora',
      );
    }
    return new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path));
  } catch (error) {
    if (error instanceof UsageError) throw error;
    if (error instanceof TypeError) {
      throw new UsageError(
        `${path} is not text: it has bytes that are not UTF-8.`,
        'if it is a program, save it once more with the encoding UTF-8',
      );
    }
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT' || code === 'ENOTDIR') throw new UsageError(`There is no file ${path}.`, programsNear(path));
    if (code === 'EACCES' || code === 'EPERM') throw new UsageError(`${path} cannot be read: permission denied.`);
    if (code === 'ENAMETOOLONG') throw new UsageError('This path is longer than any that a file can have.');
    if (code === 'ELOOP') throw new UsageError(`${path} leads through links that lead to each other.`);
    throw error;
  }
}

function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

function onlyProgramIn(folder: string): string {
  const programs = programsIn(folder);
  const [only] = programs;
  if (only === undefined) {
    throw new UsageError(`There is no .lora file in ${resolve(folder)}.`, 'name one: lorac build path/to/hero.lora');
  }
  if (programs.length > 1) {
    throw new UsageError(
      `There are ${programs.length} .lora files in ${resolve(folder)}.`,
      `name one of ${programs.join(', ')}`,
    );
  }
  return folder === '.' ? only : join(folder, only);
}

function programsIn(folder: string): string[] {
  return readdirSync(folder, { withFileTypes: true })
    .filter((entry) => !entry.isDirectory() && entry.name.endsWith('.lora'))
    .map((entry) => entry.name)
    .sort();
}

function programsNear(path: string): string | undefined {
  const folder = resolve(path, '..');
  if (!isFolder(folder)) return undefined;
  const programs = programsIn(folder).slice(0, 8);
  return programs.length === 0 ? undefined : `in that folder there is ${programs.join(', ')}`;
}
