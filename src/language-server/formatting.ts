// A program in the one style, as an edit of the lines that change: the cursor stays where it is everywhere else.

import type { TextEdit } from 'vscode-languageserver/node';
import { format } from '../parser/format/format.ts';
import type { OpenFile } from './open-file.ts';
import { rangeOf } from './positions.ts';

export function formattingOf({ source, isTooLarge }: OpenFile): TextEdit[] {
  if (isTooLarge) return [];
  const { text } = format(source.text);
  if (text === source.text) return [];
  const [before, after] = [linesOf(source.text), linesOf(text)];
  const most = Math.min(before.length, after.length);
  let head = 0;
  while (head < most && before[head] === after[head]) head += 1;
  let tail = 0;
  while (tail < most - head && before.at(-1 - tail) === after.at(-1 - tail)) tail += 1;
  const start = lengthOf(before.slice(0, head));
  const end = source.text.length - lengthOf(before.slice(before.length - tail));
  return [{ range: rangeOf({ source, start, end }), newText: after.slice(head, after.length - tail).join('') }];
}

/** With their ends. */
const linesOf = (text: string): readonly string[] => text.split(/(?<=\n)/);

const lengthOf = (lines: readonly string[]) => lines.reduce((sum, line) => sum + line.length, 0);
