// From a name to its definition, to everyone who uses it, and to another name for all of them.

import {
  type Location,
  type Range,
  ResponseError,
  type TextEdit,
  type WorkspaceEdit,
} from 'vscode-languageserver/node';
import { type Meaning, meaningAt, type Named, placesOfName } from '../parser/editing/symbols.ts';
import { isName } from '../parser/reading/tokens.ts';
import type { Span } from '../parser/source.ts';
import type { OpenFile } from './open-file.ts';
import { locationOf, rangeOf, uriOf } from './positions.ts';

/** The name under an offset. */
function nameAt({ symbols }: OpenFile, offset: number): (Meaning & { readonly of: Named }) | undefined {
  const meaning = meaningAt(symbols, offset);
  return meaning?.kind === 'use' || meaning?.kind === 'definition' ? meaning : undefined;
}

export function definitionOf(file: OpenFile, offset: number): Location | null {
  const meaning = meaningAt(file.symbols, offset);
  if (meaning?.kind === 'file') return locationOf({ source: meaning.source, start: 0, end: 0 });
  const found = nameAt(file, offset);
  return found === undefined ? null : locationOf(found.of.span);
}

/** `programs`: all that may use what the file defines. */
export function referencesTo(
  file: OpenFile,
  offset: number,
  { programs, withDefinition }: { readonly programs: readonly OpenFile[]; readonly withDefinition: boolean },
): Location[] {
  const found = nameAt(file, offset);
  if (found === undefined) return [];
  const definition = keyOf(found.of.span);
  return placesIn(programs, found.of)
    .filter((span) => withDefinition || keyOf(span) !== definition)
    .map(locationOf);
}

/** Where a name is written in some programs, each place once: several programs may import one file. */
function placesIn(programs: readonly OpenFile[], named: Named): readonly Span[] {
  const places = new Map<string, Span>();
  for (const { symbols } of programs) {
    // Each program has read its files for itself, so that the same thing is another object in each.
    const same = [...symbols.meanings, ...symbols.elsewhere].find(
      (one) => 'of' in one && one.of.kind === named.kind && keyOf(one.of.span) === keyOf(named.span),
    );
    if (same === undefined || !('of' in same)) continue;
    for (const { span } of placesOfName(symbols, same.of)) places.set(keyOf(span), span);
  }
  return [...places.values()];
}

const keyOf = ({ source, start }: Span) => `${start} ${source.path}`;

/** What a rename would change under an offset; `null` where nothing has a name of the program's own. */
export function renamable(file: OpenFile, offset: number): { range: Range; placeholder: string } | null {
  const found = nameAt(file, offset);
  return found === undefined ? null : { range: rangeOf(found.span), placeholder: found.of.name };
}

const REQUEST_FAILED = -32803;

/** Throws with a sentence for the user where the new name is none, or taken. */
export function rename(
  file: OpenFile,
  offset: number,
  { programs, name }: { readonly programs: readonly OpenFile[]; readonly name: string },
): WorkspaceEdit | null {
  const found = nameAt(file, offset);
  if (found === undefined) return null;
  const refuse = (message: string) => new ResponseError(REQUEST_FAILED, message);
  if (!isName(name)) {
    throw refuse('A name is made of letters, digits and "_", and does not begin with a digit.');
  }
  for (const { symbols } of programs) {
    const taken = (found.of.kind === 'block' ? symbols.blocks : symbols.values).get(name);
    if (taken !== undefined && keyOf(taken.span) !== keyOf(found.of.span)) {
      throw refuse(`There is something called "${name}" already.`);
    }
  }
  const changes: { [uri: string]: TextEdit[] } = {};
  for (const span of placesIn(programs, found.of)) {
    const uri = uriOf(span.source);
    changes[uri] = [...(changes[uri] ?? []), { range: rangeOf(span), newText: name }];
  }
  return { changes };
}
