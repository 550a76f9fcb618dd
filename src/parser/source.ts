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

export interface Position {
  readonly line: number;
  readonly column: number;
}

/** The line and column at which a span begins. */
export function positionOf(span: Span): Position {
  const before = span.source.text.slice(0, span.start);
  const line = before.split('\n').length;
  return { line, column: span.start - (before.lastIndexOf('\n') + 1) + 1 };
}
