// Everything that a linter can find in a dataset, and what to do about each.

import type { AbsolutePath } from '../../graph/graph.ts';

/** `error`: a build would refuse it. `warning`: it is likely not what is wanted. `note`: good to know. */
export type Severity = 'error' | 'warning' | 'note';

export interface Finding {
  readonly code: FindingCode;
  readonly severity: Severity;
  /** The files that it is about; empty where it is about the dataset as a whole. */
  readonly files: readonly AbsolutePath[];
  readonly message: string;
}

interface Kind {
  readonly severity: Severity;
  /** What to do. */
  readonly advice: string;
}

export const findingKinds = {
  'no-images': { severity: 'error', advice: 'Check the path. Relative paths start at the folder of the program.' },
  unreadable: { severity: 'error', advice: 'Save it anew with an image program, or take it out of the folder.' },
  'no-caption': {
    severity: 'error',
    advice: 'Write its caption, take the image out of the folder, or say with "caption_missing" what it has.',
  },
  'bad-caption': { severity: 'error', advice: 'Write the caption on the first line, as UTF-8.' },
  tiny: { severity: 'error', advice: 'Find a larger original, or write upscale = true in bucket = { … }.' },
  'no-mask': { severity: 'error', advice: 'Paint its mask, or let such images count as a whole: mask_missing = whole' },
  'bad-mask': { severity: 'error', advice: 'Save it anew in the shape of its image, or take it out of the folder.' },
  'black-mask': { severity: 'warning', advice: 'Paint white what is to be learned, or take the image away too.' },
  small: {
    severity: 'warning',
    advice: 'Find a larger original, or train at a lower resolution: blur is learned too.',
  },
  duplicate: { severity: 'warning', advice: 'Keep one of them: each is learned as often as it is there.' },
  'near-duplicate': { severity: 'warning', advice: 'Keep the best one, unless the difference is to be learned.' },
  plain: { severity: 'warning', advice: 'Take it out of the folder: there is nothing to learn in it.' },
  transparent: {
    severity: 'warning',
    advice: 'Put it on a background that you mean, or say with "transparency" what shows: white, by default.',
  },
  'as-stored': { severity: 'warning', advice: 'Write exif = apply, or turn the picture with an image program.' },
  animated: { severity: 'warning', advice: 'Save the frame that you mean as a picture: only the first one is used.' },
  cmyk: { severity: 'warning', advice: 'Convert it to sRGB with an image program: colors shift without its profile.' },
  crop: { severity: 'warning', advice: 'Crop it yourself to what matters, or allow other shapes with "bucket".' },
  'few-visits': { severity: 'warning', advice: 'Give the training more steps, or larger ones.' },
  'prompts-apart': {
    severity: 'warning',
    advice: 'Write it into prompts of the file: the pictures on the way then show what is learned.',
  },
  'rare-tag': { severity: 'note', advice: 'Check its spelling. What is said once is hardly learned as a word.' },
  turned: {
    severity: 'note',
    advice: 'Nothing: it is trained upright. Programs that ignore EXIF show it on its side.',
  },
  deep: { severity: 'note', advice: 'Nothing: the upper 8 bits of each channel are used.' },
  'short-bucket': { severity: 'note', advice: 'Nothing but speed: a larger bucket step makes fewer, fuller buckets.' },
} as const satisfies { readonly [code: string]: Kind };

export type FindingCode = keyof typeof findingKinds;

/** In the order in which they are told. */
export const findingCodes = Object.keys(findingKinds) as readonly FindingCode[];

export function finding(code: FindingCode, files: readonly AbsolutePath[], message: string): Finding {
  return { code, severity: findingKinds[code].severity, files, message };
}
