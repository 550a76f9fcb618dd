// The images that a dataset names: folders, single files and patterns.
//
// - A folder means every image below it. Hidden files and folders are left out, links are followed.
// - Suffixes count in upper and lower case. What matches a pattern without being an image is passed over.
// - Git has no say in what an input is.

import { type Dirent, readdirSync, realpathSync, type Stats, statSync } from 'node:fs';
import { dirname, extname, relative, resolve, sep } from 'node:path';
import type { FileProblem } from '../events.ts';
import type { AbsolutePath } from '../graph/graph.ts';

/** A pattern as the program has it, and the folder where it starts. */
export type ImagePattern = { readonly from: string; readonly pattern: string };

export interface FoundImages {
  /** Each once, sorted. */
  readonly images: readonly AbsolutePath[];
  readonly problems: readonly FileProblem[];
  /** What each image is called below the folder of its pattern, without its suffix: "day/one". */
  readonly names: ReadonlyMap<AbsolutePath, string>;
  /** How often each image is used per epoch, where its folder says so. */
  readonly repeats?: ReadonlyMap<AbsolutePath, number>;
  /** What lies there and is passed over, though somebody may have meant it. */
  readonly left?: readonly AbsolutePath[];
}

const IMAGE = /\.(png|jpe?g|webp)$/i;

/** Finds all images of all patterns. A pattern that gives none is a problem of its own. */
export async function findImages(patterns: readonly ImagePattern[]): Promise<FoundImages> {
  const names = new Map<AbsolutePath, string>();
  const problems: FileProblem[] = [];
  for (const { from, pattern } of patterns) {
    const path = resolve(from, pattern) as AbsolutePath;
    const found = await matches(from as AbsolutePath, pattern, path);
    const usable = typeof found === 'string' ? [] : found.filter((file) => IMAGE.test(file));
    const folder = folderOf(from as AbsolutePath, pattern);
    for (const image of usable) if (!names.has(image)) names.set(image, nameBelow(folder, image));
    if (usable.length > 0) continue;
    const message = typeof found === 'string' ? found : 'There is no PNG, JPEG or WebP image here.';
    problems.push({ path, message });
  }
  return { images: [...names.keys()].sort(), problems, names };
}

/** As many as the `repeats` of a dataset can be. A folder that is named after a date is no such number. */
const MOST_REPEATS = 100_000;

/**
 * The images of folders as sd-scripts has them: those that lie in a folder right below, whose name begins with how
 * often they are used, such as "5_fox". Nothing else there counts, and nothing deeper.
 */
export function findCountedImages(patterns: readonly ImagePattern[]): FoundImages {
  const repeats = new Map<AbsolutePath, number>();
  const names = new Map<AbsolutePath, string>();
  const problems: FileProblem[] = [];
  const left: AbsolutePath[] = [];
  for (const { from, pattern } of patterns) {
    const path = resolve(from, pattern) as AbsolutePath;
    if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
      problems.push({ path, message: 'There is no such folder, and with folders = kohya one is needed.' });
      continue;
    }
    const before = problems.length + repeats.size;
    for (const entry of readdirSync(path, { withFileTypes: true })) {
      if (entry.name.startsWith('.')) continue;
      const folder = `${path}${sep}${entry.name}` as AbsolutePath;
      const isFolder = kindOf(entry, folder) === 'folder';
      const times = isFolder ? Number(/^(\d+)(?:_|$)/.exec(entry.name)?.[1] ?? 0) : 0;
      if (times > MOST_REPEATS) {
        problems.push({
          path: folder,
          message: `Its name asks for ${times} repeats, and ${MOST_REPEATS} are the most.`,
        });
      } else if (times > 0) {
        const images = walk(folder, { deep: false }).filter((file) => IMAGE.test(file));
        for (const image of images) {
          repeats.set(image, times);
          names.set(image, nameBelow(path, image));
        }
      } else if (isFolder || IMAGE.test(entry.name)) left.push(folder);
    }
    if (problems.length + repeats.size > before) continue;
    problems.push({ path, message: 'There is no folder such as "5_fox" here with a PNG, JPEG or WebP image in it.' });
  }
  return { images: [...repeats.keys()].sort(), problems, names, repeats, left: left.sort() };
}

/** Every image below a folder, sorted. */
export function imagesBelow(folder: AbsolutePath): readonly AbsolutePath[] {
  return walk(folder, { deep: true })
    .filter((file) => IMAGE.test(file))
    .sort();
}

