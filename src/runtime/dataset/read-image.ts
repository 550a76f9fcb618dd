// What is known of an image file: from the stat cache while the file does not change, else from its bytes.

import { readFile } from 'node:fs/promises';
import { type Digest, digestOf } from '../cache/digest.ts';
import type { Seen, StatCache } from '../cache/stat-cache.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import type { Size } from './buckets.ts';
import { CHANGED, type DatasetProblem, unreadable } from './dataset-problem.ts';
import { imageFacts } from './image-facts.ts';
import { TRAITS, type Trait } from './image-problem.ts';

export interface ReadImage {
  readonly digest: Digest;
  /** Upright, before any resizing. */
  readonly size: Size;
  /** EXIF's, 1 to 8. */
  readonly orientation: number;
  readonly traits: readonly Trait[];
}

/** What was read before, where all of it was. */
export function knownImage(seen: Seen | undefined): ReadImage | undefined {
  const { digest, image: size, orientation, traits } = seen?.facts ?? {};
  if (digest === undefined || size === undefined || orientation === undefined || traits === undefined) return undefined;
  return { digest, size, orientation, traits: TRAITS.filter((trait) => traits.includes(trait)) };
}

/** `seen`: the file as the stat cache knows it, or nothing where there is none. */
export async function readImage(
  files: StatCache,
  path: AbsolutePath,
  seen: Seen | undefined,
): Promise<ReadImage | DatasetProblem> {
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

export async function readBytes(path: AbsolutePath): Promise<Buffer | DatasetProblem> {
  try {
    return await readFile(path);
  } catch (error) {
    return unreadable(path, error);
  }
}
