// PNG, chunk by chunk to the end mark, every checksum compared.

import { crc32, inflateSync } from 'node:zlib';
import { CUT_OFF, type Found, ImageProblem, traitsOf } from './image-problem.ts';
import { orientationOf } from './orientation.ts';

/** Throws `ImageProblem`, or `RangeError` when the file ends early. */
export function readPng(bytes: Buffer): Found {
  let size: readonly [number, number] | undefined;
  let [deep, alpha, animated] = [false, false, false];
  let hasPixels = false;
  let exif: Buffer | undefined;
  let profile: Buffer | undefined;
  let xmp: Buffer | undefined;
  for (let at = 8; ; ) {
    const length = bytes.readUInt32BE(at);
    const type = bytes.toString('latin1', at + 4, at + 8);
    const end = at + 12 + length;
    if (end > bytes.length) throw new ImageProblem(CUT_OFF);
    if (crc32(bytes.subarray(at + 4, end - 4)) !== bytes.readUInt32BE(end - 4)) {
      throw new ImageProblem(`The image is damaged: a checksum is wrong ("${type.replace(/[^A-Za-z]/g, '?')}").`);
    }
    const data = bytes.subarray(at + 8, end - 4);
    if (type === 'IHDR') {
      size = [data.readUInt32BE(0), data.readUInt32BE(4)];
      deep = data.readUInt8(8) > 8;
      alpha = (data.readUInt8(9) & ALPHA) !== 0;
    } else if (type === 'IDAT') hasPixels = true;
    else if (type === 'tRNS') alpha = true;
    else if (type === 'acTL') animated = data.readUInt32BE(0) > 1;
    else if (type === 'eXIf') exif = data;
    else if (type === 'tEXt' || type === 'zTXt') profile = rawExif(type, data) ?? profile;
    else if (type === 'iTXt') xmp = xmpText(data) ?? xmp;
    else if (type === 'IEND') break;
    at = end;
  }
  if (size === undefined || !hasPixels) throw new ImageProblem('The image is damaged: it has no pixels.');
  const orientation = orientationOf(exif ?? profile, xmp);
  return { width: size[0], height: size[1], orientation, traits: traitsOf({ alpha, animated, deep }) };
}

/** The bit of a color type that says that every pixel has an alpha of its own. */
const ALPHA = 4;

/** EXIF as ImageMagick writes it into a text chunk: three lines of heading, then hexadecimal digits. */
function rawExif(type: 'tEXt' | 'zTXt', data: Buffer): Buffer | undefined {
  const nul = data.indexOf(0);
  if (data.toString('latin1', 0, nul) !== 'Raw profile type exif') return undefined;
  const text = type === 'tEXt' ? data.subarray(nul + 1) : inflate(data.subarray(nul + 2));
  return text && Buffer.from(text.toString('latin1').split('\n').slice(3).join(''), 'hex');
}

function xmpText(data: Buffer): Buffer | undefined {
  const keyword = 'XML:com.adobe.xmp\0';
  if (data.toString('latin1', 0, keyword.length) !== keyword) return undefined;
  const isCompressed = data[keyword.length] === 1;
  const language = data.indexOf(0, keyword.length + 2);
  const text = data.subarray(data.indexOf(0, language + 1) + 1);
  return isCompressed ? inflate(text) : text;
}

/** Metadata is small; more than this is not unpacked. */
const MOST_BYTES = 16 * 1024 * 1024;

function inflate(data: Buffer): Buffer | undefined {
  try {
    return inflateSync(data, { maxOutputLength: MOST_BYTES });
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code?.startsWith('Z_') || code === 'ERR_BUFFER_TOO_LARGE') return undefined;
    throw error;
  }
}
