// The caption of an image: the first line of the text file beside it, or all of its lines, of which each visit picks one.

import { basename, dirname, extname } from 'node:path';
import type { AbsolutePath } from '../graph/graph.ts';

export type Caption =
  | { readonly ok: true; readonly text: string }
  | { readonly ok: false; readonly problem: string; readonly isEmpty: boolean };

/** Which lines of a caption file count. Of `all`, those that are not empty, stripped and joined by line feeds. */
export type CaptionLines = 'first' | 'all';

/** What an image without a caption has: nothing, for which it is refused; the words of its folder; or the empty text. */
export type CaptionMissing = 'error' | 'folder' | 'empty';

const NOT_TEXT = 'The caption is not UTF-8 text. Save it as UTF-8.';

/** Where the caption of an image lies. The dot of the extension may be left out. */
export function captionPath(image: AbsolutePath, extension: string): AbsolutePath {
  const suffix = extension.startsWith('.') ? extension : `.${extension}`;
  return `${image.slice(0, image.length - extname(image).length)}${suffix}` as AbsolutePath;
}

/**
 * Where else it may lie: tools that crop faces add four numbers to the name of their picture, `fox_0120_0080_0512_0512.png`,
 * and the picture's caption is theirs.
 */
export function captionOfWhole(image: AbsolutePath, extension: string): AbsolutePath | undefined {
  const end = extname(image);
  const stem = image.slice(0, image.length - end.length);
  const whole = stem.replace(/(?<=[^\\/])(?:_\d+){4}$/, '');
  return whole === stem ? undefined : captionPath(`${whole}${end}` as AbsolutePath, extension);
}

/** What the folder of an image is called, without the number that sd-scripts takes for repeats: "fox" for 5_fox. */
export function folderWords(image: AbsolutePath): string {
  return basename(dirname(image))
    .replace(/^\d+(?:_|$)/, '')
    .replaceAll(/\s+/g, ' ')
    .trim();
}

/** The caption in a file's bytes, without the space around its lines. */
export function readCaption(bytes: Uint8Array, counting: CaptionLines): Caption {
  let text: string;
  try {
    // Takes a byte order mark away as well.
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (error) {
    if (!(error instanceof TypeError)) throw error;
    return { ok: false, problem: NOT_TEXT, isEmpty: false };
  }
  // UTF-16 of plain letters is valid UTF-8 as well, with a zero behind each.
  if (text.includes('\0')) return { ok: false, problem: NOT_TEXT, isEmpty: false };
  const lines = text.split(/\r\n|\n|\r/).map((line) => line.trim());
  const written = lines.filter((line) => line !== '');
  if (written.length === 0) return { ok: false, problem: 'The caption is empty.', isEmpty: true };
  if (counting === 'all') return { ok: true, text: written.join('\n') };
  return lines[0] === ''
    ? { ok: false, problem: 'The first line of the caption is empty.', isEmpty: false }
    : { ok: true, text: lines[0] as string };
}
