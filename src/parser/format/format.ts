// The one style of a .lora file, from text to text. Blanks are the formatter's: two for a level, one around "=" and
// operators, two between what shares a line, columns where lines that follow each other have the same form. Line breaks
// are the writer's: what stands on one line stays there while it fits, and of several blank lines one is left.
// Four promises, which the tests hold it to:
//  - the program reads as before, word for word, and every comment stays where it is;
//  - formatting twice gives what formatting once gives;
//  - what cannot be read stays as it is, byte for byte, and the rest is formatted around it;
//  - a byte order mark stays, and so does the kind of line ends that most lines have.

import { positionOf } from '../source.ts';
import { layoutProgram } from './layout.ts';
import { readTree } from './tree.ts';

export interface Formatted {
  readonly text: string;
  /** The lines, from 1, where something begins that could not be read, and stays as it was. */
  readonly unreadLines: readonly number[];
}

const byteOrderMark = '\ufeff';

export function format(text: string): Formatted {
  const mark = text.startsWith(byteOrderMark) ? byteOrderMark : '';
  // Inside of quotes there are no line ends, so these are never what a program says.
  const plain = text.slice(mark.length).replaceAll(/\r\n?/g, '\n');
  const { entries, unread } = readTree(plain);
  const body = layoutProgram(plain, entries)
    .map((line) => `${line}\n`)
    .join('');
  return {
    text: mark + (endsLinesWithReturn(text) ? body.replaceAll('\n', '\r\n') : body),
    unreadLines: [...new Set(unread.map((span) => positionOf(span).line))].toSorted((a, b) => a - b),
  };
}

/** As Windows does. */
function endsLinesWithReturn(text: string): boolean {
  const all = text.match(/\n/g)?.length ?? 0;
  return (text.match(/\r\n/g)?.length ?? 0) * 2 > all;
}
