// Problems with what becomes of images on their way into training, sorted by code.

import type { Span } from '../source.ts';
import { type Diagnostic, error, replace, warning } from './diagnostic.ts';

export function idleMaskedLoss(span: Span, datasets: readonly string[]): Diagnostic {
  const names = datasets.map((name) => `"${name}"`).join(' and ');
  return warning('idle-masked-loss', span, {
    message: `"masked_loss" says how masks count, and ${names} ${datasets.length === 1 ? 'has' : 'have'} none.`,
    hint: 'Write masks = "folder" or alpha_mask = true in a dataset, or leave "masked_loss" out.',
  });
}

export function idleMaskMissing(span: Span): Diagnostic {
  return warning('idle-mask-missing', span, {
    message: '"mask_missing" is about images without a mask, and the dataset has no folder of masks.',
    hint: 'Name it: masks = "folder", or leave "mask_missing" out.',
  });
}

export function oddColor(span: Span, text: string): Diagnostic {
  const word = ['ignore', 'none'].includes(text.trim().toLowerCase()) ? 'ignore' : undefined;
  return error('odd-color', span, {
    message: `"${text}" is no color.`,
    hint: word ? `Write ${word}, without quotes` : 'Write it as "#ff8800": red, green and blue in hexadecimal digits.',
    fix: word && replace(span, word),
  });
}

export function twoMasks(span: Span, folder: Span): Diagnostic {
  return error('two-masks', span, {
    message: 'The mask of an image is its alpha or a picture in a folder, and not both.',
    related: [{ message: 'The folder is named here', span: folder }],
    hint: 'Keep one of "alpha_mask" and "masks".',
  });
}
