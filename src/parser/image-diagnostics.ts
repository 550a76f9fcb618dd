// Problems with what becomes of images on their way into training, sorted by code.

import { type Diagnostic, error, replace } from './diagnostic.ts';
import type { Span } from './source.ts';

export function oddColor(span: Span, text: string): Diagnostic {
  const word = ['ignore', 'none'].includes(text.trim().toLowerCase()) ? 'ignore' : undefined;
  return error('odd-color', span, {
    message: `"${text}" is no color.`,
    hint: word ? `Write ${word}, without quotes` : 'Write it as "#ff8800": red, green and blue in hexadecimal digits.',
    fix: word && replace(span, word),
  });
}
