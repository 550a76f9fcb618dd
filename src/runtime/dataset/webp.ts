// WebP: a RIFF file of chunks. Lossy, lossless and extended; of an animation, its canvas.

import { CUT_OFF, type Found, ImageProblem, traitsOf } from './image-problem.ts';
import { orientationOf } from './orientation.ts';

/** Throws `ImageProblem`, or `RangeError` when the file ends early. */
export function readWebp(bytes: Buffer): Found {
  const end = 8 + bytes.readUInt32LE(4);
  if (end > bytes.length) throw new ImageProblem(CUT_OFF);
  let canvas: readonly [number, number] | undefined;
  let frame: readonly [number, number] | undefined;
  let alpha = false;
  let frames = 0;
  let exif: Buffer | undefined;
  let xmp: Buffer | undefined;
  for (let at = 12; at + 8 <= end; ) {
    const type = bytes.toString('latin1', at, at + 4);
    const length = bytes.readUInt32LE(at + 4);
    const data = bytes.subarray(at + 8, at + 8 + length);
    if (at + 8 + length > end) throw new ImageProblem(CUT_OFF);
    if (type === 'VP8X') {
      canvas = [1 + data.readUIntLE(4, 3), 1 + data.readUIntLE(7, 3)];
      alpha = (data.readUInt8(0) & ALPHA) !== 0;
    } else if (type === 'VP8 ') frame ??= lossySize(data);
    else if (type === 'VP8L') {
      frame ??= losslessSize(data);
      alpha ||= (data.readUInt32LE(1) & LOSSLESS_ALPHA) !== 0;
    } else if (type === 'ANMF') frames += 1;
    else if (type === 'EXIF') exif = data;
    else if (type === 'XMP ') xmp = data;
    // Chunks begin at even places.
    at += 8 + length + (length % 2);
  }
  const size = canvas ?? frame;
  if (size === undefined || !(frames > 0 || frame)) throw new ImageProblem('The image is damaged: it has no pixels.');
  const traits = traitsOf({ alpha, animated: frames > 1 });
  return { width: size[0], height: size[1], orientation: orientationOf(exif, xmp), traits };
}

/** Bits that say that there is transparency: among the flags of the extended form, and in a lossless picture's head. */
const ALPHA = 0x10;
const LOSSLESS_ALPHA = 1 << 28;

function lossySize(data: Buffer): readonly [number, number] {
  if (data.readUIntBE(3, 3) !== 0x9d012a)
    throw new ImageProblem('The image is damaged: its first frame is no key frame.');
  return [data.readUInt16LE(6) & 0x3fff, data.readUInt16LE(8) & 0x3fff];
}

function losslessSize(data: Buffer): readonly [number, number] {
  if (data.readUInt8(0) !== 0x2f) throw new ImageProblem('The image is damaged: its lossless data has no signature.');
  const bits = data.readUInt32LE(1);
  return [1 + (bits & 0x3fff), 1 + ((bits >> 14) & 0x3fff)];
}
