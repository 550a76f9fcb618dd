// Pictures that say how much each place of an image counts.
//
// - A mask has the name of its image and lies below the folder of masks as the image lies below its own, or right in it.
// - It may have another size than its image, and not another shape.

import { statSync } from 'node:fs';
import { basename, sep } from 'node:path';
import type { Digest } from '../cache/digest.ts';
import type { StatCache } from '../cache/stat-cache.ts';
import type { AbsolutePath } from '../graph/graph.ts';
import type { Size } from './buckets.ts';
import { type DatasetProblem, unreadable } from './dataset-problem.ts';
import { imagesBelow, nameBelow, withoutSuffix } from './find-images.ts';
import { turned } from './image-facts.ts';
import { type ReadImage, readImage } from './read-image.ts';

/** What becomes of an image without a mask: it is refused, or all of it counts. */
export type MaskMissing = 'error' | 'whole';

export interface MaskSource {
  readonly folder: AbsolutePath;
  readonly missing: MaskMissing;
  /** Shapes are compared as stored, and not upright. */
  readonly asStored: boolean;
}

export interface Mask {
  readonly path: AbsolutePath;
  readonly digest: Digest;
}

type MaskedImage = ReadImage & { readonly path: AbsolutePath };

/** The masks of images, by the path of the image. `names`: what each is called below its folder. */
export async function readMasks(
  images: readonly MaskedImage[],
  names: ReadonlyMap<AbsolutePath, string>,
  { source, files, signal }: { readonly source: MaskSource; readonly files: StatCache; readonly signal: AbortSignal },
): Promise<{ readonly masks: ReadonlyMap<AbsolutePath, Mask>; readonly problems: readonly DatasetProblem[] }> {
  const { places, problems } = findMasks(names, source);
  const masks = new Map<AbsolutePath, Mask>();
  for (const image of images) {
    signal.throwIfAborted();
    const path = places.get(image.path);
    if (path === undefined) continue;
    const mask = await readMask(image, path, source, files);
    if ('message' in mask) problems.push(mask);
    else masks.set(image.path, mask);
  }
  return { masks, problems };
}

/** Whether a path lies in a folder, or below. */
export function liesIn(folder: AbsolutePath, path: AbsolutePath): boolean {
  return path.startsWith(folder.endsWith(sep) ? folder : `${folder}${sep}`);
}

function findMasks(
  names: ReadonlyMap<AbsolutePath, string>,
  { folder, missing }: MaskSource,
): { readonly places: ReadonlyMap<AbsolutePath, AbsolutePath>; readonly problems: DatasetProblem[] } {
  const places = new Map<AbsolutePath, AbsolutePath>();
  const problems: DatasetProblem[] = [];
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    problems.push({ code: 'no-mask', path: folder, message: 'There is no such folder, and masks should lie in it.' });
    return { places, problems };
  }
  const found = Map.groupBy(imagesBelow(folder), (path) => nameBelow(folder, path));
  const owners = new Map<AbsolutePath, AbsolutePath>();
  for (const [image, name] of names) {
    const [mask, another] = found.get(name) ?? found.get(basename(name)) ?? [];
    const owner = mask && owners.get(mask);
    const bad = (message: string) => problems.push({ code: 'bad-mask', path: image, message });
    if (mask === undefined) {
      const message = `The image has no mask: there is no "${folder}${sep}${name}.png".`;
      if (missing === 'error') problems.push({ code: 'no-mask', path: image, message });
    } else if (another !== undefined) bad(`The image has two masks, "${mask}" and "${another}".`);
    // Images in one folder that differ in their suffix share a mask, as they share a caption.
    else if (owner !== undefined && withoutSuffix(owner) !== withoutSuffix(image)) {
      bad(`"${mask}" is the mask of "${owner}" already. Masks can lie in folders as images do.`);
    } else {
      owners.set(mask, image);
      places.set(image, mask);
    }
  }
  return { places, problems };
}

async function readMask(
  image: MaskedImage,
  path: AbsolutePath,
  { asStored }: MaskSource,
  files: StatCache,
): Promise<Mask | DatasetProblem> {
  const bad = (message: string): DatasetProblem => ({ code: 'bad-mask', path, message });
  try {
    const mask = await readImage(files, path, files.look(path));
    if ('message' in mask) return bad(mask.message);
    const [size, wanted] = [mask, image].map((one) => (asStored ? turned(one.size, one.orientation) : one.size)) as [
      Size,
      Size,
    ];
    if (hasShape(size, wanted)) return { path, digest: mask.digest };
    return bad(`The mask has ${size.join('x')} pixels, which is not the shape of its image (${wanted.join('x')}).`);
  } catch (error) {
    return bad(unreadable(path, error).message);
  }
}

/**
 * Up to a pixel of either: sizes are whole numbers. The worker takes what this lets pass, in lora_worker/images.py, which
 * knows the image by its size after scaling.
 */
function hasShape([width, height]: Size, [wantedWidth, wantedHeight]: Size): boolean {
  const [across, down] = [wantedWidth / width, wantedHeight / height];
  return (
    Math.abs(height * across - wantedHeight) <= Math.max(1, across) ||
    Math.abs(width * down - wantedWidth) <= Math.max(1, down)
  );
}
