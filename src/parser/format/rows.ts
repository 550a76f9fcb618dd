// Rows to lines: in rows that follow each other and have the same form, what belongs together stands in columns.
// A name that is far longer than its neighbours sticks out and moves none of them.

import * as t from '../reading/tokens.ts';
import { isA } from '../reading/tokens.ts';
import { columnsOf } from '../text-columns.ts';
import { flatText } from './flat.ts';
import { type Item, isGroup, type Node } from './tree.ts';

export interface Cell {
  readonly item: Item;
  readonly isAsWritten: boolean;
  readonly lines: readonly string[];
}

/** Items that share a line, or a comment on a line of its own. */
export interface Row {
  readonly cells: readonly Cell[];
  readonly comment: string | undefined;
  /** A blank line stands before it. */
  readonly isApart: boolean;
  /** What stands between two cells. */
  readonly between: string;
}

/** Wider than this, nothing makes room for others: names of attributes, headers of blocks, what has a comment behind it. */
const widestName = 20;
const widestHeader = 32;
const widestBeforeComment = 72;
/** Columns that a line of several cells may have to be put in columns with others. */
const widestTable = 110;

/** Lines with their indentation. */
export function rowLines(rows: readonly Row[], indent: number): string[] {
  const margin = ' '.repeat(indent);
  const texts = new Map<Row, string>();
  for (const run of runsOf(rows, shapeOf)) {
    const aligned = inColumns(run, indent);
    for (const [index, row] of run.entries()) texts.set(row, aligned[index] as string);
  }
  const commentAt = new Map<Row, number>();
  for (const run of runsOf(rows, (row) => (row.comment !== undefined && texts.has(row) ? 'comment' : undefined))) {
    const widths = run
      .map((row) => columnsOf(texts.get(row) as string))
      .filter((width) => width <= widestBeforeComment);
    for (const row of run) commentAt.set(row, Math.max(0, ...widths));
  }
  return rows.flatMap((row) => {
    const blank = row.isApart ? [''] : [];
    const [only] = row.cells;
    if (only === undefined) return [...blank, `${margin}${row.comment}`];
    const [first = '', ...more] = texts.has(row) ? [texts.get(row) as string] : unaligned(row);
    const lines = [`${margin}${first}`, ...more];
    const last = lines.pop() as string;
    const behind = row.comment === undefined ? '' : `  ${row.comment}`;
    const room = row.comment === undefined ? last : padded(last, indent + (commentAt.get(row) ?? 0));
    return [...blank, ...lines, `${room}${behind}`];
  });
}

/** What shares a line takes one line each. */
function unaligned({ cells, between }: Row): readonly string[] {
  const [only, ...others] = cells;
  if (only === undefined || others.length === 0) return only?.lines ?? [];
  return [cells.map(({ lines }) => lines[0]).join(between)];
}

/** Rows that follow each other directly and are of one shape. */
function runsOf(rows: readonly Row[], shape: (row: Row) => string | undefined): Row[][] {
  const runs: Row[][] = [];
  let before: string | undefined;
  for (const row of rows) {
    const now = row.cells.length === 0 ? undefined : shape(row);
    if (now !== undefined && now === before && !row.isApart) runs.at(-1)?.push(row);
    else if (now !== undefined) runs.push([row]);
    before = now;
  }
  return runs;
}

/** `undefined` for what takes several lines, and for what stays as it is. */
function shapeOf({ cells }: Row): string | undefined {
  if (cells.some(({ isAsWritten, lines }) => lines.length > 1 || isAsWritten)) return undefined;
  const [only] = cells;
  if (cells.length > 1 || only === undefined) return `${cells.length} cells`;
  const { kind, nodes } = only.item;
  const name = nodes[1];
  const isQuoted = kind === 'block' && name !== undefined && !isGroup(name) && !isA(name, t.Word);
  return isQuoted ? 'block with a path' : kind;
}

function inColumns(run: readonly Row[], indent: number): string[] {
  const rows = run.map(partsOf);
  const isTable = run[0]?.cells.length !== 1;
  const between = isTable ? (run[0]?.between ?? '  ') : ' ';
  const most = Math.max(...rows.map((parts) => parts.length));
  const widths = Array.from({ length: most }, (_, column) => {
    const parts = rows.flatMap((row) => row[column] ?? []);
    return Math.max(0, ...parts.map(({ text, widest }) => (columnsOf(text) <= widest ? columnsOf(text) : 0)));
  });
  const aligned = rows.map((parts) => joined(parts, widths, between));
  const isTooWide = isTable && aligned.some((line) => indent + columnsOf(line) > widestTable);
  return isTooWide ? rows.map((parts) => joined(parts, [], between)) : aligned;
}

interface Part {
  readonly text: string;
  /** Wider than this, it sticks out. */
  readonly widest: number;
}

const anyWidth = Number.POSITIVE_INFINITY;

/** What is put in columns: cells, or the words of a header and what follows them. */
function partsOf({ cells }: Row): Part[] {
  const [only] = cells;
  if (cells.length > 1 || only === undefined)
    return cells.map(({ lines }) => ({ text: lines[0] ?? '', widest: anyWidth }));
  const { item, lines } = only;
  const [first, ...others] = item.nodes;
  const header = others.slice(0, others.findIndex(isGroup));
  switch (item.kind) {
    case 'attribute':
      return split(lines[0] ?? '', [{ nodes: [first], widest: widestName }]);
    case 'definition':
      return split(lines[0] ?? '', [
        { nodes: [first], widest: anyWidth },
        { nodes: others.slice(0, 1), widest: widestName },
      ]);
    case 'block':
      return split(lines[0] ?? '', [
        { nodes: [first], widest: anyWidth },
        { nodes: header, widest: widestHeader },
      ]);
    default:
      return [{ text: lines[0] ?? '', widest: anyWidth }];
  }
}

/** Words of the item as parts, and the rest of its line as the last one. */
function split(
  line: string,
  heads: readonly { readonly nodes: readonly (Node | undefined)[]; readonly widest: number }[],
): Part[] {
  const parts = heads.map(({ nodes, widest }) => ({
    text: flatText(
      '',
      nodes.filter((node) => node !== undefined),
    ),
    widest,
  }));
  const rest = line.slice(parts.reduce((length, { text }) => length + text.length + 1, 0));
  return rest === '' ? parts : [...parts, { text: rest, widest: anyWidth }];
}

function joined(parts: readonly Part[], widths: readonly number[], between: string): string {
  return parts
    .map(({ text }, column) => (column === parts.length - 1 ? text : padded(text, widths[column] ?? 0)))
    .join(between);
}

const padded = (text: string, width: number) => text + ' '.repeat(Math.max(0, width - columnsOf(text)));
