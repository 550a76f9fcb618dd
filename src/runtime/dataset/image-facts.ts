// What an image file is, read from its bytes without decoding a pixel: its size when upright, and whether it is whole.
// The content tells the format; the suffix is the user's business.
//
// A file that passes is complete (all chunks or segments, to the end mark; checksums where the format has them).
// Whether every pixel can be decoded is for the worker to see.

import type { Size } from './buckets.ts';
import { CUT_OFF, type Found, ImageProblem, type Trait } from './image-problem.ts';
import { readJpeg } from './jpeg.ts';
import { readPng } from './png.ts';
import { readWebp } from './webp.ts';

export type ImageFacts =
  | {
      readonly ok: true;
      /** Width and height when upright. */
      readonly size: Size;
      /** EXIF's, 1 to 8: how the stored picture is turned to stand upright. */
      readonly orientation: number;
      readonly traits: readonly Trait[];
    }
  | { readonly ok: false; readonly problem: string };

/** Below this, nothing can be learned from an image. */
const LEAST_SIDE = 8;

/** What the header of an image says, or what is wrong with the file. */
export function imageFacts(bytes: Buffer): ImageFacts {
  try {
    const { width, height, orientation, traits } = readAny(bytes);
    if (width < LEAST_SIDE || height < LEAST_SIDE) {
      return { ok: false, problem: `The image is too small (${width}x${height} pixels).` };
    }
    return { ok: true, size: turned([width, height], orientation), orientation, traits };
  } catch (error) {
    if (error instanceof ImageProblem) return { ok: false, problem: error.message };
    if (error instanceof RangeError) return { ok: false, problem: CUT_OFF };
    throw error;
  }
}

/** A size as stored when it was upright, and the other way round. From 5 on, EXIF's orientations lie on their side. */
export function turned([width, height]: Size, orientation: number): Size {
  return orientation >= 5 ? [height, width] : [width, height];
}

function readAny(bytes: Buffer): Found {
  if (bytes.length === 0) throw new ImageProblem('The file is empty (0 bytes).');
  if (bytes.subarray(0, 8).equals(PNG)) return readPng(bytes);
  if (bytes[0] === 0xff && bytes[1] === 0xd8) return readJpeg(bytes);
  if (bytes.toString('latin1', 0, 4) === 'RIFF' && bytes.toString('latin1', 8, 12) === 'WEBP') return readWebp(bytes);
  throw new ImageProblem('The file is not a PNG, JPEG or WebP image.');
}

const PNG = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
