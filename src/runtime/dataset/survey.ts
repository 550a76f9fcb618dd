// Looks at the images and captions of a dataset as they are now. Everything that is wrong is told at once, before
// any work starts. What has not changed since the last look is known from the stat cache and not read again.

import { readFile } from 'node:fs/promises';
import { basename } from 'node:path';
import { type Digest, digestOf } from '../cache/digest.ts';
import type { Seen, StatCache } from '../cache/stat-cache.ts';
import { type FileProblem, StageFailure } from '../events.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import type { Size } from './buckets.ts';
import { type CaptionLines, type CaptionMissing, captionPath, folderWords, readCaption } from './captions.ts';
import { findCountedImages, findImages, type ImagePattern } from './find-images.ts';
import { imageFacts } from './image-facts.ts';
import { TRAITS, type Trait } from './image-problem.ts';

export interface SurveyedImage {
  readonly path: AbsolutePath;
  readonly digest: Digest;
  /** Upright, before any resizing. */
  readonly size: Size;
  /** EXIF's, 1 to 8. */
  readonly orientation: number;
  readonly traits: readonly Trait[];
  readonly captionPath: AbsolutePath;
  /** Of the caption's text, so that space around it and lines that do not count change nothing. */
  readonly caption: Digest;
  /** What stands in place of a caption that is not in a file. */
  readonly words?: string;
  /** How often its folder says that it is used per epoch. */
  readonly repeats?: number;
}

/** What is wrong with a file, by kind and in words. */
export interface DatasetProblem extends FileProblem {
  readonly code: 'no-images' | 'unreadable' | 'no-caption' | 'bad-caption';
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
  for (const path of found.images) {
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
    const [image, caption] = [await readImage(files, pair), await readText(files, pair, lines, missing)];
    for (const read of [image, caption]) if ('message' in read) problems.push(read);
    if ('message' in image) return;
    const looked = { path: pair.path, captionPath: pair.captionPath, ...image, ...repeatsOf(pair.path) };
    if ('message' in caption) uncaptioned.push(looked);
    else images.push({ ...looked, ...caption });
  });
  problems.sort((a, b) => compare(a.path, b.path) || compare(a.message, b.message));
  return { images, uncaptioned, problems };
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
  const count = problems.length === 1 ? 'there is a problem' : `there are ${problems.length} problems`;
  return new StageFailure({
    kind: 'bad-input',
    message: `The dataset "${dataset}" cannot be used: ${count} with its files.`,
    hint: isNowhere
      ? 'Check the path. Relative paths start at the folder of the program.'
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
  const caption = captionPath(path, captionExtension);
  try {
    return { path, captionPath: caption, image: files.look(path), caption: files.look(caption) };
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

type ReadImage = Pick<SurveyedImage, 'digest' | 'size' | 'orientation' | 'traits'>;

function knownImage(seen: Seen | undefined): ReadImage | undefined {
  const { digest, image: size, orientation, traits } = seen?.facts ?? {};
  if (digest === undefined || size === undefined || orientation === undefined || traits === undefined) return undefined;
  return { digest, size, orientation, traits: TRAITS.filter((trait) => traits.includes(trait)) };
}

const CHANGED = 'The file changed while it was being read.';

async function readImage(files: StatCache, { path, image: seen }: Pair): Promise<ReadImage | DatasetProblem> {
  const bad = (message: string): DatasetProblem => ({ code: 'unreadable', path, message });
  if (seen === undefined) return bad('The file is gone, or is a link that leads nowhere.');
  const before = knownImage(seen);
  if (before) return before;
  const bytes = await readBytes(path);
  if (!Buffer.isBuffer(bytes)) return bytes;
  const facts = imageFacts(bytes);
  if (!facts.ok) return bad(facts.problem);
  const digest = digestOf(bytes);
  const { size, orientation, traits } = facts;
  return files.remember(seen, { digest, image: size, orientation, traits })
    ? { digest, size, orientation, traits }
    : bad(CHANGED);
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

async function readBytes(path: AbsolutePath): Promise<Buffer | DatasetProblem> {
  try {
    return await readFile(path);
  } catch (error) {
    return unreadable(path, error);
  }
}

function unreadable(path: AbsolutePath, error: unknown): DatasetProblem {
  const { code } = error as NodeJS.ErrnoException;
  if (code === undefined || !['EACCES', 'EPERM', 'EIO', 'EISDIR', 'ENOENT', 'ELOOP'].includes(code)) throw error;
  return { code: 'unreadable', path, message: `The file cannot be read (${code}).` };
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
