// Text from elsewhere (logs, names, captions) made fit to be shown.

import { stripVTControlCharacters } from 'node:util';

/** Text that cannot steer a terminal, nor reorder what is around it: such characters are taken out, tabs become spaces. */
export function stripControls(text: string): string {
  return stripVTControlCharacters(text)
    .replaceAll('\t', '  ')
    .replace(/[\p{Cc}\p{Bidi_Control}]/gu, '');
}
