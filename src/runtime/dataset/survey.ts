// Looks at the images and captions of a dataset as they are now. Everything that is wrong is told at once, before
// any work starts. What has not changed since the last look is known from the stat cache and not read again.

import { readFile } from 'node:fs/promises';
import { type Digest, digestOf } from '../cache/digest.ts';
import type { Seen, StatCache } from '../cache/stat-cache.ts';
import { type FileProblem, StageFailure } from '../events.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import type { Size } from './buckets.ts';
import { captionPath, readCaption } from './captions.ts';
import { findImages, type ImagePattern } from './find-images.ts';
import { imageFacts } from './image-facts.ts';

export interface SurveyedImage {
  readonly path: AbsolutePath;
  readonly digest: Digest;
  /** Upright, before any resizing. */
  readonly size: Size;
  readonly captionPath: AbsolutePath;
  /** Of the caption's text, so that space around it and further lines do not count. */
  readonly caption: Digest;
}

/** So many files are read at a time. */
const SIDE_BY_SIDE = 8;
/** Reading more than this is worth a word to the user. */
const MANY = 200;

/**
 * The images with their captions, ordered by digest, so that names and folders do not matter.
 * Throws `StageFailure` with every file that cannot be used.
 */
export async function surveyImages(options: {
  readonly dataset: string;
  readonly patterns: readonly ImagePattern[];
  readonly captionExtension: string;
  readonly files: StatCache;
  readonly signal: AbortSignal;
  readonly say: (message: string) => void;
}): Promise<readonly SurveyedImage[]> {
  const { files, signal } = options;
  const found = await findImages(options.patterns);
  const problems: FileProblem[] = [...found.problems];
  const surveyed: SurveyedImage[] = [];

  const seen = found.images.map((path) => ({ path, image: files.look(path) }));
  const fresh = seen.filter(({ image }) => image?.facts.image === undefined).length;
  if (fresh > MANY) options.say(`Reading ${fresh.toLocaleString('en')} new images of "${options.dataset}".`);

  await sideBySide(seen, async ({ path, image }) => {
    signal.throwIfAborted();
    const caption = captionPath(path, options.captionExtension);
    const [facts, text] = [await imageAt(files, path, image), await captionAt(files, caption)];
    if ('problem' in facts) problems.push({ path, message: facts.problem });
    if ('problem' in text) problems.push({ path: text.isMissing ? path : caption, message: text.problem });
    if ('problem' in facts || 'problem' in text) return;
    surveyed.push({ path, ...facts, captionPath: caption, caption: text.digest });
  });

  if (problems.length > 0) throw badDataset(options.dataset, problems);
  return surveyed.sort(
    (a, b) => compare(a.digest, b.digest) || compare(a.caption, b.caption) || compare(a.path, b.path),
  );
}

/** The text of a caption whose digest is known from a survey. */
export async function captionText(image: SurveyedImage): Promise<string> {
  const caption = readCaption(await readFile(image.captionPath));
  if (caption.ok && digestOf(caption.text) === image.caption) return caption.text;
  throw new StageFailure({
    kind: 'file-changing',
    message: `The caption "${image.captionPath}" changed while it was being read.`,
    hint: 'Build again.',
  });
}

function badDataset(dataset: string, problems: FileProblem[]): StageFailure {
  problems.sort((a, b) => compare(a.path, b.path) || compare(a.message, b.message));
  const [first] = problems as [FileProblem, ...FileProblem[]];
  return new StageFailure({
    kind: 'bad-input',
    message:
      problems.length === 1
        ? `The dataset "${dataset}" cannot be used: ${first.path}: ${first.message}`
        : `The dataset "${dataset}" cannot be used: there are ${problems.length} problems with its files.`,
    hint: 'Repair these files or take them out of the folder, and build again.',
    problems,
  });
}

type Problem = { readonly problem: string };

async function imageAt(
  files: StatCache,
  path: AbsolutePath,
  seen: Seen | undefined,
): Promise<{ readonly digest: Digest; readonly size: Size } | Problem> {
  if (seen === undefined) return { problem: 'The file is gone.' };
  const { digest: known, image } = seen.facts;
  if (known && image) return { digest: known, size: image };
  const bytes = await readOrProblem(path);
  if (!Buffer.isBuffer(bytes)) return bytes;
  const facts = imageFacts(bytes);
  if (!facts.ok) return { problem: facts.problem };
  const digest = digestOf(bytes);
  if (!files.remember(seen, { digest, image: facts.size }))
    return { problem: 'The file changed while it was being read.' };
  return { digest, size: facts.size };
}

async function captionAt(
  files: StatCache,
  path: AbsolutePath,
): Promise<{ readonly digest: Digest } | (Problem & { readonly isMissing: boolean })> {
  const seen = files.look(path);
  if (seen === undefined) return { problem: `The image has no caption: there is no "${path}".`, isMissing: true };
  if (seen.facts.caption) return { digest: seen.facts.caption };
  const bytes = await readOrProblem(path);
  if (!Buffer.isBuffer(bytes)) return { ...bytes, isMissing: false };
  const caption = readCaption(bytes);
  if (!caption.ok) return { problem: caption.problem, isMissing: false };
  const digest = digestOf(caption.text);
  if (!files.remember(seen, { caption: digest })) {
    return { problem: 'The file changed while it was being read.', isMissing: false };
  }
  return { digest };
}

async function readOrProblem(path: AbsolutePath): Promise<Buffer | Problem> {
  try {
    return await readFile(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined || !['EACCES', 'EPERM', 'EIO', 'EISDIR', 'ENOENT'].includes(code)) throw error;
    return { problem: `The file cannot be read (${code}).` };
  }
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