/** Where the images of a pattern start: the folder that it names, or the last one before its first special character. */
function folderOf(from: AbsolutePath, pattern: string): AbsolutePath {
  const path = resolve(from, pattern) as AbsolutePath;
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat !== undefined) return stat.isDirectory() ? path : (dirname(path) as AbsolutePath);
  const special = pattern.search(/[*?[\]{}()!+@]/);
  return resolve(from, dirname(`${pattern.slice(0, Math.max(special, 0))}x`)) as AbsolutePath;
}

/** What an image is called below a folder, without its suffix. */
export function nameBelow(folder: AbsolutePath, path: AbsolutePath): string {
  return relative(folder, withoutSuffix(path)).replaceAll(sep, '/');
}

export function withoutSuffix(path: AbsolutePath): string {
  return path.slice(0, path.length - extname(path).length);
}

async function matches(
  from: AbsolutePath,
  pattern: string,
  path: AbsolutePath,
): Promise<readonly AbsolutePath[] | string> {
  // What is there under that very name is meant, even if its name looks like a pattern.
  const stat = statSync(path, { throwIfNoEntry: false });
  if (stat?.isDirectory()) return walk(path, { deep: true });
  if (stat) return [path];
  const simple = simplePattern(pattern);
  if (simple === undefined) return isPattern(pattern) ? glob(from, pattern) : 'There is no such file or folder.';
  const folder = resolve(from, simple.folder) as AbsolutePath;
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return `There is no folder "${folder}".`;
  return walk(folder, simple).filter((file) => simple.suffix.test(file));
}

/**
 * The patterns that most programs have, a folder and `*` or `**` and suffixes, are walked right here:
 * loading a library for them would cost more than all the rest of a build that has nothing to do.
 */
export function simplePattern(
  pattern: string,
): { readonly folder: string; readonly deep: boolean; readonly suffix: RegExp } | undefined {
  const parts = /^((?:[^*?[\]{}()!+@\\]*\/)?)(\*\*\/)?\*(?:\.(\w+)|\.\{(\w+(?:,\w+)*)\})?$/.exec(pattern);
  if (parts === null) return undefined;
  const [, folder, deep, one, several] = parts;
  const suffixes = one ?? several?.replaceAll(',', '|');
  return {
    folder: folder as string,
    deep: deep !== undefined,
    suffix: suffixes === undefined ? /(?:)/ : new RegExp(`\\.(?:${suffixes})$`, 'i'),
  };
}

function isPattern(pattern: string): boolean {
  return /[*?[\]{}()!]/.test(pattern);
}

async function glob(from: AbsolutePath, pattern: string): Promise<readonly AbsolutePath[]> {
  const { globby } = await import('globby');
  const portable = process.platform === 'win32' ? pattern.replaceAll('\\', '/') : pattern;
  const found = await globby(portable, {
    cwd: from,
    absolute: true,
    caseSensitiveMatch: false,
    expandDirectories: false,
  });
  return found.map((file) => resolve(file) as AbsolutePath);
}

/** The files of a folder, and of those below it when asked to. A folder that contains itself by a link is met once. */
function walk(folder: AbsolutePath, { deep }: { readonly deep: boolean }): readonly AbsolutePath[] {
  const files: AbsolutePath[] = [];
  const links = new Set<string>();
  const visit = (at: AbsolutePath) => {
    for (const entry of readdirSync(at, { withFileTypes: true })) {
      if (entry.name.startsWith('.')) continue;
      const path = `${at}${sep}${entry.name}` as AbsolutePath;
      const kind = kindOf(entry, path);
      if (kind === 'file') files.push(path);
      if (kind !== 'folder' || !deep) continue;
      if (entry.isSymbolicLink()) {
        const real = realpathSync(path);
        if (links.has(real) || `${at}${sep}`.startsWith(`${real}${sep}`)) continue;
        links.add(real);
      }
      visit(path);
    }
  };
  visit(folder);
  return files;
}

function kindOf(entry: Dirent, path: AbsolutePath): 'file' | 'folder' | 'other' {
  const stat = entry.isSymbolicLink() ? followed(path) : entry;
  // A link that leads nowhere is kept: a dataset that is silently smaller than its folder would be worse.
  if (stat === undefined || stat.isFile()) return 'file';
  return stat.isDirectory() ? 'folder' : 'other';
}

function followed(link: AbsolutePath): Stats | undefined {
  try {
    return statSync(link);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    return undefined;
  }
}
