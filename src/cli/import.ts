// lorac import: a program from the configuration of another trainer, from a file or from what is pasted.

import { existsSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { type Imported, importText } from '../foreign/import.ts';
import type { Surroundings } from '../foreign/recipe.ts';
import { compile } from '../parser/check.ts';
import { cleanLine } from '../parser/clean-text.ts';
import { findCountedImages, findImages } from '../runtime/dataset/find-images.ts';
import { count } from '../tui/units.ts';
import { UsageError } from './usage-error.ts';

export interface ImportCommand {
  readonly file: string | undefined;
  readonly output?: string;
  readonly overwrite?: boolean;
}

/** Far more than any configuration has. */
const LARGEST_BYTES = 4 * 1024 * 1024;

export async function importForeign({ file, output, overwrite }: ImportCommand): Promise<number> {
  if (output !== undefined && existsSync(output) && !overwrite) {
    throw new UsageError(`There is a file ${output} already.`, 'give another name, or --overwrite to replace it');
  }
  const text = file === undefined || file === '-' ? await readInput() : readForeign(file);
  const { program, draft } = await importHere(text, file === undefined || file === '-' ? '.' : dirname(file));
  if (output === undefined) process.stdout.write(program);
  else writeFileSync(output, program);
  const said = output ?? 'the program';
  for (const { name, reason } of draft.lost) process.stderr.write(`note: ${cleanLine(`${name}: ${reason}`)}\n`);
  if (draft.lost.length > 0)
    process.stderr.write(
      `${count(draft.lost.length, 'setting')} could not be carried over: see the end of ${said} for the reasons.\n`,
    );
  const wrong = compile({ path: said, text: program }, { params: new Map() }).diagnostics.filter(
    ({ severity }) => severity === 'error',
  );
  if (wrong.length > 0) process.stderr.write(`${said} needs a look before it can be built: ${wrong[0]?.message}\n`);
  if (output !== undefined) process.stderr.write(`wrote ${output} · next: lorac check ${output}\n`);
  return 0;
}

function readForeign(file: string): string {
  const stats = statSync(file, { throwIfNoEntry: false });
  if (stats === undefined) throw new UsageError(`There is no file ${file}.`);
  if (stats.isDirectory()) throw new UsageError(`${file} is a folder.`, 'name the file with the configuration in it');
  if (stats.size > LARGEST_BYTES)
    throw new UsageError(`${file} is too large for a configuration.`, 'is it the right file?');
  try {
    return decode(readFileSync(file), file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EACCES')
      throw new UsageError(`${file} cannot be read: permission denied.`);
    throw error;
  }
}

async function readInput(): Promise<string> {
  if (process.stdin.isTTY)
    process.stderr.write('Paste the command or the configuration, then press Enter and Ctrl-D:\n');
  const pieces: Buffer[] = [];
  let size = 0;
  for await (const piece of process.stdin) {
    pieces.push(piece as Buffer);
    size += (piece as Buffer).length;
    if (size > LARGEST_BYTES) throw new UsageError('This is too large for a configuration.', 'is it the right text?');
  }
  return decode(Buffer.concat(pieces), 'The input');
}

function decode(bytes: Buffer, what: string): string {
  // PowerShell writes UTF-16 when it redirects.
  const encoding = bytes[0] === 0xff && bytes[1] === 0xfe ? 'utf-16le' : 'utf-8';
  try {
    return new TextDecoder(encoding, { fatal: true }).decode(bytes);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    throw new UsageError(
      `${what} is not text: it has bytes that are not UTF-8.`,
      'give a command, or a TOML, JSON or YAML file',
    );
  }
}

type Style = 'flat' | 'kohya';

/** Counting takes a while, and the translation does not wait: so it is asked once what it wants counted, and once more. */
async function importHere(text: string, folder: string): Promise<Imported> {
  const wanted = new Map<string, { readonly path: string; readonly style: Style }>();
  const readText = textReader(folder);
  const keyOf = (path: string, style: Style) => `${style} ${path}`;
  const ask: Surroundings['countImages'] = (path, style) => {
    wanted.set(keyOf(path, style), { path, style });
    return undefined;
  };
  importText(text, { readText, countImages: ask });
  const counts = new Map<string, number | undefined>();
  for (const [key, { path, style }] of wanted) counts.set(key, await countVisits(path, style));
  const imported = importText(text, { readText, countImages: (path, style) => counts.get(keyOf(path, style)) });
  if ('problem' in imported) throw new UsageError(imported.problem, imported.hint);
  return imported;
}

/** Files that a configuration names, from its own folder or from here. */
function textReader(folder: string): Surroundings['readText'] {
  return (path) => {
    const places = [resolve(folder, path), resolve(path)];
    const file = places.find((one) => statSync(one, { throwIfNoEntry: false })?.isFile());
    return file === undefined ? undefined : readForeign(file);
  };
}

async function countVisits(path: string, style: Style): Promise<number | undefined> {
  const folder = resolve(path);
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return undefined;
  if (style === 'flat') return (await findImages([{ from: folder, pattern: '*' }])).images.length || undefined;
  const { repeats } = findCountedImages([{ from: folder, pattern: '.' }]);
  return [...(repeats?.values() ?? [])].reduce((sum, times) => sum + times, 0) || undefined;
}
