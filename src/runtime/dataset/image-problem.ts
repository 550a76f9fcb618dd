// What the readers of image formats tell: facts, or one sentence about what is wrong.

/** What a format's reader found. `orientation` is EXIF's, 1 to 8. */
export interface Found {
  readonly width: number;
  readonly height: number;
  readonly orientation: number;
}

/** Thrown by a format's reader: a sentence about the file, without its name. */
export class ImageProblem extends Error {}

export const CUT_OFF = 'The image is cut off: the file ends before the picture does.';
