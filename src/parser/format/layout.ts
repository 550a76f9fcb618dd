// Where lines end, and what stands on them. Brackets that open and close on one line stay there while they fit; all
// others have what is in them on lines of their own, two columns further in.

import * as t from '../reading/tokens.ts';
import { endOf, isA, lex } from '../reading/tokens.ts';
import { blankBefore, flatText } from './flat.ts';
import { type Cell, type Row, rowLines } from './rows.ts';
import { type Entry, type Group, type Item, isGroup, isOnOneLine, type Node } from './tree.ts';

/** Columns that a line may have, where it can be broken. */
const widest = 110;
const step = 2;

/** The lines of a whole program. */
export function layoutProgram(text: string, entries: readonly Entry[]): string[] {
  const { rows } = rowsOf(text, entries, { from: 0, indent: 0, separator: '', between: '', sharing: 'never' });
  return rowLines(rows, 0);
}

interface Layout {
  /** Where the text of the first entry may begin: behind the bracket. */
  readonly from: number;
  readonly indent: number;
  /** What stands behind each item but the last, and what between two that share a line. */
  readonly separator: string;
  readonly between: string;
  /** Which items share a line: none, or those that shared one in the text, as many as fit. */
  readonly sharing: 'never' | 'as written';
}

function rowsOf(
  text: string,
  entries: readonly Entry[],
  layout: Layout,
): { readonly rows: readonly Row[]; readonly openerComment: string | undefined } {
  const rows: Row[] = [];
  const last = entries.findLast((entry) => entry.kind !== 'comment');
  let openerComment: string | undefined;
  let from = layout.from;
  entries.forEach((entry, index) => {
    const lineEnds = text.slice(from, entry.start).split('\n').length - 1;
    const row = rows.at(-1);
    const isApart = lineEnds > 1 && index > 0;
    const { between } = layout;
    from = entry.end;
    if (entry.kind === 'comment') {
      if (lineEnds > 0 || (index === 0 && layout.indent === 0))
        rows.push({ cells: [], comment: entry.text, isApart, between });
      else if (row === undefined) openerComment = entry.text;
      else rows.splice(-1, 1, { ...row, comment: entry.text });
      return;
    }
    const cell = cellOf(text, entry, layout.indent, entry === last ? '' : layout.separator);
    const isBeside = row !== undefined && lineEnds === 0 && layout.sharing === 'as written';
    const cells = isBeside ? [...row.cells, cell] : [cell];
    if (isBeside && fits(cells, layout)) rows.splice(-1, 1, { ...row, cells });
    else rows.push({ cells: [cell], comment: undefined, isApart, between });
  });
  return { rows, openerComment };
}

function fits(cells: readonly Cell[], { indent, between }: Layout): boolean {
  if (cells.some(({ lines }) => lines.length > 1)) return false;
  const width = cells.reduce((sum, { lines }) => sum + (lines[0] as string).length + between.length, -between.length);
  return indent + width <= widest;
}

function cellOf(text: string, item: Item, indent: number, separator: string): Cell {
  const written = text.slice(item.start, item.end).split('\n');
  const lines = item.staysAsIs ? written : itemLines(text, item.nodes, indent);
  const isStatement = item.kind === 'block' || item.kind === 'definition' || item.kind === 'import';
  // Where a quote was forgotten, what it swallows depends on the blanks around it and on where the line ends.
  const isSafe = !isStatement || readsAlike(written.join('\n'), lines.join('\n'));
  const safe = isSafe ? lines : written;
  return { item, isAsWritten: item.staysAsIs || !isSafe, lines: safe.with(-1, `${safe.at(-1)}${separator}`) };
}

/** The first line without its indentation, the others with theirs. */
function itemLines(text: string, nodes: readonly Node[], indent: number): string[] {
  const flat = flatText(text, nodes);
  const written = nodes.filter((node) => isGroup(node) && isOverLines(text, node));
  const tooWide = indent + flat.length > widest ? nodes.filter((node) => isGroup(node) && canBreak(node)) : [];
  const broken = new Set(written.length > 0 ? written : tooWide);
  if (broken.size === 0) return [flat];
  const lines = [''];
  nodes.forEach((node, index) => {
    const blank = blankBefore(nodes, index);
    const [first = '', ...more] =
      isGroup(node) && broken.has(node) ? groupLines(text, node, indent) : [flatText(text, [node])];
    lines.push(`${lines.pop()}${blank}${first}`, ...more);
  });
  return lines;
}

function groupLines(text: string, group: Group, indent: number): string[] {
  const isRecord = group.kind === 'record';
  const { rows, openerComment } = rowsOf(text, group.entries, {
    from: endOf(group.open),
    indent: indent + step,
    separator: isRecord ? '' : ',',
    between: isRecord ? '  ' : ' ',
    // A record that is too wide for its line has a line for each attribute; a list is filled up.
    sharing: isRecord && !isOverLines(text, group) ? 'never' : 'as written',
  });
  const opener = openerComment === undefined ? group.open.image : `${group.open.image}  ${openerComment}`;
  return [opener, ...rowLines(rows, indent + step), `${' '.repeat(indent)}${group.close.image}`];
}

const canBreak = (group: Group) => !isOnOneLine(group) && group.entries.length > 0;

const isOverLines = (text: string, group: Group) =>
  canBreak(group) && text.slice(endOf(group.open), group.close.startOffset).includes('\n');

/** Whether two texts have the same words and comments in them; commas between attributes say nothing. */
function readsAlike(before: string, after: string): boolean {
  const [one, other] = [before, after].map((text) => {
    const { tokens, comments } = lex(text);
    const words = tokens.filter((token) => !isA(token, t.Comma)).map(({ image }) => image);
    return [...words, ...comments.map(({ image }) => image.trimEnd())];
  });
  return one?.join('\n') === other?.join('\n');
}
