// JPEG, marker by marker to the end of the image, through the scans.

import { CUT_OFF, type Found, ImageProblem, traitsOf } from './image-problem.ts';
import { orientationOf } from './orientation.ts';

const SOI = 0xd8;
const EOI = 0xd9;
const SOS = 0xda;
const APP1 = 0xe1;
const TEM = 0x01;
const XMP_HEAD = 'http://ns.adobe.com/xap/1.0/\0';

/** Throws `ImageProblem`, or `RangeError` when the file ends early. */
export function readJpeg(bytes: Buffer): Found {
  let size: readonly [number, number] | undefined;
  let holds: Parameters<typeof traitsOf>[0] = {};
  const exif: Buffer[] = [];
  let xmp: Buffer | undefined;
  for (let at = 2; ; ) {
    if (bytes.readUInt8(at) !== 0xff)
      throw new ImageProblem('The image is damaged: a segment does not begin where it should.');
    const marker = bytes.readUInt8(at + 1);
    // Any number of fill bytes may stand before a marker.
    if (marker === 0xff) {
      at += 1;
      continue;
    }
    if (marker === EOI) break;
    if (marker === SOI || marker === TEM || isRestart(marker)) {
      at += 2;
      continue;
    }
    const length = bytes.readUInt16BE(at + 2);
    const data = bytes.subarray(at + 4, at + 2 + length);
    if (length < 2 || data.length < length - 2) throw new ImageProblem(CUT_OFF);
    if (isFrame(marker)) {
      size = [data.readUInt16BE(3), data.readUInt16BE(1)];
      // Four components are CMYK, or YCCK, which is CMYK in disguise.
      holds = { cmyk: data.readUInt8(5) === 4, deep: data.readUInt8(0) > 8 };
    } else if (marker === APP1 && startsWith(data, 'Exif\0\0')) exif.push(exif.length === 0 ? data : data.subarray(6));
    else if (marker === APP1 && startsWith(data, XMP_HEAD)) xmp = data.subarray(XMP_HEAD.length);
    at += 2 + length;
    if (marker === SOS) at = endOfScan(bytes, at);
  }
  if (size === undefined || size[0] === 0 || size[1] === 0) {
    throw new ImageProblem('The image is damaged: it does not say how large it is.');
  }
  const [width, height] = size;
  const orientation = orientationOf(exif.length > 0 ? Buffer.concat(exif) : undefined, xmp);
  return { width, height, orientation, traits: traitsOf(holds) };
}

/** The next real marker: within compressed data, 0xFF is followed by 0 or by a restart mark. */
function endOfScan(bytes: Buffer, from: number): number {
  for (let at = from; ; at += 2) {
    at = bytes.indexOf(0xff, at);
    const next = at === -1 ? undefined : bytes[at + 1];
    if (next === undefined) throw new ImageProblem(CUT_OFF);
    if (next === 0xff) at -= 1;
    else if (next !== 0 && !isRestart(next)) return at;
  }
}

function isRestart(marker: number): boolean {
  return marker >= 0xd0 && marker <= 0xd7;
}

/** Start of frame, of any coding process: 0xC0 to 0xCF but for the three that are tables. */
function isFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
}

function startsWith(data: Buffer, text: string): boolean {
  return data.toString('latin1', 0, text.length) === text;
}
