// Problems with the files that a program imports, sorted by code.

import type { Span } from '../source.ts';
import { enumerate } from './describe.ts';
import { type Diagnostic, error, type Related, replace } from './diagnostic.ts';

export function importAs(span: Span): Diagnostic {
  return error('import-as', span, {
    message: 'Between the file of an import and its name stands "as".',
    hint: 'Write as',
    fix: replace(span, 'as'),
  });
}

/** Each step is a file, and the place where it imports the next. */
export function importCircle(steps: readonly { readonly file: string; readonly span: Span }[]): Diagnostic {
  const last = steps.at(-1);
  const first = steps[0];
  if (last === undefined || first === undefined) throw new Error('Internal error: a circle without steps');
  const names = [...steps.map(({ file }) => file), first.file].map((file) => `"${file}"`).join(' → ');
  return error('import-circle', last.span, {
    message: `These files import each other: ${names}.`,
    related: steps.slice(0, -1).map(({ file, span }) => ({ message: `"${file}" imports the next here`, span })),
    hint: 'Move what several of them need into a file of its own, which imports none of them.',
  });
}

/** Two names that an import brings and that are taken; the places are those of both. */
export interface Clash {
  readonly name: string;
  readonly taken: Span;
  readonly brought: Span;
}

/** Longer lists than this help nobody. */
const shownClashes = 3;

export function importClash(span: Span, alias: string, clashes: readonly Clash[]): Diagnostic {
  const [first, ...others] = clashes;
  if (first === undefined) throw new Error('Internal error: no clash');
  const names = clashes.slice(0, 2 * shownClashes).map(({ name }) => `"${name}"`);
  const more = clashes.length > names.length ? [`${clashes.length - names.length} more`] : [];
  const related = [first, ...others].slice(0, shownClashes).flatMap(({ name, taken, brought }): Related[] => [
    { message: `"${name}" is defined here`, span: taken },
    { message: `"${name}" comes from here`, span: brought },
  ]);
  return error('import-clash', span, {
    message:
      others.length === 0
        ? `This import brings the name "${first.name}", which is taken.`
        : `This import brings names that are taken: ${enumerate([...names, ...more])}.`,
    related,
    hint: `Give the file a name, which then stands before its own: as ${alias}, and ${alias}.${first.name}`,
  });
}

export function importFailed(
  span: Span,
  { message, hint }: { readonly message: string; readonly hint?: string | undefined },
): Diagnostic {
  return error('import-failed', span, { message, hint });
}

export function importedExpression(span: Span): Diagnostic {
  return error('imported-expression', span, {
    message: 'The file of an import is written out: it is read before any name has a value.',
    hint: `Write the path without "\${…}".`,
  });
}

export function importedTwice(span: Span, first: Span): Diagnostic {
  return error('imported-twice', span, {
    message: 'This file is imported twice.',
    related: [{ message: 'First imported here', span: first }],
    hint: 'Keep one of them.',
  });
}

export function importsItself(span: Span): Diagnostic {
  return error('imports-itself', span, {
    message: 'This file imports itself.',
    hint: 'Its own names are known without that.',
  });
}

export function tooManyFiles(span: Span, most: number): Diagnostic {
  return error('too-many-files', span, { message: `A program can import ${most} files, and this is one more.` });
}

export function tooMuchImported(span: Span, most: number): Diagnostic {
  return error('too-many-files', span, {
    message: `All files that a program imports can have ${most} characters together, and with this one they have more.`,
  });
}
