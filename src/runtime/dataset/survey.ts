// Looks at the images and captions of a dataset as they are now. Everything that is wrong is told at once, before
// any work starts. What has not changed since the last look is known from the stat cache and not read again.

import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Digest, digestOf } from '../cache/digest.ts';
import type { Seen, StatCache } from '../cache/stat-cache.ts';
import { StageFailure } from '../events.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import {
  type CaptionLines,
  type CaptionMissing,
  captionOfWhole,
  captionPath,
  folderWords,
  readCaption,
} from './captions.ts';
import { CHANGED, type DatasetProblem, unreadable } from './dataset-problem.ts';
import { findCountedImages, findImages, type ImagePattern } from './find-images.ts';
import { liesIn, type Mask, type MaskSource, readMasks } from './masks.ts';
import { knownImage, type ReadImage, readBytes, readImage } from './read-image.ts';

export interface SurveyedImage extends ReadImage {
  readonly path: AbsolutePath;
  readonly captionPath: AbsolutePath;
  /** Of the caption's text, so that space around it and lines that do not count change nothing. */
  readonly caption: Digest;
  /** What stands in place of a caption that is not in a file. */
  readonly words?: string;
  /** How often its folder says that it is used per epoch. */
  readonly repeats?: number;
  /** The picture that says how much each place of it counts. */
  readonly mask?: Mask;
}

export interface LookedAt {
  /** Those of which all is known, in no order. */
  readonly images: readonly SurveyedImage[];
  /** Images that are good, and whose captions are not. */
  readonly uncaptioned: readonly Omit<SurveyedImage, 'caption'>[];
  readonly problems: readonly DatasetProblem[];
}

export interface SurveyOptions {
  readonly dataset: string;
  readonly patterns: readonly ImagePattern[];
  /** `kohya`: only those in folders such as "5_fox". Left out: all that the patterns name. */
  readonly folders?: 'flat' | 'kohya';
  readonly captionExtension: string;
  /** Left out: the first. */
  readonly captionLines?: CaptionLines;
  /** Left out: such an image is refused. */
  readonly captionMissing?: CaptionMissing;
  /** Left out: images have no masks. */
  readonly masks?: MaskSource;
  readonly files: StatCache;
  readonly signal: AbortSignal;
  readonly say: (message: string) => void;
}

/** So many files are read at a time. */
const SIDE_BY_SIDE = 8;
/** Reading more than this is worth a word to the user. */
const MANY = 200;

/**
 * The images with their captions, ordered by digest, so that names and folders do not matter.
 * Throws `StageFailure` with every file that cannot be used.
 */
export async function surveyImages(options: SurveyOptions): Promise<readonly SurveyedImage[]> {
  const { images, problems } = await lookAtDataset(options);
  if (problems.length > 0) throw badDataset(options.dataset, problems);
  return images.toSorted(
    (a, b) =>
      compare(a.digest, b.digest) ||
      compare(a.caption, b.caption) ||
      (a.repeats ?? 1) - (b.repeats ?? 1) ||
      compare(a.mask?.digest ?? '', b.mask?.digest ?? '') ||
      compare(a.path, b.path),
  );
}

/** All that there is to know of a dataset's files, the good and the bad. */
export async function lookAtDataset(options: SurveyOptions): Promise<LookedAt> {
  const { files, signal, captionLines: lines = 'first', captionMissing: missing = 'error' } = options;
  const found = options.folders === 'kohya' ? findCountedImages(options.patterns) : await findImages(options.patterns);
  if (found.left !== undefined && found.left.length > 0) options.say(leftOut(options.dataset, found.left));
  const repeatsOf = (path: AbsolutePath) => {
    const repeats = found.repeats?.get(path);
    return repeats === undefined ? {} : { repeats };
  };
  const problems: DatasetProblem[] = found.problems.map((problem) => ({ ...problem, code: 'no-images' }));
  const images: SurveyedImage[] = [];
  const uncaptioned: Omit<SurveyedImage, 'caption'>[] = [];

  const unread: Pair[] = [];
  // Masks that lie below the images are none of them.
  const isMask = (path: AbsolutePath) => options.masks !== undefined && liesIn(options.masks.folder, path);
  for (const path of found.images) {
    if (isMask(path)) continue;
    const pair = lookAt(path, files, options.captionExtension);
    if ('message' in pair) {
      problems.push(pair);
      continue;
    }
    const image = known(pair, lines, missing);
    if (image) images.push({ ...image, ...repeatsOf(path) });
    else unread.push(pair);
  }
  if (unread[0] !== undefined) files.requireReading(unread[0].path);
  if (unread.length > MANY)
    options.say(`Reading ${unread.length.toLocaleString('en')} images of "${options.dataset}".`);
  await sideBySide(unread, async (pair) => {
    signal.throwIfAborted();
    const [image, caption] = [
      await readImage(files, pair.path, pair.image),
      await readText(files, pair, lines, missing),
    ];
    for (const read of [image, caption]) if ('message' in read) problems.push(read);
    if ('message' in image) return;
    const looked = { path: pair.path, captionPath: pair.captionPath, ...image, ...repeatsOf(pair.path) };
    if ('message' in caption) uncaptioned.push(looked);
    else images.push({ ...looked, ...caption });
  });
  const { masks, problems: ofMasks } = await masksOf([...images, ...uncaptioned], found.names, options);
  const withMask = <Image extends { readonly path: AbsolutePath }>(image: Image) => {
    const mask = masks.get(image.path);
    return mask === undefined ? image : { ...image, mask };
  };
  const inOrder = [...problems, ...ofMasks].sort((a, b) => compare(a.path, b.path) || compare(a.message, b.message));
  return { images: images.map(withMask), uncaptioned: uncaptioned.map(withMask), problems: inOrder };
}

