// Where text came from, and how to point at a piece of it.
// Offsets count UTF-16 code units, as JavaScript strings do; lines and columns start at 1.

/** One `.lora` file: its path as the user gave it, and its whole text. */
export interface SourceFile {
  readonly path: string;
  readonly text: string;
}

/** A piece of a source file, from `start` up to but without `end`. */
export interface Span {
  readonly source: SourceFile;
  readonly start: number;
  readonly end: number;
}

/** What stands there. */
export const sourceText = ({ source, start, end }: Span): string => source.text.slice(start, end);

export interface Position {
  readonly line: number;
  readonly column: number;
}

/** The line and column at which a span begins. */
export function positionOf({ source, start }: Span): Position {
  const starts = lineStartsOf(source);
  let [low, high] = [0, starts.length - 1];
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if ((starts[middle] as number) <= start) low = middle;
    else high = middle - 1;
  }
  return { line: low + 1, column: start - (starts[low] as number) + 1 };
}

const known = new WeakMap<SourceFile, readonly number[]>();

/** Where each line begins. Remembered, since one bad file can need thousands of positions. */
function lineStartsOf(source: SourceFile): readonly number[] {
  const remembered = known.get(source);
  if (remembered !== undefined) return remembered;
  const starts = [0];
  for (let at = source.text.indexOf('\n'); at >= 0; at = source.text.indexOf('\n', at + 1)) starts.push(at + 1);
  known.set(source, starts);
  return starts;
}
