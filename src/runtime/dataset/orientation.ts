// How a picture has to be turned to stand upright: EXIF's orientation, or XMP's where EXIF is silent.
// The worker turns pictures with Pillow's `exif_transpose`; this reads the same places in the same order.

/** Orientation from whatever metadata a file carries; 1, upright, when there is none. */
export function orientationOf(exif: Buffer | undefined, xmp: Buffer | undefined): number {
  const tagged = exif === undefined ? undefined : orientationTag(exif);
  const found = tagged ?? (xmp === undefined ? undefined : xmpOrientation(xmp));
  return found !== undefined && found >= 1 && found <= 8 ? found : 1;
}

const ORIENTATION = 0x0112;
const SHORT = 3;

/** The tag's value in the first image directory of a TIFF structure. Damaged metadata does not spoil a picture. */
function orientationTag(exif: Buffer): number | undefined {
  const tiff = exif.toString('latin1', 0, 6) === 'Exif\0\0' ? exif.subarray(6) : exif;
  const order = tiff.toString('latin1', 0, 2);
  if (order !== 'II' && order !== 'MM') return undefined;
  const short = (at: number) => (order === 'II' ? tiff.readUInt16LE(at) : tiff.readUInt16BE(at));
  const long = (at: number) => (order === 'II' ? tiff.readUInt32LE(at) : tiff.readUInt32BE(at));
  try {
    const directory = long(4);
    for (let index = 0; index < short(directory); index += 1) {
      const field = directory + 2 + 12 * index;
      if (short(field) === ORIENTATION) return short(field + 2) === SHORT ? short(field + 8) : long(field + 8);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error;
  }
  return undefined;
}

function xmpOrientation(xmp: Buffer): number | undefined {
  const match = /tiff:Orientation(?:="|>)([0-9])/.exec(xmp.toString('latin1'));
  return match ? Number(match[1]) : undefined;
}
