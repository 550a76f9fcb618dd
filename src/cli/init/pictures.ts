// What lies in a folder of images, as far as it decides what a first program says.

import { readFileSync, statSync } from 'node:fs';
import { basename, dirname, extname, relative } from 'node:path';
import { captionOfWhole, captionPath, readCaption } from '../../runtime/dataset/captions.ts';
import { findCountedImages, findImages } from '../../runtime/dataset/find-images.ts';
import type { AbsolutePath } from '../../runtime/graph/graph.ts';
import { absolutePath, pathIn } from '../../runtime/graph/paths.ts';

export interface Pictures {
  /** The folder that all of them lie in, or below. */
  readonly folder: AbsolutePath;
  /** Folders such as 5_fox right below it, and no images elsewhere. */
  readonly style: 'flat' | 'kohya';
  readonly count: number;
  /** Visits in an epoch: more than there are images where names of folders say so. */
  readonly visits: number;
  readonly captions: Captions;
  /** What its folder is called, without a number: a name for the LoRA. */
  readonly subject: string;
}

export interface Captions {
  readonly extension: string;
  /** Of how many images there is one that is not empty. */
  readonly count: number;
  /** Some of them, for pictures during training. */
  readonly examples: readonly string[];
  /** Tags with commas between, rather than sentences. */
  readonly areTags: boolean;
  /** The tag that nearly all of them begin with. */
  readonly opening: string | undefined;
}

/** `undefined`: there are no images in it, nor below it. */
export async function lookAtPictures(folder: AbsolutePath): Promise<Pictures | undefined> {
  const found = (await findImages([{ from: folder, pattern: '.' }])).images;
  const common = commonFolder(found);
  if (common === undefined) return undefined;
  // Images right in 5_fox: the folder above is the one that counts.
  const top = /^\d+_./.test(basename(common)) && common !== folder ? (dirname(common) as AbsolutePath) : common;
  const counted = findCountedImages([{ from: top, pattern: '.' }]);
  const isCounted = counted.images.length === found.length;
  const visits = isCounted ? sum([...(counted.repeats?.values() ?? [])]) : found.length;
  return {
    folder: top,
    style: isCounted ? 'kohya' : 'flat',
    count: found.length,
    visits,
    captions: lookAtCaptions(found),
    subject: subjectOf(isCounted ? (commonFolder(found) ?? top) : top),
  };
}

const sum = (numbers: readonly number[]) => numbers.reduce((total, one) => total + one, 0);

/** The deepest folder that holds them all. */
function commonFolder(images: readonly AbsolutePath[]): AbsolutePath | undefined {
  let common = images[0] && dirname(images[0]);
  for (const image of images) {
    while (common !== undefined && relative(common, image).startsWith('..')) common = dirname(common);
  }
  return common === undefined ? undefined : absolutePath(common);
}

/** Words that are names of folders, and of nothing in the pictures. */
const meaningless = /^(images?|img|pics|pictures?|dataset|data|train(ing)?(_?(data|dir|set))?|photos?|tmp|temp)$/i;

function subjectOf(folder: AbsolutePath): string {
  for (let at: string = folder; at !== dirname(at); at = dirname(at)) {
    const word = basename(at)
      .replace(/^\d+_/, '')
      .replaceAll(/[^A-Za-z0-9]+/g, '_')
      .replaceAll(/^_+|_+$/g, '');
    if (word !== '' && !meaningless.test(word)) return word.toLowerCase();
  }
  return 'my_lora';
}

/** Extensions that trainers give to caption files, the likeliest first. */
const extensions = ['.txt', '.caption', '.cap'];

function lookAtCaptions(images: readonly AbsolutePath[]): Captions {
  const sets = extensions.map((extension) => ({
    extension,
    texts: images.flatMap((image) => captionOf(image, extension) ?? []),
  }));
  const [first = { extension: '.txt', texts: [] }, ...rest] = sets;
  const best = rest.reduce((most, one) => (one.texts.length > most.texts.length ? one : most), first);
  const { extension, texts } = best;
  const commas = sum(texts.map((text) => text.split(',').length - 1));
  const openings = Map.groupBy(texts, (text) => (text.split(',')[0] ?? '').trim());
  const opening = [...openings].find(
    ([tag, those]) => tag !== '' && those.length >= 3 && those.length >= 0.8 * texts.length,
  )?.[0];
  const areTags = texts.length === 0 || commas >= 2 * texts.length;
  return {
    extension,
    count: texts.length,
    examples: different(texts).slice(0, 2),
    areTags,
    opening: areTags ? opening : undefined,
  };
}

const different = (texts: readonly string[]) => [...new Set(texts)];

/** Far longer than any caption. */
const LARGEST_BYTES = 64 * 1024;

function captionOf(image: AbsolutePath, extension: string): string | undefined {
  const places = [captionPath(image, extension), captionOfWhole(image, extension)];
  const path = places.find((place) => place !== undefined && statSync(place, { throwIfNoEntry: false })?.isFile());
  if (path === undefined || statSync(path).size > LARGEST_BYTES) return undefined;
  const caption = readCaption(readFileSync(path), 'first');
  return caption.ok ? caption.text : undefined;
}

/** Prompts that somebody has written for this already. */
export function promptsIn({ folder }: Pictures): AbsolutePath | undefined {
  const names = ['sample-prompts.txt', 'sample_prompts.txt', 'prompts.txt'];
  const places = [folder, dirname(folder) as AbsolutePath].flatMap((place) => names.map((name) => pathIn(place, name)));
  return places.find((path) => extname(path) === '.txt' && statSync(path, { throwIfNoEntry: false })?.isFile());
}
