// What the readers of image formats tell: facts, or one sentence about what is wrong.

/** What a format's reader found. `orientation` is EXIF's, 1 to 8. */
export interface Found {
  readonly width: number;
  readonly height: number;
  readonly orientation: number;
  readonly traits: readonly Trait[];
}

/**
 * What a header says of a picture that does not survive on its way into training. `alpha`: it has a channel or a
 * color for transparency, used or not. `animated`: more than one frame. `deep`: more than 8 bits per channel.
 */
export type Trait = (typeof TRAITS)[number];
export const TRAITS = ['alpha', 'animated', 'cmyk', 'deep'] as const;

/** The traits that hold, in one order. */
export function traitsOf(holds: { readonly [trait in Trait]?: boolean }): readonly Trait[] {
  return TRAITS.filter((trait) => holds[trait] === true);
}

/** Thrown by a format's reader: a sentence about the file, without its name. */
export class ImageProblem extends Error {}

export const CUT_OFF = 'The image is cut off: the file ends before the picture does.';
