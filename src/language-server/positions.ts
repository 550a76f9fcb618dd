// Between spans, which count UTF-16 code units from the start of a text, and the lines and characters of an editor,
// which count the same units from 0. `TextDocument` knows every kind of line break and takes positions that lie outside.

import { pathToFileURL } from 'node:url';
import type { Location, Position, Range } from 'vscode-languageserver/node';
import { TextDocument } from 'vscode-languageserver-textdocument';
import type { SourceFile, Span } from '../parser/source.ts';

const documents = new WeakMap<SourceFile, TextDocument>();
const uris = new WeakMap<SourceFile, string>();

/** The name that the editor itself gave to a text: it may write the same path in another way. */
export function rememberUri(source: SourceFile, uri: string): void {
  uris.set(source, uri);
}

export function rangeOf({ source, start, end }: Span): Range {
  const document = documentOf(source);
  return { start: document.positionAt(start), end: document.positionAt(end) };
}

export function offsetAt(source: SourceFile, position: Position): number {
  return documentOf(source).offsetAt(position);
}

export function locationOf(span: Span): Location {
  return { uri: uriOf(span.source), range: rangeOf(span) };
}

export function uriOf(source: SourceFile): string {
  return uris.get(source) ?? pathToFileURL(source.path).href;
}

function documentOf(source: SourceFile): TextDocument {
  const known = documents.get(source);
  if (known !== undefined) return known;
  const document = TextDocument.create('', 'lora', 0, source.text);
  documents.set(source, document);
  return document;
}