async function masksOf(
  images: readonly Omit<SurveyedImage, 'caption'>[],
  names: ReadonlyMap<AbsolutePath, string>,
  { masks: source, files, signal }: SurveyOptions,
): ReturnType<typeof readMasks> {
  if (source === undefined) return { masks: new Map(), problems: [] };
  const wanted = new Map([...names].filter(([path]) => !liesIn(source.folder, path)).sort(([a], [b]) => compare(a, b)));
  return readMasks(images, wanted, { source, files, signal });
}

function leftOut(dataset: string, left: readonly AbsolutePath[]): string {
  const names = left.slice(0, 5).map((path) => `"${basename(path)}"`);
  const more = left.length > names.length ? ` and ${left.length - names.length} more` : '';
  return `"${dataset}" leaves out ${names.join(', ')}${more}: only folders such as "5_fox" count.`;
}

/** The text of a caption whose digest is known from a survey. */
export async function captionText(image: SurveyedImage, lines: CaptionLines): Promise<string> {
  if (image.words !== undefined) return image.words;
  const caption = readCaption(await readFile(image.captionPath), lines);
  if (caption.ok && digestOf(caption.text) === image.caption) return caption.text;
  throw new StageFailure({
    kind: 'file-changing',
    message: `The caption "${image.captionPath}" changed while it was being read.`,
    hint: 'Build again.',
  });
}

function badDataset(dataset: string, problems: readonly DatasetProblem[]): StageFailure {
  const isNowhere = problems.every(({ code }) => code === 'no-images');
  const isUnmasked = problems.every(({ code }) => code === 'no-mask');
  const count = problems.length === 1 ? 'there is a problem' : `there are ${problems.length} problems`;
  return new StageFailure({
    kind: 'bad-input',
    message: `The dataset "${dataset}" cannot be used: ${count} with its files.`,
    hint: isNowhere
      ? 'Check the path. Relative paths start at the folder of the program.'
      : isUnmasked
        ? 'Paint the masks that are missing, or let such images count as a whole: mask_missing = whole'
        : 'Repair or complete these files, or take them out of the folder, and build again.',
    problems: problems.map(({ path, message }) => ({ path, message })),
  });
}

/** An image and its caption as they lie on the disk. */
interface Pair {
  readonly path: AbsolutePath;
  readonly captionPath: AbsolutePath;
  readonly image: Seen | undefined;
  readonly caption: Seen | undefined;
}

function lookAt(path: AbsolutePath, files: StatCache, captionExtension: string): Pair | DatasetProblem {
  const own = captionPath(path, captionExtension);
  const whole = captionOfWhole(path, captionExtension);
  try {
    const image = files.look(path);
    const caption = files.look(own);
    const other = caption === undefined && whole !== undefined ? files.look(whole) : undefined;
    if (whole !== undefined && other !== undefined) return { path, captionPath: whole, image, caption: other };
    return { path, captionPath: own, image, caption };
  } catch (error) {
    return unreadable(path, error);
  }
}

/** A pair of which nothing has to be read. */
function known(pair: Pair, lines: CaptionLines, missing: CaptionMissing): SurveyedImage | undefined {
  const { path, captionPath, image, caption } = pair;
  const read = knownImage(image);
  if (read === undefined) return undefined;
  if (caption === undefined && missing !== 'error') return { path, captionPath, ...read, ...inPlace(path, missing) };
  const text = caption?.facts[captionFact[lines]];
  return text ? { path, captionPath, ...read, caption: text } : undefined;
}

/** What an image has in place of a caption. */
function inPlace(
  image: AbsolutePath,
  missing: Exclude<CaptionMissing, 'error'>,
): Required<Pick<SurveyedImage, 'caption' | 'words'>> {
  const words = missing === 'folder' ? folderWords(image) : '';
  return { words, caption: digestOf(words) };
}

/** Which fact of a caption file is the digest of those lines. */
const captionFact = { first: 'caption', all: 'captionLines' } as const;

async function readText(
  files: StatCache,
  { path: image, captionPath: path, caption: seen }: Pair,
  lines: CaptionLines,
  missing: CaptionMissing,
): Promise<Pick<SurveyedImage, 'caption' | 'words'> | DatasetProblem> {
  if (seen === undefined) {
    if (missing !== 'error') return inPlace(image, missing);
    return { code: 'no-caption', path: image, message: `The image has no caption: there is no "${path}".` };
  }
  const before = seen.facts[captionFact[lines]];
  if (before) return { caption: before };
  const bytes = await readBytes(path);
  if (!Buffer.isBuffer(bytes)) return bytes;
  const text = readCaption(bytes, lines);
  if (!text.ok && text.isEmpty && missing !== 'error') return inPlace(image, missing);
  if (!text.ok) return { code: 'bad-caption', path, message: text.problem };
  const caption = digestOf(text.text);
  return files.remember(seen, { [captionFact[lines]]: caption })
    ? { caption }
    : { code: 'bad-caption', path, message: CHANGED };
}

/** Runs `work` on every item, a few at a time. */
async function sideBySide<Item>(items: readonly Item[], work: (item: Item) => Promise<void>): Promise<void> {
  const left = items.values();
  await Promise.all(
    Array.from({ length: SIDE_BY_SIDE }, async () => {
      for (const item of left) await work(item);
    }),
  );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
